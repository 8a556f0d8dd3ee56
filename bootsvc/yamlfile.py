"""YAML files that people edit: parsed with YAML 1.2's idea of plain text, places kept for errors and for patching.

Everything is text unless the caller asks for types: `52:54:00:12:34:56`, `12:30`, `no`, `0755` and `5.10` mean what
they look like. Only null (`~`, `null`, nothing) is not text. Duplicate keys are refused, merge keys (`<<`) are
applied, and what aliases repeat is bounded (a few lines can otherwise mean 10^9 values).
"""

import errno
import gc
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from images.errors import Error

MAX_SIZE = 128 << 20
"""Bytes of a file; 10 000 nodes take some 5 MB."""
MAX_REPEATED = 1_000_000
"""Values that aliases may repeat in one file."""

TAG = "tag:yaml.org,2002:"
NULL, TEXT, MERGE = TAG + "null", TAG + "str", TAG + "merge"
_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_KNOWN_TAGS = frozenset(TAG + kind for kind in ("null", "str", "merge", "bool", "int", "float", "map", "seq"))

_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_OCTAL = re.compile(r"[-+]?0[0-7]+")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


_HINTS = {
    "did not find expected node content": "a value or a bracket is missing here, or on the lines before",
    "did not find expected ',' or ']'": "a list that begins with [ must end with ], with commas between its members",
    "did not find expected ',' or '}'": "a mapping that begins with { must end with }, with commas between its members",
    "did not find expected key": "give all keys of one mapping the same indentation",
    "did not find expected '-' indicator": "give all members of one list the same indentation",
    "could not find expected ':'": "each key stands on its own line and ends with a colon: `comment: text`",
    "found unexpected end of stream": "a quotation mark is opened on a line before and never closed",
    "found undefined alias": "quote text that begins with *, or name an &anchor that stands before it",
    "but found another document": "keep all in one document, without a second `---`",
    "control characters are not allowed": "take the character out; text in double quotes may say it as \\x00",
    "found character that cannot start any token": "indent with blanks, never with tabs, and quote text that"
    " begins with @ or `",
    "mapping values are not allowed in this context": "put text that contains ': ' in quotes",
}


def _hint(line: int) -> str:
    return f"correct line {line} with an editor; nothing is changed until then"


class YamlError(Error):
    """A file that cannot be used as it is, with the place: line and column count from 1."""

    def __init__(self, source: Path, line: int, column: int, reason: str, *, key: str = "", hint: str | None = None) -> None:
        where = f" {key}:" if key else ""
        super().__init__(f"{source}:{line}:{column}:{where} {reason}", hint=hint or _hint(line))
        self.source, self.line, self.column, self.key = source, line, column, key


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a mapping; `merged` when it came through a merge key and so has no text of its own."""

    key: str
    key_node: Node
    value: Node
    merged: bool = False

    @property
    def line(self) -> int:
        return int(self.key_node.start_mark.line) + 1


class _Loader(yaml.CSafeLoader):
    """libyaml's parser; a plain scalar is text, null or a merge key."""

    def resolve(self, kind: type[Node], value: str | None, implicit: Any) -> str:
        if kind is ScalarNode:
            if implicit[0] and value in _NULLS:
                return NULL
            return MERGE if implicit[0] and value == "<<" else TEXT
        return TAG + ("map" if kind is MappingNode else "seq")


@contextmanager
def paused_gc() -> Iterator[None]:
    """Parse without Python's cycle collector: it takes three quarters of the time and finds nothing in trees."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def compose(text: str, source: Path) -> MappingNode | None:
    """The file's one top-level mapping, or None when it holds nothing; raises YamlError."""
    try:
        root = _Loader(text).get_single_node()
    except yaml.reader.ReaderError as exc:
        before = text[: exc.position]
        column = len(before) - (before.rfind("\n") + 1) + 1
        raise YamlError(source, before.count("\n") + 1, column, f"not YAML: {exc.reason}", hint=_HINTS.get(exc.reason)) from exc
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise YamlError(source, line, column, f"not YAML: {exc.problem}", hint=_HINTS.get(str(exc.problem))) from exc
    except RecursionError as exc:
        raise YamlError(source, 1, 1, "nested too deeply") from exc
    if root is None or (isinstance(root, ScalarNode) and root.tag == NULL):
        return None
    if not isinstance(root, MappingNode):
        raise error(source, root, "expected keys and values here", hint="a line such as `nodes:` begins the file")
    _check_aliases(root, source)
    return root


def error(source: Path, node: Node, reason: str, *, key: str = "", hint: str | None = None) -> YamlError:
    """A YamlError at the place of `node`."""
    return YamlError(source, node.start_mark.line + 1, node.start_mark.column + 1, reason, key=key, hint=hint)


def read_text(path: Path) -> str:
    """A file's text without a byte order mark; raises YamlError for bytes that are not UTF-8, and as `read_bytes`."""
    return decode(read_bytes(path), path)


