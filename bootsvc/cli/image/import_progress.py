"""What a person sees while an image comes in: lines on standard output, bars on a terminal's standard error."""

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bootsvc.cli.image.progress import progress_bars
from bootsvc.cli.terminal import say
from images import progress as events
from images.copying import copy_size
from images.decompress import Interrupted
from images.progress import Event

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


@contextlib.contextmanager
def import_progress() -> Iterator[Callable[[Event], None]]:
    """Reports an import in the words of the container tools."""
    with progress_bars() as bars:
        report = _ImportReport(bars)
        try:
            yield report.report
        finally:
            report.close()


class _TreeSize:
    """The bytes of a tree, counted while it is being copied: nobody waits for a bar to know its end."""

    def __init__(self, path: Path) -> None:
        self.known: int | None = None
        self._path = path
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._count)
        self._thread.start()

    def _count(self) -> None:
        with contextlib.suppress(OSError, Interrupted):
            self.known = copy_size(self._path, stopped=self._stop.is_set)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


class _ImportReport:
    def __init__(self, bars: "Progress | None") -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._tree: _TreeSize | None = None

    def close(self) -> None:
        if self._tree is not None:
            self._tree.close()

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
            case events.TreeAdvanced(path=path, done=done):
                if self._bars is not None and self._tree is None:
                    self._tree = _TreeSize(path)
                size = self._tree.known if self._tree is not None else None
                # Files may grow meanwhile, and a file system that compresses has fewer blocks than they have bytes.
                self._advance(str(path), size, done if size is None else min(done, size), text="copying")
            case events.XattrSkipped(name=name, path=path):
                print(f"wwctl: warning: the file system does not keep {name} (first seen on {path})", file=sys.stderr)

    def _advance(self, key: str, size: int | None, done: int, *, text: str) -> None:
        if self._bars is None:
            return
        if key not in self._tasks:
            self._tasks[key] = self._bars.add_task(text, total=size)
        self._bars.update(self._tasks[key], completed=done, total=size)

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
            say(text)
        else:
            self._bars.console.print(text, soft_wrap=True, markup=False, highlight=False, emoji=False)


def _short(digest: str, length: int) -> str:
    return digest.partition(":")[2][:length]
