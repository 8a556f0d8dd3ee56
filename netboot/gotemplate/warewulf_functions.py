"""Warewulf's own template functions, and the files that one execution makes.

`file`, `softlink` and `ImportLink` write marks into the output, which is cut along them afterwards (`netboot.output_marks`).
"""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timezone
from functools import cache, lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

from netboot.engine import HeadFiles, Output, RenderContext
from netboot.gotemplate import sprig_paths
from netboot.gotemplate.errors import Abort, FunctionError
from netboot.gotemplate.quoting import from_bytes
from netboot.gotemplate.sprig import sprig_functions
from netboot.gotemplate.values import Functions, Value, function, wrap_int64
from netboot.output_marks import END, FILE, LINK, MARK, BrokenMark, cut
from netboot.reads import Trace
from netboot.storage import Storage
from netboot.systemd_names import escape, escape_path

MAX_LINKS = 40
_MARK = re.compile(f"(?:(?:(?<=\n)|(?<={END})|\\A)[ \t]*)?{MARK}(?:[ \t]*\r?\n)?")
_IMAGE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*")


@cache
def head_zone() -> timezone | ZoneInfo:
    """The time zone of the head node, for dates in templates; UTC where it has none."""
    try:
        with open("/etc/localtime", "rb") as file:
            return ZoneInfo.from_file(file)
    except (OSError, ValueError):
        return UTC


@lru_cache(maxsize=8)
def _sprig(now: datetime, local: timezone | ZoneInfo) -> Functions:
    """The same for all nodes of one build."""
    return sprig_functions(now, local)


class Execution:
    """What the functions of one execution know and do; `path` is where the output goes that no `file` names."""

    def __init__(self, context: RenderContext, path: str, trace: Trace, files: HeadFiles, now: datetime) -> None:
        self._context, self._path, self._trace, self._files, self._now = context, path, trace, files, now
        self._folder = context.server.sysconfdir / "warewulf"
        self.zone = head_zone()
        self.backup = True

    def functions(self) -> Functions:
        """All that the template may call; sprig's win over Warewulf's of the same name, as in Warewulf."""
        return {
            "Include": function(params=("string",))(lambda path: self.include(path)),
            "IncludeFrom": function(params=("string", "string"))(lambda image, path: self.include_from(image, path)),
            "IncludeBlock": function(params=("string", "string"))(lambda path, mark: self.include_block(path, mark)),
            "ImportLink": function(params=("string",))(lambda path: self.import_link(path)),
            "readlink": function(params=("string",))(lambda path: self.readlink(path)),
            "softlink": _softlink,
            "file": _file,
            "abort": _abort,
            "nobackup": function(params=())(lambda: self.nobackup()),
            "IgnitionJson": function(params=())(lambda: self.ignition()),
            **_PLAIN,
            **_sprig(self._now, self.zone),
        }

    def include(self, path: str) -> Value:
        """The text of a file of the head node without its last newline; empty where there is none."""
        return self._text(self._place(path)).removesuffix("\n")

    def include_from(self, image: str, path: str) -> Value:
        """The same of a file in an image's tree, whose links do not lead out of it."""
        if not image:
            return ""
        if not _IMAGE_NAME.fullmatch(image):
            raise FunctionError(f"{image!r} is no name of an image")
        return self._text(Path(path), self._context.server.chroots / image / "rootfs").removesuffix("\n")

    def include_block(self, path: str, mark: str) -> Value:
        """The lines of a file up to the one that is `mark`, with it."""
        lines = self._text(self._place(path)).removesuffix("\n").split("\n")
        at = next((number for number, line in enumerate(lines) if line.rstrip() == mark.rstrip()), len(lines))
        return "\n".join(lines[: at + 1])

    def import_link(self, path: str) -> Value:
        """The output becomes a link to where this link of the head node leads; where it is none, there is no output."""
        place = self._place(path)
        target = self._files.read_link(place)
        if target is None:
            raise Abort
        return _softlink(target if target.startswith("/") else sprig_paths.clean(f"{place.parent}/{target}"))

    def readlink(self, path: str) -> Value:
        """The path with all links on the way followed."""
        pending = sprig_paths.clean(str(self._place(path))).split("/")[1:]
        found: list[str] = []
        links = 0
        while pending:
            name, *pending = pending
            if name == "..":
                found = found[:-1]
            elif name not in ("", "."):
                target = self._files.read_link(Path("/", *found, name))
                if target is None:
                    found.append(name)
                    continue
                links += 1
                if links > MAX_LINKS:
                    raise FunctionError(f"{path}: too many links")
                found = [] if target.startswith("/") else found
                pending = [*target.split("/"), *pending]
        return "/" + "/".join(found)

    def nobackup(self) -> Value:
        self.backup = False
        return ""

    def ignition(self) -> Value:
        """The node's disks and file systems for Ignition."""
        self._trace.paths.add(("node", "disks"))
        self._trace.paths.add(("node", "filesystems"))
        node = self._context.node
        return Storage(node.disks, node.filesystems, lambda name: None).ignition

    def outputs(self, text: str) -> Iterator[Output]:
        """The files in what the template wrote: what stands before the first `file` is one only where there is no `file`.

        Raises FunctionError for a mark that another function has changed.
        """
        try:
            for path, content, target in cut(text, _MARK, self._path, self._named):
                yield Output(path=path, text="" if target is not None else content, target=target)
        except BrokenMark as exc:
            raise FunctionError(str(exc)) from exc

    def _named(self, name: str) -> str:
        """A name from `file`: from the node's root, or beside the template."""
        return sprig_paths.clean(name if name.startswith("/") else f"{self._path.rpartition('/')[0]}/{name}").lstrip("/")

    def _place(self, path: str) -> Path:
        return self._folder / path

    def _text(self, path: Path, root: Path | None = None) -> str:
        if "\0" in str(path):
            raise FunctionError("a path cannot hold a NUL")
        return from_bytes(self._files.read(path, root) or b"")


