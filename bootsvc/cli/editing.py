"""`edit`, `export` and `import`: entries of nodes.conf as YAML text, just as the file says them."""

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from bootsvc import changes as edits
from bootsvc import hostlist
from bootsvc.cli.changing import differing
from bootsvc.cli.command import Invocation
from bootsvc.cli.editor import edit_until_fit
from bootsvc.cli.listing import write
from bootsvc.cli.names import Kind, check_entries
from bootsvc.cli.terminal import confirm, warn
from bootsvc.config import Config
from bootsvc.entries import read_entries
from bootsvc.registry import unknown_keys
from bootsvc.store import NODES, PROFILES, Entry, Snapshot, Store
from bootsvc.yamlfile import compose, decode, items
from bootsvc.yamlpatch import emit
from images.errors import Error

Entries = Mapping[str, Entry]

_HEADER = """\
# {count} of nodes.conf. Save and leave the editor to go on; delete a {word} here to delete it, and write a new one to add it.
# Comments made here are not kept; those in nodes.conf are. The fields are:
{fields}
"""


@click.pass_obj
def export(invocation: Invocation, kind: Kind, /, names: tuple[str, ...], form: str | None, merged: bool = False) -> None:
    """Print {word}s as YAML, as `wwctl {word} import` reads them: what nodes.conf says, without what profiles add.

    Warewulf prints nodes with their profiles' values, so that importing them again fixes those in every node; --merged does.
    """
    snapshot = invocation.store().load()
    chosen = kind.existing(kind.expand(names), snapshot) if names else list(snapshot.entries(kind.section))
    entries = snapshot.entries(kind.section)
    if merged:
        from netboot.merge import Merger

        merger = Merger(snapshot.profiles)
        entries = {name: merger.merge(name, entries[name]).entry for name in chosen}
    write({name: entries[name] for name in chosen}, form or "yaml")


