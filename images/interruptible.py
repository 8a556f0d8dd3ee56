"""Blocking work in a thread that ends when the task that waits for it is cancelled."""

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
Stopped = Callable[[], bool]


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
