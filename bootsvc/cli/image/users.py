"""Users of an image get the ids of this server: what `syncuser`, and the `--syncuser` of other verbs, do and say."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bootsvc.cli.image.vocabulary import Vocabulary
from bootsvc.cli.terminal import say, warn
from images.catalog import Catalog

if TYPE_CHECKING:
    # Imported when users are synchronized, which most builds do not ask for.
    from images.ownership import Synchronization
    from images.syncuser import Move

syncuser_option = click.option("--syncuser", is_flag=True, help="Give users and groups the ids that they have on this server.")


def sync_users(catalog: Catalog, words: Vocabulary, name: str, sysconfdir: Path, *, write: bool = True) -> None:
    """Synchronize, and say so in Warewulf's words; the caller holds the image's lock. Raises Error."""
    from images.ownership import synchronize

    done = synchronize(catalog, name, sysconfdir, write=write)
    for text in done.comparison.warnings:
        warn(text)
    for line in report(done):
        say(line)
    if not done.plan:
        say("uid/gid already synced")
    elif write:
        say(f"uid/gid synced for {words.noun} {name}")
    else:
        command = f"wwctl {words.noun} syncuser --write=true {name}"
        say(f"uid/gid not synced: run `{command}` to synchronize")


def complete_sync(catalog: Catalog, name: str) -> None:
    """Make good a synchronization that was interrupted, before anything else reads or changes the tree; the caller holds the
    image's lock. Raises Error."""
    if not catalog.sync_plan_path(name).exists():
        return
    from images.ownership import finish

    if finish(catalog, name):
        warn(f"{name}: completed a synchronization of users that was interrupted")


def report(done: "Synchronization") -> list[str]:
    """One line for each id that changes, and one for what is added."""
    moves, added = done.comparison.moves, done.comparison.added
    lines = [f"{move.kind} {move.name}: {move.old} → {move.new}" for move in moves]
    if added:
        lines.append(f"added: {', '.join(map(_described, added))}")
    if done.plan.entries:
        lines.append(f"files and folders that change hands: {len(done.plan.entries)}")
    return lines


def _described(move: "Move") -> str:
    return f"{move.kind} {move.name} ({move.new})"
