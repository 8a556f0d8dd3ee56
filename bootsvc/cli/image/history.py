"""`wwctl image history`, `rollback`, `unpin` and `diff`: the generations of an image."""

import os
import stat
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import click
import msgspec

from bootsvc.cli import completion
from bootsvc.cli.command import Invocation, Noun, pass_invocation
from bootsvc.cli.image.formats import dump, format_options, size_text
from bootsvc.cli.image.site import builder, need_root
from bootsvc.cli.image.site import catalog as open_catalog
from bootsvc.cli.image.vocabulary import Vocabulary
from bootsvc.cli.table import table
from images import index as indexes
from images.catalog import Catalog, check_name
from images.diff import Change, Difference, compare
from images.errors import Error
from images.generation import Generation
from images.generations import Built, Generations, ImageNotBuilt, short
from images.rollback import release, roll_back


class GenerationRow(msgspec.Struct, frozen=True, kw_only=True):
    """One generation; `size` is what a node downloads, in bytes, `handed`: when a node was last given it."""

    generation: str
    created: datetime
    size: int
    source: str
    built_by: str
    current: bool
    pinned: bool
    handed: datetime | None


class ChangeRow(msgspec.Struct, frozen=True, kw_only=True):
    """One path; bytes that are not UTF-8, and `\\` itself, are escaped as `\\xNN`. Sizes in bytes."""

    path: str
    aspects: tuple[str, ...] = ()
    size_before: int | None = None
    size: int | None = None


class DifferenceRow(msgspec.Struct, frozen=True, kw_only=True):
    before: str
    after: str
    added: tuple[ChangeRow, ...]
    removed: tuple[ChangeRow, ...]
    changed: tuple[ChangeRow, ...]
    times_only: int


def add_history(group: Noun, words: Vocabulary) -> None:
    @group.command("history", help=f"List what was built of {words.noun} NAME, the newest first.")
    @click.argument("name", shell_complete=completion.images)
    @format_options
    @pass_invocation
    def history(invocation: Invocation, name: str, form: str | None) -> None:
        generations = _generations(open_catalog(invocation.config()), name)
        rows = list(_rows(generations, name))
        if form:
            print(dump(rows, form), end="")
            return
        header = ["GENERATION", "CREATED", "SIZE", "BUILT BY", "SOURCE", "HANDED OUT", "MARKS"]
        print(table(header, (_cells(row) for row in rows)), end="")


def add_rollback(group: Noun, words: Vocabulary) -> None:
    @group.command(
        "rollback",
        help=f"Give nodes an earlier generation of {words.noun} NAME (default: the one before the current one), "
        "and keep it until `unpin`.",
    )
    @click.argument("name", shell_complete=completion.images)
    @click.argument("generation", required=False)
    @pass_invocation
    def rollback(invocation: Invocation, name: str, generation: str | None) -> None:
        generations = _generations(open_catalog(invocation.config()), name)
        chosen = generations.before_current(name) if generation is None else generations.find(name, generation)
        need_root(f"roll back {words.noun} {name!r}")
        roll_back(generations, name, chosen.digest, by=builder(), now=time.time())
        print(f"Nodes of {name} get {_told(chosen)} from now on, and keep it:")
        print(f"builds do not become current until `wwctl {words.noun} unpin {name}`.")


def add_unpin(group: Noun, words: Vocabulary) -> None:
    @group.command("unpin", help=f"End the rollback of {words.noun} NAME: its newest build becomes current.")
    @click.argument("name", shell_complete=completion.images)
    @pass_invocation
    def unpin(invocation: Invocation, name: str) -> None:
        generations = _generations(open_catalog(invocation.config()), name)
        need_root(f"unpin {words.noun} {name!r}")
        generation = release(generations, name)
        print(f"Nodes of {name} get {_told(generations.find(name, generation.digest))} from now on, the newest build.")


def add_diff(group: Noun, words: Vocabulary) -> None:
    @group.command(
        "diff",
        help=f"Show what differs between two generations of {words.noun} NAME (default: the one before, and the current one).",
    )
    @click.argument("name", shell_complete=completion.images)
    @click.argument("before", required=False, metavar="[A]")
    @click.argument("after", required=False, metavar="[B]")
    @format_options
    @pass_invocation
    def diff(invocation: Invocation, name: str, before: str | None, after: str | None, form: str | None) -> None:
        generations = _generations(open_catalog(invocation.config()), name)
        current = generations.current_digest(name) or ""
        old = generations.before_current(name) if before is None else generations.find(name, before)
        new = generations.find(name, current if after is None else after)
        difference = compare(_index(generations, old).entries, _index(generations, new).entries)
        if form:
            print(dump(_difference_row(old, new, difference), form), end="")
            return
        for line in _lines(old, new, difference):
            print(line)


