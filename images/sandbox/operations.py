"""The steps of setting up a sandbox, as data: `plan.plan` lists them, `child` performs them in this order.

Paths on the host are absolute and without links; targets are paths inside the sandbox.
"""

from dataclasses import asdict, dataclass

from images.sandbox.namespaces import Capability, MountFlag


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeMountPoint:
    """An empty file or directory in the image, there only as long as the command runs; `path` is below the rootfs.

    With a source it is a copy of that file of the host, and stays if the command changes it.
    """

    path: str
    directory: bool
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetHostname:
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TopEntry:
    """A directory, link or file to show on top of an image; `path` is below the rootfs and has no link in it.

    `content` is a link's target too, its bytes as Latin-1; `mtime` is in seconds.
    """

    path: str
    mode: int
    uid: int
    gid: int
    mtime: int
    content: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnterRoot:
    """Make the rootfs the root, its mounts private; what a read-only image lacks (`extra`) is shown by an overlay below it.

    With `on_top` the image is not written to either: these entries hide its own, and what is written is thrown away.
    """

    rootfs: str
    readonly: bool
    extra: tuple[tuple[str, bool, str], ...] = ()
    on_top: tuple[TopEntry, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    fstype: str
    target: str
    flags: MountFlag
    data: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BindMount:
    """Bind a file or a directory, with all that is mounted below it; the source is the host's, or the sandbox's own."""

    source: str
    target: str
    readonly: bool = False
    inside: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeDirectory:
    path: str
    mode: int = 0o755


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeFile:
    path: str
    content: str = ""
    mode: int = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeLink:
    path: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyFile:
    """Copy a file of the host with its mode, owner and times; `path` is in a file system of the sandbox's own."""

    source: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveHost:
    """Unmount the host's tree, which bind mounts were taken from until now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DropCapability:
    capability: Capability


@dataclass(frozen=True, slots=True, kw_only=True)
class Execute:
    """Run the command as the first child of the sandbox's init."""

    argv: tuple[str, ...]
    environment: dict[str, str]
    workdir: str


Operation = (
    MakeMountPoint
    | SetHostname
    | EnterRoot
    | Mount
    | BindMount
    | MakeDirectory
    | MakeFile
    | MakeLink
    | CopyFile
    | LeaveHost
    | DropCapability
    | Execute
)


def to_wire(operation: Operation) -> tuple[str, dict[str, object]]:
    """What the child reads: the operation's name and its fields."""
    return type(operation).__name__, asdict(operation)