def read_bytes(path: Path) -> bytes:
    """A file's bytes. Raises Error for what would never end or never come, a pipe or /dev/zero say; and OSError."""
    # A pipe without a writer would wait for one in open().
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISCHR(mode)):
            if stat.S_ISDIR(mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
            raise Error(f"{path} is no ordinary file", hint="name a file that stays, not a pipe or a socket")
        data = file.read(MAX_SIZE + 1) or b""
        if len(data) > MAX_SIZE:
            raise Error(f"{path} is larger than {MAX_SIZE >> 20} MiB, which no configuration is", hint="name another file")
        return data


def decode(data: bytes, source: Path) -> str:
    """The text of a file's bytes, as `read_text`."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        before = data[: exc.start]
        column = exc.start - (before.rfind(b"\n") + 1) + 1
        raise YamlError(
            source, before.count(b"\n") + 1, column, f"byte 0x{data[exc.start]:02x} is not UTF-8", hint="save it as UTF-8"
        ) from exc


def items(node: Node, source: Path, key: str = "") -> list[Item]:
    """The entries of a mapping (none for null), merge keys applied; raises YamlError for a duplicate key."""
    if node.tag == NULL:
        return []
    if not isinstance(node, MappingNode):
        raise error(source, node, "expected keys and values here", key=key, hint="each on a line of its own: `key: value`")
    own: dict[str, Item] = {}
    merged: dict[str, Item] = {}
    for key_node, value in node.value:
        if key_node.tag == MERGE:
            for item in _merge_sources(value, source):
                merged.setdefault(item.key, item)
            continue
        if not isinstance(key_node, ScalarNode):
            raise error(source, key_node, "a key must be text", key=key)
        name = key_node.value
        if name in own:
            raise error(
                source,
                key_node,
                f"the key {name!r} stands here twice, first on line {own[name].line}",
                key=key,
                hint="join the two, or remove one",
            )
        own[name] = Item(key=name, key_node=key_node, value=value)
    return [*own.values(), *(item for name, item in merged.items() if name not in own)]


def _merge_sources(value: Node, source: Path) -> list[Item]:
    nodes = value.value if isinstance(value, SequenceNode) else [value]
    found: list[Item] = []
    for node in nodes:
        if not isinstance(node, MappingNode):
            raise error(source, node, "only a mapping can be merged with <<", hint="such as `<<: *name`")
        found += (Item(key=item.key, key_node=item.key_node, value=item.value, merged=True) for item in items(node, source))
    return found


Typing = Callable[[str], Any]
"""What plain text without quotes means; by default text, whatever it looks like."""


def value(node: Node, source: Path, *, typing: Typing | None = None) -> Any:
    """Plain Python values: text, None, lists and mappings, and what `typing` makes of plain text."""
    if isinstance(node, ScalarNode):
        if node.tag not in _KNOWN_TAGS:
            raise error(source, node, f"the tag {node.tag!r} is not supported")
        if node.tag == NULL:
            return None
        plain = not node.style and node.tag != MERGE
        return typing(node.value) if typing and plain else node.value
    if node.tag not in _KNOWN_TAGS:
        raise error(source, node, f"the tag {node.tag!r} is not supported")
    if isinstance(node, SequenceNode):
        return [value(member, source, typing=typing) for member in node.value]
    return {item.key: value(item.value, source, typing=typing) for item in items(node, source)}


def boolean_scalar(text: str) -> str | bool:
    """Text that stays text, but for the booleans of YAML 1.1, which are those of Warewulf's reader."""
    lower = text.lower()
    return lower in ("true", "yes", "on") if lower in ("true", "false", "yes", "no", "on", "off") else text


def core_scalar(text: str) -> str | int | float | bool | None:
    """A plain scalar as YAML 1.2's core schema reads it (§10.3.2), but 0755 is the octal number that everybody means,
    YAML 1.1 and Warewulf's reader too."""
    if text in _NULLS:
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    if _OCTAL.fullmatch(text):
        return int(text, 8)
    if _INT.fullmatch(text):
        return int(text[2:], 8) if text.startswith("0o") else int(text, 16 if text.startswith("0x") else 10)
    if _FLOAT.fullmatch(text):
        return float(text.replace(".", "", 1) if text.lstrip("-+")[:2].lower() in (".i", ".n") else text)
    return text


def _check_aliases(root: Node, source: Path) -> None:
    """Refuse an alias inside what it names, and files whose aliases repeat too much."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()
    repeated = 0

    def size(node: Node) -> int:
        nonlocal repeated
        known = sizes.get(id(node))
        if known is not None:
            repeated += known
            if repeated > MAX_REPEATED:
                raise error(source, node, "aliases repeat this too often", hint="write the values out")
            return known
        if isinstance(node, ScalarNode):
            sizes[id(node)] = 1
            return 1
        if id(node) in open_nodes:
            raise error(source, node, "this contains an alias of itself", hint="write the values out")
        open_nodes.add(id(node))
        members = node.value if isinstance(node, SequenceNode) else [part for pair in node.value for part in pair]
        total = 1 + sum(map(size, members))
        open_nodes.discard(id(node))
        sizes[id(node)] = total
        return total

    size(root)
