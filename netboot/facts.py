"""What Jinja2 templates of overlays may call beside Jinja's own: a node's disks, accounts, time zone, the cluster's host keys.

Each is a function, so that a template which does not call it costs nothing and depends on nothing that it would read.
"""

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

import msgspec

from images.syncuser import AccountFiles
from netboot.accounts import ROOT_TAG, Wishes, merge
from netboot.engine import HeadFiles, RenderContext
from netboot.errors import OverlayError
from netboot.head_conf import KEY_TYPES
from netboot.reads import Trace
from netboot.storage import Storage, fstab_field
from netboot.systemd_names import escape_path

TRUE_WORDS = ("true", "yes", "1", "t")
SECRET = re.compile("pass(word|wd|phrase)|secret|token|credential|private|asset.key", re.IGNORECASE)
"""What the last name of a secret's path looks like."""
HIDDEN = "(not shown)"
ZONE = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")
"""A path below /usr/share/zoneinfo."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostKey:
    """One of sshd's keys, as the texts of its two files."""

    type: str
    private: str
    public: str


class NodeFacts:
    """The functions of one rendering; what they read is noted."""

    def __init__(self, context: RenderContext, trace: Trace, files: HeadFiles) -> None:
        self._context, self._trace, self._files = context, trace, files

    def functions(self) -> dict[str, Callable[..., Any]]:
        known: list[Callable[..., Any]] = [
            self.accounts,
            self.fragment,
            self.host_keys,
            self.server_certificate,
            self.storage,
            self.timezone,
            self.variables,
        ]
        return {function.__name__: function for function in known}

    def storage(self) -> Storage:
        """The node's disks and file systems as tools want them."""
        return Storage(self._whole("disks"), self._whole("filesystems"), self._resource)

    def accounts(self) -> AccountFiles:
        """`passwd` and `group` of the node, empty when it has no image. Raises OverlayError."""
        image = self._whole("image_name")
        if not image:
            return AccountFiles(passwd="", group="")
        root = self._context.server.chroots / image / "rootfs"
        wishes = Wishes(
            image=image,
            passwordless_root=self._tag(ROOT_TAG).lower() in TRUE_WORDS,
            users=self._resource("localusers"),
            groups=self._resource("localgroups"),
        )
        host = self._context.server.sysconfdir
        return merge(
            AccountFiles(passwd=self._text(Path("etc/passwd"), root), group=self._text(Path("etc/group"), root)),
            AccountFiles(passwd=self._text(host / "passwd"), group=self._text(host / "group")),
            wishes,
        )

    def host_keys(self) -> list[HostKey]:
        """The keys that every node's sshd shows; none before `wwctl configure ssh` has made them."""
        folder = self._context.server.sysconfdir / "warewulf" / "keys"
        found = []
        for kind in KEY_TYPES:
            private = self._files.read(folder / f"ssh_host_{kind}_key")
            public = self._files.read(folder / f"ssh_host_{kind}_key.pub")
            if private and public:
                found.append(HostKey(type=kind, private=private.decode(), public=public.decode()))
        return found

    def server_certificate(self) -> str:
        """What a node trusts the server by: its CA's certificate, else its own; "" without TLS."""
        folder = self._context.server.sysconfdir / "warewulf" / "tls"
        return (self._files.read(folder / "ca.crt") or self._files.read(folder / "warewulf.crt") or b"").decode()

    def timezone(self) -> str:
        """The node's tag `localtime`, else where the server's /etc/localtime leads, else UTC."""
        tag = self._tag("localtime")
        if tag:
            if not ZONE.fullmatch(tag):
                raise OverlayError(f"the tag localtime {tag!r} is no time zone", hint="such as Europe/Berlin, or UTC")
            return tag
        target = self._files.read_link(self._context.server.sysconfdir / "localtime") or ""
        return target.rpartition("zoneinfo/")[2] or "UTC"

    def fragment(self, name: str) -> str:
        """A text that several of our templates share (`netboot/templates`)."""
        folder = Path(str(resources("netboot"))) / "templates"
        return self._text(folder / Path(name).name).removesuffix("\n")

    def variables(self) -> list[tuple[str, str]]:
        """Every variable with its value, as a template names them; secrets are not shown."""
        self._trace.note(("node",))
        self._trace.note(("server",))
        return [*_flattened("node", self._context.node), *_flattened("server", self._context.server)]

    def _text(self, path: Path, root: Path | None = None) -> str:
        content = self._files.read(path, root)
        if content is None:
            place = path if root is None else root / path
            raise OverlayError(f"cannot read {place}", hint="it must be there, and a file")
        return content.decode("utf-8", "surrogateescape")

    def _whole(self, name: str) -> Any:
        self._trace.note(("node", name))
        return getattr(self._context.node, name)

    def _resource(self, name: str) -> object:
        self._trace.note(("node", "resources", name))
        return self._context.node.resources.get(name)

    def _tag(self, name: str) -> str:
        self._trace.note(("node", "tags", name))
        return self._context.node.tags.get(name, "")


def _flattened(path: str, value: object, name: str = "") -> Iterator[tuple[str, str]]:
    """The leaves below a value, each with the expression that leads to it; `name` is the last step of that."""
    if SECRET.search(name) and value:
        yield path, HIDDEN
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from _flattened(f"{path}.{name}", getattr(value, name), name)
    elif is_dataclass(value):
        for one in fields(value):
            yield from _flattened(f"{path}.{one.name}", getattr(value, one.name))
    elif isinstance(value, Mapping) and value:
        for key in sorted(value, key=str):
            yield from _flattened(f"{path}[{str(key)!r}]", value[key], str(key))
    elif isinstance(value, list | tuple) and value:
        for index, element in enumerate(value):
            yield from _flattened(f"{path}[{index}]", element)
    else:
        yield path, "" if value is None or isinstance(value, Mapping | list | tuple) else str(value)


FILTERS: Mapping[str, Callable[[Any], str]] = {
    "quote": lambda value: shlex.quote(str(value)),
    "fstab_field": lambda value: fstab_field(str(value)),
    "escape_path": lambda value: escape_path(str(value)),
}
"""`quote` is for a shell, the others are systemd's and fstab's."""
