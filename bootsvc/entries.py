"""The entries of nodes.conf, and where each stands in the text, so that one of 10 000 can be changed by reading only
its own lines.

`parse` reads a whole text. `splice` changes entries in windows of lines: the changed entries and a neighbour on either
side, read and patched as a small file of their own, checked, and put back.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yaml.nodes import MappingNode, Node, SequenceNode

from bootsvc.yamlfile import Item, Typing, YamlError, boolean_scalar, compose, core_scalar, items, paused_gc, value
from bootsvc.yamlpatch import patch

Entry = Mapping[str, Any]
"""A node or profile as the file says it: text, lists and mappings; `resources` also holds numbers, and with disks and
file systems booleans."""

PROFILES, NODES = "nodeprofiles", "nodes"
SECTIONS = (PROFILES, NODES)

_TYPED: Mapping[str, Typing] = {"resources": core_scalar, "disks": boolean_scalar, "filesystems": boolean_scalar}
"""Where an entry holds more than text."""

_ALIAS = re.compile(r"[\s\[{,:]\*\S")
"""What an alias looks like; other text may too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """Where the entries of one section stand, in characters of the text, in the order of the file."""

    starts: Sequence[int]
    """The beginning of the line with each entry's name; an entry ends where the next begins."""
    end: int
    """The end of the last entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """One text of nodes.conf; `marks` lacks a section that is absent, empty, or written in a rare layout."""

    nodes: Mapping[str, Entry] = field(default_factory=dict)
    profiles: Mapping[str, Entry] = field(default_factory=dict)
    marks: Mapping[str, Marks] = field(default_factory=dict)

    def section(self, name: str) -> Mapping[str, Entry]:
        return self.nodes if name == NODES else self.profiles


def parse(text: str, source: Path) -> tuple[MappingNode | None, Parsed]:
    """The document and what it says of nodes and profiles; raises YamlError."""
    with paused_gc():
        document = compose(text, source)
        return document, read(document, text, source)


def read(document: MappingNode | None, text: str, source: Path) -> Parsed:
    """What a document says, with marks where entries can be changed alone."""
    sections: dict[str, Mapping[str, Entry]] = {NODES: {}, PROFILES: {}}
    marks: dict[str, Marks] = {}
    plain = document is not None and not document.flow_style and not _has_alias(document, text)
    for section in items(document, source) if document else []:
        if section.key not in sections:
            continue
        entries = items(section.value, source, section.key)
        sections[section.key] = read_entries(section.value, source, section.key)
        found = _marks(section.value, entries, text) if plain else None
        if found:
            marks[section.key] = found
    return Parsed(nodes=sections[NODES], profiles=sections[PROFILES], marks=marks)


def read_entries(node: Node, source: Path, section: str) -> Mapping[str, Entry]:
    """The entries of a section, by name; raises YamlError."""
    return {
        entry.key: {
            member.key: value(member.value, source, typing=_TYPED.get(member.key))
            for member in items(entry.value, source, f"{section}.{entry.key}")
        }
        for entry in items(node, source, section)
    }


def _marks(section: Any, entries: Sequence[Item], text: str) -> Marks | None:
    """The marks of a section in block style whose names each begin a line."""
    if not entries or not isinstance(section, MappingNode) or section.flow_style:
        return None
    starts = []
    for entry in entries:
        mark = entry.key_node.start_mark
        start = mark.index - mark.column
        if entry.merged or not mark.column or text[start : mark.index].strip(" "):
            return None
        starts.append(start)
    end = section.end_mark
    return Marks(starts=starts, end=end.index) if end.column == 0 or end.index == len(text) else None


def _has_alias(document: MappingNode, text: str) -> bool:
    """Whether some node stands in two places."""
    if not _ALIAS.search(text):
        return False
    seen: set[int] = set()
    waiting: list[Node] = [document]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            return True
        seen.add(id(node))
        if isinstance(node, SequenceNode):
            waiting += node.value
        elif isinstance(node, MappingNode):
            waiting += (part for pair in node.value for part in pair)
    return False


def splice(text: str, before: Parsed, after: Mapping[str, Mapping[str, Entry]], source: Path) -> tuple[str, Parsed] | None:
    """`text`, which says `before`, changed so that it says `after` (by section), and that text's own parse.

    None when it cannot be done in windows: the whole has to be read then.
    """
    edits: list[_Window] = []
    for name in SECTIONS:
        if after[name] == before.section(name):
            continue
        if name not in before.marks:
            return None
        for lo, hi in _ranges(before.section(name), after[name]):
            window = _patched(text, name, before, after[name], lo, hi, source)
            if window is None:
                return None
            edits.append(window)
    edits.sort(key=lambda edit: edit.start)
    parts: list[str] = []
    position = 0
    for edit in edits:
        parts += (text[position : edit.start], edit.text)
        position = edit.end
    marks = {name: _shifted(marks, edits, name) for name, marks in before.marks.items()}
    # The order of `after` may differ from the file's, by which the marks go.
    sections = {name: _in_file_order(before.section(name), after[name]) for name in SECTIONS}
    result = Parsed(nodes=sections[NODES], profiles=sections[PROFILES], marks=marks)
    return "".join((*parts, text[position:])), result


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    """New lines for the entries `lo` to `hi` of a section; `starts` are offsets in `text`."""

    section: str
    lo: int
    hi: int
    start: int
    end: int
    text: str
    starts: Sequence[int]


def _ranges(before: Mapping[str, Entry], after: Mapping[str, Entry]) -> Iterator[tuple[int, int]]:
    """Changed entries with their neighbours, as index ranges that do not touch; what is added goes with the last."""
    changed = [
        index for index, (name, entry) in enumerate(before.items()) if (new := after.get(name)) is not entry and new != entry
    ]
    last = len(before) - 1
    if any(name not in before for name in after) and last not in changed:
        changed.append(last)
    lo = hi = -2
    for index in changed:
        if index - 1 > hi:
            if hi >= 0:
                yield lo, min(hi, last)
            lo = max(0, index - 1)
        hi = index + 1
    if hi >= 0:
        yield lo, min(hi, last)


def _patched(
    text: str, section: str, before: Parsed, after: Mapping[str, Entry], lo: int, hi: int, source: Path
) -> _Window | None:
    """The window with its changes, verified; None when patching it alone does not do."""
    marks, entries = before.marks[section], before.section(section)
    names = list(entries)
    end = marks.starts[hi + 1] if hi + 1 < len(names) else marks.end
    old = {name: entries[name] for name in names[lo : hi + 1]}
    new = {name: after[name] for name in old if name in after}
    if hi == len(names) - 1:
        new |= {name: entry for name, entry in after.items() if name not in entries}
    head = f"{section}:\n"
    window = head + text[marks.starts[lo] : end]
    try:
        document = compose(window, source)
        for depth in (None, 2):
            changed = patch(window, document, {section: old}, {section: new}, source, depth=depth)
            _, parsed = parse(changed, source)
            found = parsed.marks.get(section)
            same = list(parsed.section(section).items()) == list(new.items())
            if same and found and found.end == len(changed) and changed.startswith(head):
                break
        else:
            return None
    except (YamlError, ValueError):
        return None
    if end < len(text) and not changed.endswith("\n"):
        return None
    starts = [start - len(head) for start in found.starts]
    return _Window(section=section, lo=lo, hi=hi, start=marks.starts[lo], end=end, text=changed[len(head) :], starts=starts)


def _shifted(marks: Marks, edits: Sequence[_Window], section: str) -> Marks:
    """The marks of a section after the edits, which are sorted and of all sections."""
    starts: list[int] = []
    shift = position = 0
    for edit in edits:
        if edit.section == section:
            starts += (start + shift for start in marks.starts[position : edit.lo])
            starts += (edit.start + shift + start for start in edit.starts)
            position = edit.hi + 1
        elif edit.start >= marks.end:
            break
        shift += len(edit.text) - (edit.end - edit.start)
    starts += (start + shift for start in marks.starts[position:])
    return Marks(starts=starts, end=marks.end + shift)


def _in_file_order(before: Mapping[str, Entry], after: Mapping[str, Entry]) -> Mapping[str, Entry]:
    kept = {name: after[name] for name in before if name in after}
    return kept | {name: entry for name, entry in after.items() if name not in before}
