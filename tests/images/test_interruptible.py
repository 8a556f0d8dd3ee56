"""A cancelled task waits for its thread to end."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from images.interruptible import run_interruptible


async def test_result_and_exception() -> None:
    assert await run_interruptible(lambda stopped: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await run_interruptible(lambda stopped: 1 // 0)


async def test_cancellation_stops_the_thread_and_waits_for_it() -> None:
    loop = asyncio.get_running_loop()
    begun = asyncio.Event()
    pause = threading.Event()
    steps: list[str] = []

    def work(stopped: Callable[[], bool]) -> None:
        loop.call_soon_threadsafe(begun.set)
        for _ in range(2000):
            if stopped():
                break
            pause.wait(0.01)
        steps.append("stopped" if stopped() else "never told")
        raise RuntimeError("nobody wants to know")

    async with asyncio.TaskGroup() as group:
        task = group.create_task(run_interruptible(work))
        await asyncio.wait_for(begun.wait(), 20)
        task.cancel()
    assert task.cancelled()
    assert steps == ["stopped"]
