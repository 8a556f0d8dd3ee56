"""The record of an image's extended attributes, and the tool that sets them on the node before its own init starts.

No program that could do this is in every image (setfattr, python3 and perl are each missing somewhere), so one is carried
along: two hundred bytes of machine code without libraries, whose sources are the `.S` files beside this one.
"""

import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

from images.elf import executable
from images.index import Entry
from images.segments import OWN_FOLDER, OwnFile

RECORD = OWN_FOLDER + b"/xattrs"
TOOL = OWN_FOLDER + b"/restore-xattrs"
CODE: Mapping[str, str] = {"amd64": "amd64.hex", "arm64": "arm64.hex"}
"""By OCI architecture: the assembled code, as text, beside its source."""


def record(entries: Iterable[Entry]) -> bytes:
    """For each attribute: PATH NUL NAME NUL, the value's size (32 bits, little-endian), the value."""
    return b"".join(
        b"/%s\0%s\0%s%s" % (entry.path, name, struct.pack("<I", len(value)), value)
        for entry in entries
        for name, value in entry.xattrs
    )


def own_files(entries: Iterable[Entry], architecture: str) -> list[OwnFile]:
    """The record and the tool for segment 0; none when there is nothing to restore, no tool for an unknown architecture."""
    content = record(entries)
    if not content:
        return []
    made = [OwnFile(path=RECORD, mode=0o400, content=content)]
    if architecture in CODE:
        made.append(OwnFile(path=TOOL, mode=0o500, content=executable(architecture, code(architecture))))
    return made


def code(architecture: str) -> bytes:
    """The machine code for a key of CODE."""
    return bytes.fromhex(Path(__file__).with_name(CODE[architecture]).read_text())
