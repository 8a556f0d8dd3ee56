"""A tree copied in a thread that ends when the task is cancelled, and reported while it is under way."""

from pathlib import Path

from images.copying import copy_tree
from images.interruptible import in_loop, run_interruptible
from images.progress import Progress, TreeAdvanced, TreeCopying, XattrSkipped


async def copy_in_background(source: Path, target: Path, progress: Progress) -> None:
    """As `copy_tree`; all that there is to say goes to `progress`. Raises CopyFailed."""
    progress(TreeCopying(path=source))
    copied = in_loop(lambda done: progress(TreeAdvanced(path=source, done=done)), None)
    skipped = await run_interruptible(lambda stopped: copy_tree(source, target, stopped=stopped, copied=copied))
    for name, path in skipped.items():
        progress(XattrSkipped(name=name, path=path))
