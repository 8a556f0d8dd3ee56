"""Replace a file or a link in one step: whoever reads sees the old one or the new one, also after a crash."""

import os
import tempfile
from pathlib import Path


def write_whole(path: Path, data: bytes) -> None:
    """Write beside, fsync, rename; the file is its owner's alone (0600). An OSError names the file, also of a full disk."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".new-", delete=False) as file:
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as exc:
        # Closing a file that was not written whole fails once more, with an exception of its own.
        exc.filename = str(path)
        raise


def swap_link(link: Path, target: str) -> None:
    """Point a symbolic link elsewhere in one rename, and keep it over a crash."""
    temporary = link.with_name(f".new-{link.name}-{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.rename(link)
    sync_folder(link.parent)


def sync_folder(folder: Path) -> None:
    """What was renamed into the folder is on disk when this returns."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