def _generations(catalog: Catalog, name: str) -> Generations:
    """Raises ImageNotFound or ImageNotBuilt."""
    check_name(name)
    generations = catalog.generations
    if not generations.history(name):
        catalog.get(name)
        raise ImageNotBuilt(name)
    return generations


def _rows(generations: Generations, name: str) -> Iterator[GenerationRow]:
    current, pin = generations.current_digest(name), generations.pin(name)
    for built in generations.history(name):
        generation = generations.get(built.digest)
        handed = generations.handed(built.digest)
        yield GenerationRow(
            generation=built.digest,
            created=_moment(built.created),
            size=generation.image_size if generation else 0,
            source=built.reference,
            built_by=built.built_by,
            current=built.digest == current,
            pinned=pin is not None and pin.generation == built.digest,
            handed=None if handed is None else _moment(handed),
        )


def _cells(row: GenerationRow) -> Sequence[str]:
    marks = [word for word, applies in (("current", row.current), ("pinned", row.pinned)) if applies]
    return (
        short(row.generation),
        _time(row.created),
        size_text(row.size),
        row.built_by,
        row.source,
        _time(row.handed) if row.handed else "",
        ", ".join(marks),
    )


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)


def _time(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _told(built: Built) -> str:
    return f"generation {short(built.digest)} of {_time(_moment(built.created))}"


def _index(generations: Generations, built: Built) -> indexes.Index:
    generation: Generation | None = generations.get(built.digest)
    try:
        found = indexes.parse(generation.index_path.read_bytes()) if generation else None
    except FileNotFoundError:
        found = None
    if found is None:
        raise Error(
            f"the index of generation {short(built.digest)} is missing, damaged or of another version",
            hint="generations that are built from now on can be compared",
        )
    return found


def _lines(old: Built, new: Built, difference: Difference) -> Iterator[str]:
    """`+` came, `-` went, `~` changed; how many bytes; which path; and what of it changed."""
    changes = [*difference.added, *difference.removed, *difference.changed]
    for change in sorted(changes, key=lambda change: change.path):
        sign = "+" if change.old is None else "-" if change.new is None else "~"
        yield f"{sign} {_signed(change.growth):>12}  /{escaped(change.path)}{_what(change)}"
    sums = [
        f"{len(group)} {word} ({_signed(sum(change.growth for change in group))})"
        for word, group in (("added", difference.added), ("removed", difference.removed), ("changed", difference.changed))
    ]
    yield f"{short(old.digest)} -> {short(new.digest)}: {', '.join(sums)}"
    if difference.times_only:
        yield f"{difference.times_only} more differ in their modification time only"
    if difference.empty and old.digest != new.digest:
        yield "the trees are the same; bootsvc's own files, the compression or the name of the image differ"


def _signed(growth: int) -> str:
    return ("-" if growth < 0 else "+" if growth > 0 else "") + size_text(abs(growth))


def _what(change: Change) -> str:
    """What of a changed entry changed, with old and new values where they are short."""
    old, new = change.old, change.new
    if old is None or new is None:
        return ""
    values = {
        "mode": f"mode {stat.S_IMODE(old.mode):04o} -> {stat.S_IMODE(new.mode):04o}",
        "owner": f"owner {old.uid}:{old.gid} -> {new.uid}:{new.gid}",
        "target": f"target {escaped(old.target)} -> {escaped(new.target)}",
        "type": f"{_kind(old.mode)} -> {_kind(new.mode)}",
    }
    return f"  ({', '.join(values.get(aspect, aspect) for aspect in change.aspects)})"


_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}


def _kind(mode: int) -> str:
    return _KINDS.get(stat.S_IFMT(mode), "other")


def _difference_row(old: Built, new: Built, difference: Difference) -> DifferenceRow:
    def rows(changes: Sequence[Change]) -> tuple[ChangeRow, ...]:
        return tuple(
            ChangeRow(
                path="/" + escaped(change.path),
                aspects=change.aspects,
                size_before=change.old.size if change.old else None,
                size=change.new.size if change.new else None,
            )
            for change in changes
        )

    return DifferenceRow(
        before=old.digest,
        after=new.digest,
        added=rows(difference.added),
        removed=rows(difference.removed),
        changed=rows(difference.changed),
        times_only=difference.times_only,
    )


def escaped(path: bytes) -> str:
    """A path as one line of text, reversibly: bytes that are no printable UTF-8, and `\\`, as `\\xNN`."""
    if path == b".":
        return ""
    text = os.fsdecode(path)
    return "".join(
        char if char.isprintable() and char != "\\" else "".join(f"\\x{byte:02x}" for byte in os.fsencode(char))
        for char in text
    )
