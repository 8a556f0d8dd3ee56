"""`add`, `set`, `unset` and `delete`, the same for nodes and profiles."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

from bootsvc import changes as edits
from bootsvc import hostlist
from bootsvc.cli import flags
from bootsvc.cli.command import Invocation
from bootsvc.cli.names import NODE, Kind, check_parts
from bootsvc.cli.terminal import confirm
from bootsvc.config import Config
from bootsvc.store import NODES, Snapshot, Store


@click.pass_obj
def add(invocation: Invocation, kind: Kind, /, names: tuple[str, ...], **given: Any) -> None:
    """Add {word}s."""
    flags.require(names, f"no {kind.word} is named", f"such as `wwctl {kind.word} add n1`", click.get_current_context())
    config, expanded, changes = invocation.config(), kind.expand(names), flags.changes(given)
    check_parts(changes, config)
    invocation.store().edit(lambda snapshot: edits.add_entries(snapshot, kind.section, expanded, changes, config))
    for name in expanded:
        print(f"Added {kind.word}: {name}")


@click.pass_obj
def set_(invocation: Invocation, kind: Kind, /, names: tuple[str, ...], yes: bool, every: bool = False, **given: Any) -> None:
    """Change {word}s; what is not named stays, and UNSET as a value removes it."""
    _require(kind, names, every)
    config, store, changes = invocation.config(), invocation.store(), flags.changes(given)
    check_parts(changes, config)
    snapshot = store.load()
    chosen = list(snapshot.entries(kind.section)) if every else kind.existing(kind.expand(names), snapshot)
    _change(kind, store, config, chosen, changes, yes)


@click.pass_obj
def unset(
    invocation: Invocation, kind: Kind, /, names: tuple[str, ...], yes: bool, force: bool, every: bool = False, **given: Any
) -> None:
    """Remove values from {word}s; what profiles say then shows again.

    --netname, --diskname, --partname or --fsname without a field removes all of that network, disk, partition or file
    system.
    """
    _require(kind, names, every)
    config, store, changes = invocation.config(), invocation.store(), flags.removals(given)
    if not changes:
        hint = f"such as `wwctl {kind.word} unset {names[0] if names else 'n1'} --comment`"
        flags.require((), "no fields specified to unset", hint, click.get_current_context())
    snapshot = store.load()
    if every:
        chosen = list(snapshot.entries(kind.section))
    else:
        chosen = kind.existing(kind.expand(names), snapshot, all_of_them=not force)
    changed = _change(kind, store, config, chosen, changes, yes)
    if changed:
        print(f"Successfully unset fields on {kind.count(changed)}")


@click.pass_obj
def delete(invocation: Invocation, kind: Kind, /, names: tuple[str, ...], yes: bool) -> None:
    """Delete {word}s from nodes.conf."""
    hint = f"such as `wwctl {kind.word} delete {'n1' if kind is NODE else 'gpu'}`"
    flags.require(names, f"no {kind.word} is named", hint, click.get_current_context())
    store = invocation.store()
    snapshot = store.load()
    chosen = kind.existing(kind.expand(names), snapshot)
    edits.delete_entries(snapshot, kind.section, chosen)
    if not yes and not confirm(f"Are you sure you want to delete {kind.count(len(chosen))}"):
        print("No changes made!")
        return
    store.edit(lambda current: edits.delete_entries(current, kind.section, chosen))
    for name in chosen:
        print(f"Deleted {kind.word}: {name}")


def _require(kind: Kind, names: tuple[str, ...], every: bool) -> None:
    hint = "name some, or use --all to change all nodes" if kind.section == NODES else "name some"
    flags.require(names or ("",) * every, f"no {kind.word}s specified", hint, click.get_current_context())


def _change(kind: Kind, store: Store, config: Config, chosen: Sequence[str], changes: Sequence[edits.Change], yes: bool) -> int:
    """Show, ask, and make the changes; how many entries were changed."""

    def change(names: Sequence[str]) -> Callable[[Snapshot], Snapshot]:
        return lambda current: edits.set_entries(current, kind.section, names, changes, config)

    if yes:
        # One reading of the file, under the lock: what is printed is what happens.
        found: list[tuple[str, int]] = []

        def note(current: Snapshot) -> Snapshot:
            after = change(chosen)(current)
            found.append((differing(kind, chosen, current, after), len(_changed(kind, chosen, current, after))))
            return after

        store.edit(note)
        text, count = found[0]
        print(f"Applying following changes:\n{text}" if text else "No changes to apply.\n", end="")
        return count
    before = store.load()
    after = change(chosen)(before)
    text = differing(kind, chosen, before, after)
    if not text:
        print("No changes to apply.")
        return 0
    print(text, end="")
    changed = _changed(kind, chosen, before, after)
    if not confirm(f"Apply these changes to {kind.count(len(changed))}"):
        print("No changes made!")
        return 0
    store.edit(change(changed))
    return len(changed)


def _changed(kind: Kind, names: Iterable[str], before: Snapshot, after: Snapshot) -> list[str]:
    old, new = before.entries(kind.section), after.entries(kind.section)
    return [name for name in names if old[name] != new[name]]


def differing(kind: Kind, names: Iterable[str], before: Snapshot, after: Snapshot) -> str:
    """The changes of entries, those with the same ones together; what is missing on one side counts as empty."""
    groups: dict[tuple[str, ...], list[str]] = {}
    old, new = before.entries(kind.section), after.entries(kind.section)
    for name in names:
        changed = edits.differences(old.get(name, {}), new.get(name, {}))
        shown = tuple(f"  {edits.label(one.path)}: {_quote(one.before)} → {_quote(one.after)}\n" for one in changed)
        if shown:
            groups.setdefault(shown, []).append(name)
    return "".join(f"{hostlist.compress(members)}:\n{''.join(shown)}" for shown, members in groups.items())


def _quote(value: Any) -> str:
    if value is None:
        return "<unset>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(map(_quote, value)) + "]"
    return f'"{value}"'
