"""Blocking work in a thread that ends when the task that waits for it is cancelled, and that may tell how far it is."""

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
Stopped = Callable[[], bool]
_REPORTS = 200
"""So often at most is the progress of one job told."""


async def run_interruptible(work: Callable[[Stopped], T]) -> T:
    """Run `work` in a thread; on cancellation its `stopped` turns true, and the thread is waited for.

    A thread cannot be killed, and one that goes on would write into a tree that is being removed.
    """
    flag = threading.Event()
    future = asyncio.get_running_loop().run_in_executor(None, work, flag.is_set)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        flag.set()
        await asyncio.wait([future])
        if not future.cancelled():
            # Whatever it ended with is nobody's concern now.
            future.exception()
        raise


def in_loop(report: Callable[[int], None], size: int | None) -> Callable[[int], None]:
    """`report`, to be called from a thread but run in the event loop; calls that tell little new are dropped."""
    loop = asyncio.get_running_loop()
    step = max((size or 0) // _REPORTS, 1 << 20)
    told = 0

    def call(done: int) -> None:
        nonlocal told
        if done - told >= step or (done == size and done != told):
            told = done
            loop.call_soon_threadsafe(report, done)

    return call
