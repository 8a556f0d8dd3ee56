"""How a template becomes files on a node: what an engine is given, and what it gives back.

An engine is a row of `netboot.engines.ENGINES`, by the suffix of its templates.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Protocol, runtime_checkable

from netboot.head_conf import HeadConf
from netboot.node import Node
from netboot.reads import Trace
from netboot.urls import Urls


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """A folder that the head node lends by NFS, and to whom (exports(5))."""

    path: str
    options: str
    clients: tuple[str, ...]

    @property
    def line(self) -> str:
        """Its line in exports(5)."""
        path = "".join(f"\\{ord(char):03o}" if char in ' \t"\\#' else char for char in self.path)
        return " ".join([path, *(f"{client}({self.options})" for client in self.clients)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The head node as its nodes see it; `name` is its host name, `authorized_keys` are the lines that let root in.

    `sysconfdir` is where relative names of included files begin (in its `warewulf`), `chroots` where the images' trees are.
    `update_interval` is how often a node looks for a new runtime overlay, in seconds; `exports` are what it may mount from
    here, and `key_type` is the kind of key that users get.
    `conf` is what Go templates may name of warewulf.conf.
    """

    name: str
    address: IPv4Address
    network: IPv4Network
    domain: str
    urls: Urls
    dns: tuple[IPv4Address, ...] = ()
    authorized_keys: tuple[str, ...] = ()
    sysconfdir: Path = Path("/etc")
    chroots: Path = Path("/var/lib/warewulf/chroots")
    update_interval: int = 60
    exports: tuple[Export, ...] = ()
    key_type: str = "ed25519"
    conf: HeadConf = field(default_factory=HeadConf)


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderContext:
    """What a template may use: `node`, `nodes` (all of them, in order) and `server`.

    `overlay` is the name of the template's overlay, `kernel_version` that of the kernel that the node's image boots by
    default. `now` is when the build began; to read it is never noted, for then nothing would ever be up to date.
    """

    node: Node
    nodes: Sequence[Node]
    server: Server
    overlay: str = ""
    kernel_version: str = ""
    now: datetime | None = None


class HeadFiles(Protocol):
    """Files of the head node; whoever gives them out notes what was read."""

    def read(self, path: Path, root: Path | None = None) -> bytes | None:
        """The content, None for what is no readable file; with `root`, links and `..` do not lead out of it."""
        ...

    def read_link(self, path: Path) -> str | None:
        """Where a symbolic link leads; None for what is none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One file that a template makes, or a symbolic link where there is a `target`; `path` is as the template says it."""

    path: str
    text: str = ""
    target: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """What a template makes. `aborted`: nothing of it is to be used; `outputs` is what was made up to there.

    `backup` is false where a template says `nobackup`. It matters only where the head node's own files are written: of what
    an earlier overlay puts on a node no copy is kept.
    """

    outputs: Sequence[Output]
    aborted: bool = False
    backup: bool = True


class Template(Protocol):
    """A template, parsed."""

    def render(self, context: RenderContext, path: str, trace: Trace, files: HeadFiles) -> Rendering:
        """Render for one node; `path` is that of the file it makes when it names none.

        Everything that it reads of `node`, `nodes` and `server` is noted in `trace`, as paths that begin with that word. Raises
        TemplateError with the line.
        """
        ...


class Engine(Protocol):
    """Makes templates of text. The result is kept by content and used for all nodes, in several threads."""

    def parse(self, source: str) -> Template:
        """Raises TemplateError with the line."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """Something that a template uses, as `wwctl overlay info` shows it: the flag that sets it, its type and its help."""

    name: str
    option: str = ""
    type: str = ""
    help: str = ""


@runtime_checkable
class Explained(Protocol):
    """A template that can say what it uses; not every engine's can."""

    def variables(self) -> Sequence[Variable]: ...