def _named_mark(kind: str, what: str) -> Callable[[str], Value]:
    @function(params=("string",))
    def mark(name: str) -> Value:
        if not name or "\0" in name or "\n" in name:
            raise FunctionError(f"{name!r} is no {what}")
        return f"{kind}{name}{END}"

    return mark


_file = _named_mark(FILE, "name of a file")
_softlink = _named_mark(LINK, "target of a link")


@function(params=())
def _abort() -> Value:
    raise Abort


@function(params=("string",))
def _basename(path: str) -> Value:
    return sprig_paths.base(path)


@function(params=("int",))
def _inc(number: int) -> Value:
    return wrap_int64(number + 1)


@function(params=("int",))
def _dec(number: int) -> Value:
    return wrap_int64(number - 1)


@function(params=("string", "int", "string"))
def _unique_field(separator: str, index: int, text: str) -> Value:
    """The lines of which none before has the same field; fields count from 0, a line without the field has an empty one."""
    if index < 0 or not separator:
        raise FunctionError("UniqueField takes a separator, and the number of a field from 0 on")
    kept: dict[str, str] = {}
    for line in text.split("\n"):
        kept.setdefault("".join(line.split(separator)[index : index + 1]), line)
    return "\n".join(kept.values())


@function(params=("string",))
def _systemd_escape(text: str) -> Value:
    return escape(text)


@function(params=("string",))
def _systemd_escape_path(path: str) -> Value:
    return escape_path(path)


_PLAIN: Functions = {
    "basename": _basename,
    "inc": _inc,
    "dec": _dec,
    "UniqueField": _unique_field,
    "SystemdEscape": _systemd_escape,
    "SystemdEscapePath": _systemd_escape_path,
}


FUNCTION_NAMES = frozenset(
    (
        *("Include", "IncludeFrom", "IncludeBlock", "ImportLink", "readlink", "softlink", "file", "abort", "nobackup"),
        "IgnitionJson",
        *_PLAIN,
        *_sprig(datetime.fromtimestamp(0, UTC), UTC),
    )
)
"""All that a template may call, besides Go's own."""
