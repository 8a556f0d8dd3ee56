"""Change single entries of a YAML text and leave every other line as it stands, comments included.

`patch` compares what the text says with what it should say and rewrites only what differs, by line marks. Its result
is a proposal: anchors, merge keys and rare layouts can defeat it, so the caller parses it again and compares.
`emit` writes values so that YAML 1.1 readers (60-based numbers, `no`) and YAML 1.2 readers see the same text.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode, SequenceNode

from bootsvc.yamlfile import TEXT, Item, core_scalar, items

_PLAIN = re.compile(r"[A-Za-z0-9_/.][A-Za-z0-9_/.,:@+*%()=<>~-]*( [A-Za-z0-9_/.,:@+*%()=<>~-]+)*")
"""Text that needs no quotes in block style, unless `: ` or a resolver makes something else of it."""
_resolve_1_1: Callable[..., object] = yaml.resolver.Resolver().resolve
_GO_BOOLS = frozenset(("y", "Y", "n", "N"))
_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]")


class Edit(NamedTuple):
    """Replace text[start:end]."""

    start: int
    end: int
    text: str


def scalar(value: object) -> str:
    """One value on one line: text in quotes only where a reader could take it for something else."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    text = str(value)
    return text if _stays_text(text) else _quoted(text)


def _quoted(text: str) -> str:
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text, ensure_ascii=False))


def _stays_text(text: str) -> bool:
    if not _PLAIN.fullmatch(text) or ": " in text or text.endswith(":") or text in _GO_BOOLS:
        return False
    resolved: object = _resolve_1_1(ScalarNode, text, (True, False))
    return isinstance(core_scalar(text), str) and resolved == TEXT


def emit(value: Any, indent: int = 0) -> str:
    """A mapping or list in block style; two blanks a level, lists indented below their key, as Warewulf writes."""
    pad = " " * indent
    lines: list[str] = []
    if isinstance(value, Mapping):
        for key, member in value.items():
            lines.append(pad + _entry(scalar(str(key)) + ":", member, indent))
    else:
        for member in value:
            body = emit(member, indent + 2) if _is_block(member) else ""
            lines.append(pad + "- " + (body[indent + 2 :] if body else _inline(member) + "\n"))
    return "".join(lines)


def _entry(head: str, member: Any, indent: int) -> str:
    """`key: value` without its indentation."""
    return f"{head}\n{emit(member, indent + 2)}" if _is_block(member) else f"{head} {_inline(member)}\n"


def _is_block(value: Any) -> bool:
    return isinstance(value, Mapping | list | tuple) and bool(value)


