"""The parsed cache of nodes.conf: what `entries.parse` found in a text, kept beside the server's state.

It is keyed by the text itself (its SHA-256, a few milliseconds for 10 000 nodes, where parsing takes seconds), so that it
cannot be stale whatever became of the file's times. Each entry is packed alone: decoding them one by one never holds
other threads up. A cache that is missing, damaged, another user's or of another format is as good as none.
"""

import contextlib
import hashlib
import logging
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from bootsvc.entries import SECTIONS, Entry, Marks, Parsed
from bootsvc.yamlfile import paused_gc

log = logging.getLogger(__name__)

_MAGIC = b"bootsvc nodes 2\n"
"""Changes with the format, and with what `entries.parse` makes of a text."""
_DIGEST = hashlib.sha256().digest_size


class _Section(msgspec.Struct, array_like=True):
    names: list[str]
    entries: list[msgspec.Raw]
    starts: list[int] | None
    """None when the section has no marks."""
    end: int


_decode_sections = msgspec.msgpack.Decoder(dict[str, _Section]).decode
_decode_entry = msgspec.msgpack.Decoder(dict).decode


def pack(data: bytes, parsed: Parsed) -> bytes:
    """The cache for the file's bytes `data`; raises ValueError for what msgpack cannot hold."""
    try:
        body = msgspec.msgpack.encode({name: _section(parsed.section(name), parsed.marks.get(name)) for name in SECTIONS})
    except OverflowError as exc:
        raise ValueError("a number does not fit in 64 bits") from exc
    return b"".join((_MAGIC, hashlib.sha256(data).digest(), hashlib.sha256(body).digest(), body))


def _section(entries: Mapping[str, Entry], marks: Marks | None) -> _Section:
    encode = msgspec.msgpack.Encoder().encode
    return _Section(
        names=list(entries),
        entries=[msgspec.Raw(encode(entry)) for entry in entries.values()],
        starts=list(marks.starts) if marks else None,
        end=marks.end if marks else 0,
    )


def is_of(packed: bytes, data: bytes) -> bool:
    """Whether the cache is of the file's bytes `data`, and whole."""
    body_at = len(_MAGIC) + 2 * _DIGEST
    if not packed.startswith(_MAGIC + hashlib.sha256(data).digest()):
        return False
    return hashlib.sha256(packed[body_at:]).digest() == packed[body_at - _DIGEST : body_at]


def unpack(packed: bytes, data: bytes) -> Parsed | None:
    """What the cache says of the file's bytes `data`, or None when it is of other bytes, or damaged."""
    if not is_of(packed, data):
        return None
    try:
        with paused_gc():
            sections = _decode_sections(packed[len(_MAGIC) + 2 * _DIGEST :])
            entries = {
                name: {
                    key: _decode_entry(entry) for key, entry in zip(sections[name].names, sections[name].entries, strict=True)
                }
                for name in SECTIONS
            }
    except (msgspec.MsgspecError, ValueError, KeyError):
        return None
    marks = {name: Marks(starts=one.starts, end=one.end) for name, one in sections.items() if one.starts}
    nodes, profiles = entries["nodes"], entries["nodeprofiles"]
    return Parsed(nodes=nodes, profiles=profiles, marks=marks)


def read(path: Path) -> bytes:
    """The cache file's bytes; none when there is no file that we may trust."""
    try:
        with path.open("rb") as file:
            owner = os.fstat(file.fileno()).st_uid
            return file.read() if owner in (0, os.geteuid()) else b""
    except OSError:
        return b""


def write(path: Path, packed: bytes) -> None:
    """Put the cache in its place at once, readable by its owner only; failing is no error."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    except OSError as exc:
        log.debug("no cache at %s: %s", path, exc)
        return
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(packed)
        os.replace(name, path)
    except OSError as exc:
        log.debug("no cache at %s: %s", path, exc)
        with contextlib.suppress(OSError):
            os.unlink(name)
