"""What differs between two generations, by their indexes: content digests and what stat said, never the disk."""

import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from images.index import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One path; `old` is None when it was added, `new` when it was removed; `aspects` say what changed in one that stayed.

    Aspects are `type`, `content`, `target`, `device`, `mode`, `owner` and `xattrs`.
    """

    path: bytes
    old: Entry | None
    new: Entry | None
    aspects: tuple[str, ...] = ()

    @property
    def growth(self) -> int:
        """Bytes of content that came or went."""
        return (self.new.size if self.new else 0) - (self.old.size if self.old else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Changes in path order; `times_only` is how many entries differ in their modification time and nothing else."""

    added: tuple[Change, ...]
    removed: tuple[Change, ...]
    changed: tuple[Change, ...]
    times_only: int

    @property
    def empty(self) -> bool:
        return not (self.added or self.removed or self.changed or self.times_only)


def compare(old: Iterable[Entry], new: Iterable[Entry]) -> Difference:
    """From the entries of one index to those of another."""
    before, after = ({entry.path: entry for entry in entries} for entries in (old, new))
    added = [Change(path=path, old=None, new=entry) for path, entry in after.items() if path not in before]
    removed = [Change(path=path, old=entry, new=None) for path, entry in before.items() if path not in after]
    changed, times_only = [], 0
    for path, now in after.items():
        then = before.get(path)
        if then is None or then == now:
            continue
        aspects = tuple(_aspects(then, now))
        if aspects:
            changed.append(Change(path=path, old=then, new=now, aspects=aspects))
        elif _seconds(then) != _seconds(now):
            times_only += 1
    return Difference(added=tuple(added), removed=tuple(removed), changed=tuple(changed), times_only=times_only)


def _aspects(then: Entry, now: Entry) -> Iterator[str]:
    if stat.S_IFMT(then.mode) != stat.S_IFMT(now.mode):
        yield "type"
    elif now.is_regular and then.digest != now.digest:
        yield "content"
    elif then.target != now.target:
        yield "target"
    elif then.rdev != now.rdev:
        yield "device"
    if stat.S_IMODE(then.mode) != stat.S_IMODE(now.mode):
        yield "mode"
    if (then.uid, then.gid) != (now.uid, now.gid):
        yield "owner"
    if then.xattrs != now.xattrs:
        yield "xattrs"


def _seconds(entry: Entry) -> int:
    """A built image holds whole seconds."""
    return entry.mtime_ns // 1_000_000_000