def _inline(value: Any) -> str:
    """A value in flow style, on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_flow(str(key))}: {_flow(member)}" for key, member in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return scalar(value)


def _flow(value: Any) -> str:
    """As `_inline`, inside brackets, where a comma ends plain text."""
    return _quoted(value) if isinstance(value, str) and "," in value else _inline(value)


def patch(
    text: str,
    root: MappingNode | None,
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    source: Path,
    *,
    depth: int | None = None,
    renames: Mapping[str, str] = {},
) -> str:
    """`text`, whose top mapping is `root` and means `old`, changed so that it means `new`.

    What stands deeper than `depth` mappings is written anew as a whole when it changes. A key that `renames` names, and
    whose value the new key has unchanged, is renamed where it stands.
    """
    if root is None:
        return _end_line(text) + (emit(new) if new else "")
    if root.flow_style:
        return emit(new)
    edits = _Patcher(text, source, renames).mapping(root, old, new, end=len(text), depth=depth)
    parts: list[str] = []
    position = 0
    for edit in sorted(edits, key=lambda edit: edit.start):
        parts += (text[position : edit.start], edit.text)
        position = edit.end
    return "".join((*parts, text[position:]))


def _end_line(text: str) -> str:
    return text if not text or text.endswith("\n") else text + "\n"


class _Patcher:
    """The edits that turn one text's mappings into others."""

    def __init__(self, text: str, source: Path, renames: Mapping[str, str]) -> None:
        self.text = text
        self.source = source
        self.renames = renames

    def mapping(
        self, node: MappingNode, old: Mapping[str, Any], new: Mapping[str, Any], *, end: int, depth: int | None
    ) -> list[Edit]:
        """Edits inside a block mapping whose text ends at `end`."""
        own = [item for item in items(node, self.source) if not item.merged]
        column = node.start_mark.column
        edits: list[Edit] = []
        known = {item.key for item in own}
        for item, following in zip(own, [*own[1:], None], strict=True):
            limit = self._line_start(following.key_node) if following else end
            limit = self._trim(limit, column, self._content_start(item))
            renamed = self.renames.get(item.key, item.key)
            if item.key not in new and renamed in new and renamed not in known and _same(old[item.key], new[renamed]):
                known.add(renamed)
                edits.append(Edit(item.key_node.start_mark.index, item.key_node.end_mark.index, scalar(renamed)))
            elif item.key not in new:
                edits.append(Edit(self._line_start(item.key_node), limit, ""))
            elif not _same(old.get(item.key), new[item.key]):
                inner = None if depth is None else depth - 1
                edits += self._entry(item, old.get(item.key), new[item.key], end=limit, depth=inner)
        added = {key: member for key, member in new.items() if key not in known and not _same(old.get(key), member)}
        if added:
            edits.append(self._insert(end, emit(added, column)))
        return edits

    def _entry(self, item: Item, old: Any, new: Any, *, end: int, depth: int | None) -> list[Edit]:
        """Edits for one key whose value changes; its text runs from its own line to `end`."""
        node, after_key = item.value, item.key_node.end_mark.index
        column = item.key_node.start_mark.column
        # An alias's node is the one it names, which stands elsewhere.
        in_place = after_key <= node.start_mark.index <= node.end_mark.index and node.start_mark.index < max(end, 1)
        if in_place and depth != 0 and isinstance(node, MappingNode) and not node.flow_style and _is_mapping(new):
            edits = self.mapping(node, old, new, end=end, depth=depth)
            if not new:
                colon = self.text.index(":", after_key) + 1
                edits.append(Edit(colon, colon, " {}"))
            return edits
        if in_place and _is_inline(node):
            start, stop = node.start_mark.index, node.end_mark.index
            if not _is_block(new) or (isinstance(node, SequenceNode) and isinstance(new, list)):
                blank = "" if self.text[start - 1].isspace() else " "
                return [Edit(start, stop, blank + _inline(new))]
            while self.text[start - 1] == " ":
                start -= 1
            return [Edit(start, stop, ""), self._insert(end, emit(new, column + 2))]
        start = item.key_node.start_mark.index
        return [Edit(start, end, _entry(self.text[start:after_key] + ":", new, column))]

    def _insert(self, at: int, lines: str) -> Edit:
        return Edit(at, at, lines if at == 0 or self.text[at - 1] == "\n" else "\n" + lines)

    def _line_start(self, node: Node) -> int:
        return int(node.start_mark.index - node.start_mark.column)

    def _content_start(self, item: Item) -> int:
        """The first place where blank and comment lines after the entry may begin."""
        newline = self.text.find("\n", item.key_node.end_mark.index)
        return len(self.text) if newline < 0 else newline + 1

    def _trim(self, end: int, column: int, start: int) -> int:
        """Leave to the next entry the blank lines before it, and the comments that are not indented deeper."""
        while end > start:
            line_start = self.text.rfind("\n", 0, end - 1) + 1
            line = self.text[line_start:end]
            body = line.lstrip(" ")
            if body.strip() and not (body.startswith("#") and len(line) - len(body) <= column):
                break
            end = line_start
        return max(end, start)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_inline(node: Node) -> bool:
    """A value that stands on one line and can be replaced alone."""
    if isinstance(node, ScalarNode):
        return node.style not in ("|", ">") and bool(node.start_mark.line == node.end_mark.line)
    is_flow = isinstance(node, CollectionNode) and node.flow_style
    return bool(is_flow and node.start_mark.line == node.end_mark.line)


def _same(old: Any, new: Any) -> bool:
    return old is new or (type(old) is type(new) and old == new)
