"""A sandbox request → the list of operations that set it up. Looks at the image and the host, changes nothing."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path, PurePosixPath

from images.errors import Error
from images.sandbox.namespaces import Capability, MountFlag
from images.sandbox.operations import (
    BindMount,
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
)
from images.sandbox.view import ROOT, Located, SandboxView

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
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

PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")
PASSED_VARIABLES = frozenset(
    {"TERM", "COLORTERM", "NO_COLOR", "LANG", "LANGUAGE", "TZ", "EDITOR", "VISUAL", "PAGER"}
    | {"DEBIAN_FRONTEND", "SOURCE_DATE_EPOCH", *PROXIES, *(name.upper() for name in PROXIES)}
)
PASSED_PREFIXES = ("LC_", "WW_")

POLICY = "/usr/sbin/policy-rc.d"
POLICY_SOURCE = "/run/.wwctl/policy-rc.d"
POLICY_SCRIPT = "#!/bin/sh\n# A node starts services; an image that is being changed does not.\nexit 101\n"


class BindMode(Enum):
    RW = "rw"
    RO = "ro"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    """A file or directory of the host that the sandbox shows at `target`, with everything mounted below it."""

    source: Path
    target: PurePosixPath
    mode: BindMode = BindMode.RW


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxRequest:
    """A command to run in an image, as root.

    `environment` is the caller's: of it the terminal, language, proxies, `LC_…` and `WW_…` are passed on, for the rest
    names places and secrets of the host. `lock` is held exclusively while the command runs.
    """

    rootfs: Path
    argv: tuple[str, ...]
    name: str
    lock: Path
    binds: tuple[Bind, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    readonly: bool = False
    workdir: PurePosixPath = ROOT


def parse_bind(text: str) -> Bind:
    """`SRC[:DST[:ro|rw]]`, as in Warewulf; DST defaults to SRC, and a relative SRC counts from the working directory."""
    hint = "write --bind SRC[:DST[:ro]]"
    source, *rest = text.split(":")
    if not source or len(rest) > 2 or "" in rest:
        raise Error(f"{text!r} is not a bind", hint=hint)
    if len(rest) == 2 and rest[1] not in {mode.value for mode in BindMode}:
        raise Error(f"{rest[1]!r} in the bind {text!r} is not a mode", hint="use `ro` or `rw`, or leave it out")
    path = Path(source).absolute()
    target = PurePosixPath(rest[0] if rest else path)
    if not target.is_absolute() or ".." in target.parts:
        raise Error(f"the target {str(target)!r} of the bind {text!r} is not an absolute path", hint=hint)
    if target == ROOT:
        raise Error(f"the bind {text!r} would hide the whole image", hint="bind to a directory below /")
    return Bind(source=path, target=target, mode=BindMode(rest[1]) if len(rest) == 2 else BindMode.RW)


def plan(request: SandboxRequest, *, terminal: Path | None = None) -> list[Operation]:
    """Every step in order; `terminal` is the device of the caller's terminal, shown as /dev/console. Raises Error."""
    rootfs = request.rootfs.resolve()
    if not rootfs.is_dir():
        raise Error(f"the image's root {str(request.rootfs)!r} is not a directory", hint="import the image first")
    if not request.argv:
        raise Error(f"no command to run in {request.name!r} was given", hint="name one, such as /bin/sh")
    planner = _Planner(rootfs)
    planner.kernel_file_systems(readonly=request.readonly)
    planner.devices(terminal)
    planner.resolver()
    planner.no_services()
    for bind in request.binds:
        planner.bind(bind)
    points = tuple(MakeMountPoint(path=path, directory=directory) for path, directory in planner.points.items())
    extra = tuple((point.path, point.directory) for point in points) if request.readonly else ()
    return [
        *(points if not request.readonly else ()),
        SetHostname(name=request.name[:MAX_HOSTNAME]),
        EnterRoot(rootfs=str(rootfs), readonly=request.readonly, extra=extra),
        *planner.operations,
        LeaveHost(),
        *(DropCapability(capability=capability) for capability in Capability),
        Execute(
            argv=request.argv,
            environment=_environment(request.name, request.environment),
            workdir=str(request.workdir),
        ),
    ]


class _Planner:
    """Collects the mounts; `points` are those that the image must be given for them."""

    def __init__(self, rootfs: Path) -> None:
        self.operations: list[Operation] = []
        self.points: dict[str, bool] = {}
        self._view = SandboxView(rootfs)

    def kernel_file_systems(self, *, readonly: bool) -> None:
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
        if readonly:
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

    def resolver(self) -> None:
        """The host's resolver, wherever the image's own resolv.conf leads; a link into /run ends in the fresh one."""
        source = Path("/etc/resolv.conf").resolve()
        if source.is_file():
            self._bind(source, PurePosixPath("/etc/resolv.conf"), readonly=True)

    def no_services(self) -> None:
        """Debian's invoke-rc.d asks this script; systemd's tools heed SYSTEMD_OFFLINE instead."""
        if not self._locate("/usr/sbin/invoke-rc.d").exists or self._locate(POLICY).exists:
            return
        source = self._locate(POLICY_SOURCE)
        self._make(source, directory=False, content=POLICY_SCRIPT, mode=0o755)
        target = self._target(PurePosixPath(POLICY), directory=False)
        self.operations.append(BindMount(source=str(source.path), target=str(target), readonly=True, inside=True))

    def bind(self, bind: Bind) -> None:
        if not bind.source.exists():
            raise Error(f"the bind source {str(bind.source)!r} does not exist", hint="check the path, or create it")
        self._bind(bind.source.resolve(), bind.target, readonly=bind.mode is BindMode.RO)

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
            for parent in self._view.missing_parents(found.path):
                self.operations.append(MakeDirectory(path=str(parent)))
            self.operations.append(
                MakeDirectory(path=str(found.path)) if directory else MakeFile(path=str(found.path), content=content, mode=mode)
            )
        elif found.mount == ROOT:
            self.points[str(found.path.relative_to(ROOT))] = directory
        else:
            raise Error(f"{found.path} does not exist in what is bound to {found.mount}", hint=f"create {found.backing} first")
        self._view.make(found.path, directory=directory)


def _environment(name: str, caller: Mapping[str, str]) -> dict[str, str]:
    prompt = f"[{name}] Warewulf> "
    passed = {key: value for key, value in caller.items() if key in PASSED_VARIABLES or key.startswith(PASSED_PREFIXES)}
    return passed | {
        "PATH": PATH,
        "HOME": "/root",
        "USER": "root",
        "LOGNAME": "root",
        "SYSTEMD_OFFLINE": "1",
        "WW_CONTAINER_SHELL": name,
        "WW_IMAGE_SHELL": name,
        "HISTFILE": caller.get("WW_HISTFILE", "/dev/null"),
        "PS1": prompt,
        # bash runs this before each prompt, so after the image's bashrc has set its own.
        "PROMPT_COMMAND": f"PS1={shlex.quote(prompt)}",
    }
