"""The server from start to stop: alone with its state, until a signal or the first error ends it."""

import asyncio
import errno
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bootsvc.app import Application
from bootsvc.config import Config
from bootsvc.errors import AlreadyServing, BadState, access_hint
from bootsvc.net.links import find_link
from bootsvc.net.udp import Budget
from bootsvc.process import privileges
from bootsvc.process.holders import Holder
from bootsvc.process.ports import find_clashes
from bootsvc.state import State
from images.errors import Error
from images.locks import Locked, exclusive


async def serve(config: Config, *, holders: Sequence[Holder] = ()) -> None:
    """Run every service until SIGTERM or SIGINT. Raises Error when one cannot start: nothing is left half running.

    `holders` are the programs that had our ports before.
    """
    for clash in find_clashes(config):
        raise clash
    # Whatever runs in a thread needs nothing for the opening of ports.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(initializer=privileges.limit_thread))
    with _alone(config.paths.state):
        link = await find_link(config.ipaddr, config.network)
        state = await asyncio.to_thread(State.open, config.paths.state)
        failure: Error | None = None
        application: Application | None = None
        try:
            application = Application(config, link, state, holders=holders)
            stop, reload = asyncio.Event(), asyncio.Event()
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(_sparing_handler(Budget(rate=0.1, burst=20)))
            loop.add_signal_handler(signal.SIGHUP, reload.set)
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, stop.set)
            await application.run(stop, reload)
        except* Error as group:
            # What is raised here would come out as a group again.
            failure = _first(group)
        finally:
            await asyncio.to_thread(state.close)
        if failure is not None:
            raise application.explain(failure) if application is not None else failure


@contextmanager
def _alone(state: Path) -> Iterator[None]:
    """Be the only server that works with this state. Raises AlreadyServing."""
    try:
        state.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(state.parent, os.W_OK):
            read_only = os.statvfs(state.parent).f_flag & os.ST_RDONLY
            number = errno.EROFS if read_only else errno.EACCES
            raise OSError(number, os.strerror(number), str(state.parent))
    except OSError as exc:
        raise BadState(state, exc.strerror or str(exc), hint=access_hint(exc)) from exc
    try:
        with exclusive(state.with_name("server.lock"), holder="wwctl server"):
            yield
    except Locked as exc:
        raise AlreadyServing(exc.pid) from exc


def _sparing_handler(budget: Budget) -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    """Log what nobody caught, but not each of what some stranger makes happen again and again."""

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if budget.take(loop.time()):
            loop.default_exception_handler(context)

    return handle


def _first(group: BaseExceptionGroup[Error]) -> Error:
    """The first of the errors that stopped the server; the others are mostly its consequence."""
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
