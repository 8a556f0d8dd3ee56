"""A sandbox request → the list of operations that set it up. Looks at the image and the host, changes nothing."""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from images.errors import Error
from images.sandbox.bind import Bind, BindMode
from images.sandbox.environment import environment
from images.sandbox.namespaces import Capability, MountFlag
from images.sandbox.operations import (
    BindMount,
    CopyFile,
    DropCapability,
    EnterRoot,
    Execute,
    LeaveHost,
    MakeDirectory,
    MakeFile,
    MakeLink,
    MakeMountPoint,
    Mount,
    Operation,
    SetHostname,
    TopEntry,
)
from images.sandbox.view import ROOT, Located, SandboxView

MAX_HOSTNAME = 64
"""__NEW_UTS_LEN: the kernel refuses longer ones."""

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
DEVICE_LINKS = {
    "ptmx": "pts/ptmx",
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
}
PLAIN = MountFlag.NO_SUID | MountFlag.NO_DEV
INERT = PLAIN | MountFlag.NO_EXEC

POLICY = "/usr/sbin/policy-rc.d"
SCRATCH = "/run/.wwctl"
POLICY_SCRIPT = "#!/bin/sh\n# A node starts services; an image that is being changed does not.\nexit 101\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxRequest:
    """A command to run in an image, as root.

    `environment` is the caller's: of it the terminal, language, proxies, `LC_…` and `WW_…` are passed on. `prompt` is the
    shell's PS1. `lock` is held exclusively while the command runs. With `on_top` these entries are shown on top of the image,
    and whatever the command writes is thrown away.
    """

    rootfs: Path
    argv: tuple[str, ...]
    name: str
    lock: Path
    binds: tuple[Bind, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    readonly: bool = False
    workdir: PurePosixPath = ROOT
    prompt: str = ""
    on_top: tuple[TopEntry, ...] | None = None


def plan(request: SandboxRequest, *, terminal: Path | None = None) -> list[Operation]:
    """Every step in order; `terminal` is the device of the caller's terminal, shown as /dev/console. Raises Error."""
    rootfs = request.rootfs.resolve()
    if not rootfs.is_dir():
        raise Error(f"the image's root {str(request.rootfs)!r} is not a directory", hint="import the image first")
    if not request.argv:
        raise Error(f"no command to run in {request.name!r} was given", hint="name one, such as /bin/sh")
    writable = not request.readonly and request.on_top is None
    planner = _Planner(rootfs, writable=writable)
    planner.kernel_file_systems(own_tmp=request.readonly and request.on_top is None)
    planner.devices(terminal)
    planner.resolver(unless_in=request.on_top or ())
    planner.no_services()
    for bind in request.binds:
        planner.bind(bind)
    points = tuple(planner.points.values())
    extra = () if writable else tuple((point.path, point.directory, "") for point in points)
    return [
        *(points if writable else ()),
        SetHostname(name=request.name[:MAX_HOSTNAME]),
        EnterRoot(rootfs=str(rootfs), readonly=request.readonly, extra=extra, on_top=request.on_top),
        *planner.operations,
        LeaveHost(),
        *(DropCapability(capability=capability) for capability in Capability),
        Execute(
            argv=request.argv,
            environment=environment(request.name, request.prompt or f"[{request.name}] Warewulf> ", request.environment),
            workdir=str(request.workdir),
        ),
    ]


class _Planner:
    """Collects the mounts; `points` are those that the image must be given for them."""

    def __init__(self, rootfs: Path, *, writable: bool) -> None:
        self.operations: list[Operation] = []
        self.points: dict[str, MakeMountPoint] = {}
        self._view = SandboxView(rootfs)
        self._writable = writable

    def kernel_file_systems(self, *, own_tmp: bool) -> None:
        proc = self._mount("proc", "/proc", INERT)
        # Package scripts that call sysctl would change the head node's kernel.
        for name in ("sys", "sysrq-trigger"):
            path = f"{proc}/{name}"
            if Path("/proc", name).exists():  # a kernel may be built without one
                self.operations.append(BindMount(source=path, target=path, readonly=True, inside=True))
        self._mount("sysfs", "/sys", INERT | MountFlag.READ_ONLY)
        run = self._mount("tmpfs", "/run", PLAIN, "mode=755")
        self.operations.append(MakeDirectory(path=f"{run}/lock", mode=0o1777))
        self._view.make(run / "lock", directory=True)
        if own_tmp:
            self._mount("tmpfs", "/tmp", PLAIN, "mode=1777")

    def devices(self, terminal: Path | None) -> None:
        dev = self._mount("tmpfs", "/dev", MountFlag.NO_SUID | MountFlag.NO_EXEC, "mode=755,size=64k")
        nodes = {name: Path("/dev") / name for name in DEVICES}
        if terminal is not None:
            nodes["console"] = terminal
        for name, source in nodes.items():
            if source.exists():
                self._bind(source, dev / name)
        for name, target in DEVICE_LINKS.items():
            self.operations.append(MakeLink(path=f"{dev}/{name}", target=target))
        # 5 is the group tty on every distribution, and must be given, for devpts would use the opener's group.
        self._mount("devpts", "/dev/pts", MountFlag.NO_SUID | MountFlag.NO_EXEC, "newinstance,ptmxmode=0666,mode=620,gid=5")
        self._mount("tmpfs", "/dev/shm", PLAIN, "mode=1777")

    def resolver(self, *, unless_in: tuple[TopEntry, ...]) -> None:
        """The host's resolver, wherever the image's own resolv.conf leads; a link into /run ends in the fresh one."""
        source = Path("/etc/resolv.conf").resolve()
        if source.is_file() and not any(entry.path == "etc/resolv.conf" for entry in unless_in):
            self._bind(source, PurePosixPath("/etc/resolv.conf"), readonly=True)

    def no_services(self) -> None:
        """Debian's invoke-rc.d asks this script; systemd's tools heed SYSTEMD_OFFLINE instead."""
        if not self._locate("/usr/sbin/invoke-rc.d").exists or self._locate(POLICY).exists:
            return
        source = self._locate(f"{SCRATCH}/policy-rc.d")
        self._make(source, directory=False, content=POLICY_SCRIPT, mode=0o755)
        target = self._target(PurePosixPath(POLICY), directory=False)
        self.operations.append(BindMount(source=str(source.path), target=str(target), readonly=True, inside=True))

    def bind(self, bind: Bind) -> None:
        if not bind.source.exists():
            raise Error(f"the bind source {str(bind.source)!r} does not exist", hint="check the path, or create it")
        if bind.mode is BindMode.COPY:
            self._copy(bind.source.resolve(), bind.target)
        else:
            self._bind(bind.source.resolve(), bind.target, readonly=bind.mode is BindMode.RO)

    def _copy(self, source: Path, target: PurePosixPath) -> None:
        """A file that is there already is the image's own, which a copy must not replace."""
        if not stat.S_ISREG(os.stat(source).st_mode):
            raise Error(
                f"{str(source)!r} cannot be copied into the image, for it is not a file", hint="bind it with `ro` instead"
            )
        found = self._view.locate(target)
        if found.exists and not found.is_directory:
            return
        if found.backing is not None and found.mount == ROOT and self._writable:
            path = str(self._target(target, directory=False).relative_to(ROOT))
            self.points[path] = MakeMountPoint(path=path, directory=False, source=str(source))
            return
        # The image must stay as it is, so the copy lies beside it.
        place = self._locate(f"{SCRATCH}/copy-{len(self.operations)}").path
        self._make_parents(place)
        self._view.make(place, directory=False)
        self.operations.append(CopyFile(source=str(source), path=str(place)))
        path = str(self._target(target, directory=False))
        self.operations.append(BindMount(source=str(place), target=path, inside=True))

    def _bind(self, source: Path, target: PurePosixPath, *, readonly: bool = False) -> None:
        path = self._target(target, directory=source.is_dir())
        self.operations.append(BindMount(source=str(source), target=str(path), readonly=readonly))
        self._view.mount(path, source)

    def _mount(self, fstype: str, target: str, flags: MountFlag, data: str = "") -> PurePosixPath:
        path = self._target(PurePosixPath(target), directory=True)
        self.operations.append(Mount(fstype=fstype, target=str(path), flags=flags, data=data))
        self._view.mount(path, None)
        return path

    def _locate(self, path: str) -> Located:
        return self._view.locate(PurePosixPath(path))

    def _target(self, target: PurePosixPath, *, directory: bool) -> PurePosixPath:
        """Where the kernel will find the mount point, which is planned too if it is missing."""
        found = self._view.locate(target)
        if not found.exists:
            self._make(found, directory=directory)
        elif found.is_directory is not directory:
            here, there = ("a directory", "a file") if directory else ("a file", "a directory")
            raise Error(f"{here} cannot be mounted on {target}, which is {there}", hint="name another target")
        return found.path

    def _make(self, found: Located, *, directory: bool, content: str = "", mode: int = 0o644) -> None:
        if found.backing is None:
            self._make_parents(found.path)
            self.operations.append(
                MakeDirectory(path=str(found.path)) if directory else MakeFile(path=str(found.path), content=content, mode=mode)
            )
        elif found.mount == ROOT:
            path = str(found.path.relative_to(ROOT))
            self.points[path] = MakeMountPoint(path=path, directory=directory)
        else:
            raise Error(f"{found.path} does not exist in what is bound to {found.mount}", hint=f"create {found.backing} first")
        self._view.make(found.path, directory=directory)

    def _make_parents(self, path: PurePosixPath) -> None:
        for parent in self._view.missing_parents(path):
            self.operations.append(MakeDirectory(path=str(parent)))
