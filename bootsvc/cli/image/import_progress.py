"""What a person sees while an image comes in: lines on standard output, bars on a terminal's standard error."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from bootsvc.cli.image.progress import progress_bars
from images import progress as events
from images.progress import Event

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


@contextlib.contextmanager
def import_progress() -> Iterator[Callable[[Event], None]]:
    """Reports an import in the words of the container tools."""
    with progress_bars() as bars:
        yield _ImportReport(bars).report


class _ImportReport:
    def __init__(self, bars: "Progress | None") -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def report(self, event: Event) -> None:
        match event:
            case events.Started():
                self._say("Getting image source signatures")
            case events.BlobAdvanced(digest=digest, size=size, done=done):
                self._advance(digest, size, done, text=f"blob {_short(digest, 12)}")
            case events.BlobCopied(digest=digest, cached=cached):
                self._line(digest, f"Copying blob {_short(digest, 12)} {'skipped: already exists' if cached else 'done'}  ")
            case events.ConfigCopied(digest=digest):
                self._line(digest, f"Copying config {_short(digest, 10)} done  ")
            case events.ManifestWritten():
                self._say("Writing manifest to image destination\nStoring signatures")
            case events.LayerUnpacking(digest=digest):
                self._clear()
                self._say(f"[LOG]       info unpack layer: {digest}")
            case events.LayerAdvanced(digest=digest, size=size, done=done):
                self._advance(digest, size, done, text=f"layer {_short(digest, 12)}")
            case events.ArchiveUnpacking(path=path):
                self._clear()
                self._say(f"Unpacking {path}")
            case events.ArchiveAdvanced(name=name, size=size, done=done):
                self._advance(name, size, done, text=name)
            case events.Waiting(host=host, seconds=seconds):
                print(f"wwctl: registry {host} has had too many requests; waiting {seconds:.0f} s", file=sys.stderr, flush=True)
            case events.TreeCopying(path=path):
                self._say(f"Copying {path}")
            case events.XattrSkipped(name=name, path=path):
                print(f"wwctl: warning: the file system does not keep {name} (first seen on {path})", file=sys.stderr)

    def _advance(self, key: str, size: int | None, done: int, *, text: str) -> None:
        if self._bars is None:
            return
        if key not in self._tasks:
            self._tasks[key] = self._bars.add_task(text, total=size)
        self._bars.update(self._tasks[key], completed=done)

    def _clear(self) -> None:
        """Take the bars of what is over away."""
        for key in list(self._tasks):
            if self._bars is not None:
                self._bars.remove_task(self._tasks.pop(key))

    def _line(self, digest: str, text: str) -> None:
        if self._bars is not None and digest in self._tasks:
            self._bars.remove_task(self._tasks.pop(digest))
        self._say(text)

    def _say(self, text: str) -> None:
        """A line on standard output, above the bars where these are on the same terminal; only the terminal breaks it."""
        if self._bars is None or not sys.stdout.isatty():
            print(text, flush=True)
        else:
            self._bars.console.print(text, soft_wrap=True, markup=False, highlight=False, emoji=False)


def _short(digest: str, length: int) -> str:
    return digest.partition(":")[2][:length]
