"""Values of a node's `disks` and `filesystems`, and of its resources for them, as every tool of storage needs them."""

from collections.abc import Sequence

from netboot.errors import OverlayError
from netboot.node import Disk, Partition


def bad_resource(resource: str, what: str) -> OverlayError:
    return OverlayError(f"the resource {resource} {what}", hint="docs/system-overlays.md shows what each resource holds")


def one_line(value: object, what: str) -> str:
    """As text; raises OverlayError for what would break a line of the tool's input."""
    text = str(value)
    if not text.isprintable():
        raise OverlayError(f"{what} {text!r} has a character that no device or label can have", hint="correct it in nodes.conf")
    return text


def mount_options(given: str | Sequence[str]) -> str:
    """Mount options between commas, whether nodes.conf has text or a list."""
    return (given if isinstance(given, str) else ",".join(given)) or "defaults"


def number(text: str) -> int:
    """0 for what is none."""
    return int(text) if text.isdecimal() else 0


def in_order(disk: Disk) -> list[tuple[str, Partition]]:
    """Name and partition: those with a number in its order, then the others, which the tool numbers."""
    return sorted(disk.partitions.items(), key=lambda row: (number(row[1].number) or 1000, row[0]))