@click.pass_obj
def import_(invocation: Invocation, kind: Kind, /, file: str, yes: bool, replace: bool) -> None:
    """Add the {word}s of a YAML or JSON file (- is standard input), and change those that exist already.

    What the file does not say of them stays; with --replace they become just what it says.
    """
    config, store = invocation.config(), invocation.store()
    imported = _entries_of(kind, *_read(file))
    if not imported:
        raise Error(f"{file} names no {kind.word}", hint=f"`wwctl {kind.word} export` shows the form")

    def change(current: Snapshot) -> Snapshot:
        known = current.entries(kind.section)
        entries = {
            name: entry if replace or name not in known else edits.merged_into(known[name], entry)
            for name, entry in imported.items()
        }
        return edits.put_entries(current, kind.section, entries, config)

    before = store.load()
    after = change(before)
    _warn(kind, {name: after.entries(kind.section)[name] for name in imported})
    check_entries(before.entries(kind.section), {name: after.entries(kind.section)[name] for name in imported}, config)
    shown = differing(kind, imported, before, after)
    if not shown and all(name in before.entries(kind.section) for name in imported):
        print("No changes to apply.")
        return
    print(shown, end="")
    if not yes and not confirm(f"Are you sure you want to modify {kind.count(len(imported))}"):
        print("No changes made!")
        return
    store.edit(change)
    print(f"Imported {kind.count(len(imported))}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Edited:
    """What came back from the editor, against what went in."""

    kind: Kind
    before: Entries
    after: Entries

    @property
    def added(self) -> list[str]:
        return [name for name in self.after if name not in self.before]

    @property
    def deleted(self) -> list[str]:
        return [name for name in self.before if name not in self.after]

    @property
    def updated(self) -> list[str]:
        return [name for name in self.after if name in self.before and self.after[name] != self.before[name]]

    def apply(self, current: Snapshot, config: Config) -> Snapshot:
        """The snapshot with the edit; raises Error also when another command changed one of these meanwhile."""
        known, word = current.entries(self.kind.section), self.kind.word
        for name in (*self.deleted, *self.updated):
            if known.get(name) != self.before[name]:
                raise Error(f"the {word} {name!r} was changed while it was being edited", hint="edit it once more")
        for name in self.added:
            if name in known:
                raise Error(f"the {word} {name!r} exists already", hint=f"`wwctl {word} edit {name}` edits it")
        after = edits.delete_entries(current, self.kind.section, self.deleted)
        changed = {name: self.after[name] for name in (*self.updated, *self.added)}
        return edits.put_entries(after, self.kind.section, changed, config)


@click.pass_obj
def edit(invocation: Invocation, kind: Kind, /, names: tuple[str, ...], noheader: bool, yes: bool) -> None:
    """Edit {word}s (none named: all) as YAML in $EDITOR.

    A mistake is shown, and you may go back to the editor.
    """
    config, store = invocation.config(), invocation.store()
    snapshot = store.load()
    chosen = kind.existing(kind.expand(names), snapshot) if names else list(snapshot.entries(kind.section))
    before = {name: snapshot.entries(kind.section)[name] for name in chosen}
    header = "" if noheader else _header(kind, chosen)
    with tempfile.TemporaryDirectory(prefix="wwctl-") as folder:
        path = Path(folder) / f"{kind.word}s.yaml"
        path.write_text(header + (emit(before) if before else "{}\n"))
        edited = edit_until_fit(path, lambda: _read_edited(kind, path, before, snapshot, config))
    if edited is None:
        print("No changes made!")
        return
    if not (edited.added or edited.deleted or edited.updated):
        print("No changes to apply.")
        return
    _warn(kind, {name: edited.after[name] for name in (*edited.updated, *edited.added)})
    _confirm_and_save(edited, store, snapshot, config, yes)


def _confirm_and_save(edited: _Edited, store: Store, snapshot: Snapshot, config: Config, yes: bool) -> None:
    print(differing(edited.kind, (*edited.updated, *edited.added), snapshot, edited.apply(snapshot, config)), end="")
    if edited.deleted:
        print(f"{hostlist.compress(edited.deleted)}: deleted")
    counts = f"add {len(edited.added)}, delete {len(edited.deleted)}, and update {len(edited.updated)} {edited.kind.word}s"
    if not yes and not confirm(f"Are you sure you want to {counts}"):
        print("No changes made!")
        return
    store.edit(lambda current: edited.apply(current, config))


def _read_edited(kind: Kind, path: Path, before: Entries, snapshot: Snapshot, config: Config) -> _Edited:
    """Raises Error when it cannot stand."""
    edited = _Edited(kind=kind, before=before, after=_entries_of(kind, path.read_bytes(), path))
    check_entries(before, edited.after, config)
    edited.apply(snapshot, config)
    return edited


def _header(kind: Kind, names: list[str]) -> str:
    from netboot.fields import Scope, node_fields

    labels = {Scope.NODE: "", Scope.NETWORK: "network devices: NAME: ", Scope.FILESYSTEM: "filesystems: DEVICE: "}
    labels |= {Scope.DISK: "disks: DEVICE: ", Scope.PARTITION: "disks: DEVICE: partitions: LABEL: "}
    fields = (
        f"#   {labels[field.scope]}{': '.join(field.path)}  ({field.help})"
        for field in node_fields()
        if kind.section == NODES or not field.node_only
    )
    return _HEADER.format(count=kind.count(len(names)), word=kind.word, fields="\n".join(fields))


def _read(file: str) -> tuple[bytes, Path]:
    if file == "-":
        return sys.stdin.buffer.read(), Path("standard input")
    try:
        return Path(file).read_bytes(), Path(file)
    except OSError as exc:
        raise Error(f"cannot read {file}: {exc.strerror}", hint="name a file that `export` wrote") from exc


def _entries_of(kind: Kind, data: bytes, source: Path) -> Entries:
    """The entries in a text: by name alone, or as a whole nodes.conf. Raises YamlError."""
    text = decode(data, source)
    document = compose(text, source)
    if document is None:
        return {}
    sections = {item.key: item.value for item in items(document, source)}
    if sections.keys() <= {NODES, PROFILES, "WW_INTERNAL"} and kind.section in sections:
        return read_entries(sections[kind.section], source, kind.section)
    return read_entries(document, source, kind.section)


def _warn(kind: Kind, entries: Entries) -> None:
    for name, entry in entries.items():
        for problem in unknown_keys(f"{kind.word} {name}", entry):
            warn(problem)
