"""What a person sees while an image is built or exported: a bar on a terminal's standard error."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

WORTH_A_BAR = 64 << 20
"""Bytes from which on a job is watched; rich, which draws the bar, takes longer to load than some segments."""


@contextlib.contextmanager
def job_progress(text: str) -> Iterator[Callable[[int, int], None]]:
    """Reports one job, by what it does: bytes that are done, of how many; a small one is over before a bar is drawn."""
    with contextlib.ExitStack() as opened:
        advance: Callable[[int], None] | None = None

        def report(done: int, total: int) -> None:
            nonlocal advance
            if total < WORTH_A_BAR:
                return
            if advance is None:
                advance = _counting(opened.enter_context(progress_bars()), text, total)
            advance(done)

        yield report


def _counting(bars: "Progress | None", text: str, total: int) -> Callable[[int], None]:
    if bars is None:
        return lambda done: None
    task = bars.add_task(text, total=total)
    return lambda done: bars.update(task, completed=done)


@contextlib.contextmanager
def progress_bars() -> Iterator["Progress | None"]:
    """Bars that vanish when they are done; none where nobody looks."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    # Redirected, standard output would go to the console of the bars: to standard error, and broken at its width.
    console = Console(stderr=not sys.stdout.isatty())
    with Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as bars:
        yield bars
