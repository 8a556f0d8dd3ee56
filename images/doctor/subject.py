"""What a check is given, and what it finds."""

import enum
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from images.index import Entry
from images.kernel import ImageKernel
from images.syncuser import FIRST_PERSON, AccountFiles
from images.view import ImageView

FOLDERS = (b"usr/sbin", b"usr/bin", b"sbin", b"bin", b"usr/local/sbin", b"usr/local/bin")


class Severity(enum.StrEnum):
    ERROR = "error"
    """The image does not boot, or the node is of no use."""
    WARNING = "warning"
    """It boots, but something will surprise or harm somebody."""
    NOTE = "note"
    """Good to know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One sentence, and what to type or do about it."""

    severity: Severity
    message: str
    fix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What checks compare with. `accounts` is None when the head node's files could not be read; `root_keys`: the image's
    nodes get root's authorized_keys from an overlay."""

    architecture: str
    accounts: AccountFiles | None = None
    first_person: int = FIRST_PERSON
    root_keys: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """How packages are installed, as a shell says it; `names` are its own and those of what it is made from; `family` is empty
    when it is none that we know."""

    names: tuple[str, ...] = ()
    family: str = ""
    install: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """An image as checks see it. `read` gives the first bytes of a regular file, at most so many, links followed inside the
    image, or None; `xattrs` an entry's, for those of `view` have none; `kernels` are also those that builds leave out,
    for nodes get them apart from the image; `command` is such as `wwctl image`; `compressed` is the size of what nodes
    download, None before a build."""

    name: str
    view: ImageView
    read: Callable[[bytes, int], bytes | None]
    xattrs: Callable[[Entry], tuple[tuple[bytes, bytes], ...]]
    architecture: str
    host: Host
    kernels: Sequence[ImageKernel] = ()
    command: str = "wwctl image"
    compressed: int | None = None

    def text(self, path: bytes, limit: int = 1 << 20) -> str | None:
        data = self.read(path, limit)
        return None if data is None else data.decode("utf-8", "replace")

    def exists(self, path: bytes) -> bool:
        """Whether something is there, links followed."""
        return self.view.find(self.view.resolve(path)) is not None

    def program(self, *names: str) -> Entry | None:
        """The first of these programs that the image has, links followed."""
        for name in names:
            for folder in FOLDERS:
                found = self.view.find_file(folder + b"/" + name.encode())
                if found is not None:
                    return found
        return None

    def below(self, folder: bytes) -> Iterator[Entry]:
        """Everything below a folder, links in its path followed; nothing when it is missing."""
        return self.view.below(self.view.resolve(folder))

    def distribution(self) -> Distribution:
        release = self.text(b"etc/os-release") or self.text(b"usr/lib/os-release") or ""
        values = {key: value for key, _, value in (line.partition("=") for line in release.splitlines())}
        names = " ".join(values.get(key, "").strip("\"'") for key in ("ID", "ID_LIKE")).split()
        for family, words, install in _FAMILIES:
            if set(words) & set(names):
                return Distribution(names=tuple(names), family=family, install=install)
        return Distribution(names=tuple(names))

    def run(self, *words: str) -> str:
        """The command line that runs a program in the image."""
        return f"{self.command} exec {self.name} {shlex.join(words)}"

    def shell(self, script: str) -> str:
        quoted = shlex.quote(script) if set(script) & set('"$`\\!') else f'"{script}"'
        return f"{self.run('/bin/sh', '-c')} {quoted}"

    def again(self, what: str) -> str:
        """The command line that replaces the image by another one; `what` says which."""
        return f"import {what}: {self.command} import --force SOURCE {self.name}"

    def install(self, what: str, packages: "Packages") -> str:
        """The command line that installs a package, or words when the distribution is not known; `what` is for those."""
        if self.program("sh") is None:
            return self.again("a whole system instead")
        distribution = self.distribution()
        package = next((packages[name] for name in (*distribution.names, distribution.family) if name in packages), None)
        if not distribution.install or package is None:
            return f"install {what} in the image: {self.run('/bin/sh')}"
        command = f"{distribution.install} {package}"
        return self.shell(command) if "&&" in command else self.run(*command.split())

    def exclude(self, *patterns: str) -> str:
        """The command line that keeps files out of what nodes get, while the tree still has them."""
        lines = "; ".join(f"echo {shlex.quote(pattern)}" for pattern in patterns)
        return self.shell(f"mkdir -p /etc/warewulf; ({lines}) >>/etc/warewulf/excludes")


Packages = dict[str, str]
"""A distribution's or a family's name to the package (or several) that brings the thing."""
Check = Callable[[Subject], Iterator[Finding]]

_FAMILIES = (
    ("debian", ("debian", "ubuntu"), "apt-get update && apt-get install -y"),
    ("redhat", ("rhel", "fedora", "centos", "rocky", "almalinux", "ol", "amzn"), "dnf install -y"),
    ("suse", ("suse", "opensuse", "sles", "opensuse-leap"), "zypper --non-interactive install"),
    ("alpine", ("alpine",), "apk add --no-cache"),
    ("arch", ("arch",), "pacman -Sy --noconfirm"),
)
"""Images of registries, and those that were made small, hold no lists of packages: these fetch them first."""


def everywhere(package: str) -> Packages:
    """A package of one name in every distribution that we know."""
    return {family: package for family, _, _ in _FAMILIES}


def listed(names: Sequence[str], most: int = 4) -> str:
    """`a, b, c and 7 more`."""
    if len(names) <= most + 1:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"


def shown(path: bytes) -> str:
    """A path as people see it."""
    return printable("/" + path.decode("utf-8", "backslashreplace"))


def printable(text: str) -> str:
    """What could move a terminal's cursor is escaped."""
    return text if text.isprintable() else "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def error(message: str, fix: str) -> Finding:
    return Finding(severity=Severity.ERROR, message=printable(message), fix=fix)


def warning(message: str, fix: str) -> Finding:
    return Finding(severity=Severity.WARNING, message=printable(message), fix=fix)


def note(message: str, fix: str) -> Finding:
    return Finding(severity=Severity.NOTE, message=printable(message), fix=fix)
