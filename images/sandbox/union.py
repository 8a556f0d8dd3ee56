"""The root of a sandbox that must not write to the image: a union of the image with what it lacks and what goes on top.

All of it but the image lies in a tmpfs of the sandbox's own mount namespace, so nothing is left of it, not after a crash
either, and secrets that are shown on top touch no disk. Few imports: see `child`.
"""

import os
import stat

from images.sandbox import namespaces
from images.sandbox.mountpoints import Point
from images.sandbox.namespaces import MountFlag

TopFields = dict[str, object]
"""The fields of an `operations.TopEntry`."""


def mount_union(rootfs: str, extra: list[Point], on_top: list[TopFields] | None) -> str:
    """The union's path: the image, below it the mount points that it lacks, above it `on_top`, which takes what is written.

    Without `on_top` it is read-only. Raises OSError.
    """
    os.chdir(rootfs)
    namespaces.mount("tmpfs", rootfs, fstype="tmpfs", data="mode=700")
    for name in ("image", "extra", "upper", "work", "root"):
        os.mkdir(f"{rootfs}/{name}")
    # The working directory is still the image, under the new tmpfs; that one must not come along.
    namespaces.mount(".", f"{rootfs}/image", flags=MountFlag.BIND)
    os.chdir(rootfs)
    for path, directory, _ in extra:
        os.makedirs(f"extra/{path}" if directory else os.path.dirname(f"extra/{path}"), exist_ok=True)
        if not directory:
            os.close(os.open(f"extra/{path}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
    # Relative, so that no character of the image's name needs an escape in overlayfs's options.
    options = "lowerdir=image:extra"
    if on_top is not None:
        _fill_upper(on_top)
        options += ",upperdir=upper,workdir=work"
    namespaces.mount("overlay", "root", fstype="overlay", data=options)
    return f"{rootfs}/root"


def _fill_upper(entries: list[TopFields]) -> None:
    """A directory of the upper layer has its own attributes in the union, so each starts with the image's."""
    _take_attributes("")
    folders = []
    for entry in entries:
        path, mode, mtime = str(entry["path"]), int(str(entry["mode"])), int(str(entry["mtime"]))
        _make_directories(os.path.dirname(path))
        place = f"upper/{path}"
        if stat.S_ISDIR(mode):
            _make_directories(path)
            folders.append((place, mtime))
        else:
            _make_leaf(place, mode, str(entry["content"]).encode("latin-1"))
        os.chown(place, int(str(entry["uid"])), int(str(entry["gid"])), follow_symlinks=False)
        if not stat.S_ISLNK(mode):
            os.chmod(place, stat.S_IMODE(mode))
        os.utime(place, (mtime, mtime), follow_symlinks=False)
    for place, mtime in folders:
        os.utime(place, (mtime, mtime))


def _make_directories(path: str) -> None:
    parts = path.split("/") if path else []
    for depth in range(1, len(parts) + 1):
        step = "/".join(parts[:depth])
        try:
            os.mkdir(f"upper/{step}", 0o755)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(f"upper/{step}").st_mode):
                raise
        else:
            _take_attributes(step)


def _take_attributes(path: str) -> None:
    try:
        image = os.lstat(f"image/{path}")
    except FileNotFoundError:
        return
    if stat.S_ISDIR(image.st_mode):
        os.chown(f"upper/{path}", image.st_uid, image.st_gid)
        os.chmod(f"upper/{path}", stat.S_IMODE(image.st_mode))


def _make_leaf(place: str, mode: int, content: bytes) -> None:
    if os.path.lexists(place):
        os.unlink(place)
    if stat.S_ISLNK(mode):
        os.symlink(content, os.fsencode(place))
        return
    if stat.S_ISCHR(mode):
        # Device 0/0, which hides the image's file of that name.
        os.mknod(place, mode)
        return
    descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
