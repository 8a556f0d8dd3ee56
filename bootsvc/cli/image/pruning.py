"""`wwctl image prune`: remove generations that nobody needs any more."""

import time

import click
import msgspec

from bootsvc.cli import completion
from bootsvc.cli.command import Invocation, Noun, pass_invocation
from bootsvc.cli.image.formats import dump, format_options, size_text
from bootsvc.cli.image.site import catalog as open_catalog
from bootsvc.cli.image.site import need_root
from bootsvc.cli.image.vocabulary import Vocabulary
from images import prune, store_lock
from images.generations import short
from images.prune import KEEP, Plan


class GoneRow(msgspec.Struct, frozen=True, kw_only=True):
    """A generation, and the images that had it in their history."""

    generation: str
    images: tuple[str, ...]


class PruneRow(msgspec.Struct, frozen=True, kw_only=True):
    """What was removed, or with `removed` false, would be; `size` is what becomes free, in bytes."""

    removed: bool
    generations: tuple[GoneRow, ...]
    files: int
    size: int


def add_prune(group: Noun, words: Vocabulary) -> None:
    @group.command(
        "prune",
        help=f"Remove old generations of {words.noun}s (default: of all), and what nothing refers to. Current and pinned "
        "generations stay, and every one that a node was given in the last day.",
    )
    @click.argument("names", nargs=-1, shell_complete=completion.images)
    @click.option("--keep", type=click.IntRange(min=1), default=KEEP, show_default=True, help="The last so many stay, too.")
    @click.option("-n", "--dry-run", is_flag=True, help="Only say what would be removed.")
    @format_options
    @pass_invocation
    def prune_(invocation: Invocation, names: tuple[str, ...], keep: int, dry_run: bool, form: str | None) -> None:
        catalog = open_catalog(invocation.config())
        generations = catalog.generations
        for name in names:
            if name not in generations.images():
                catalog.get(name)
        need_root(f"prune {words.noun}s")
        done = Plan(generations=(), strays=())
        if catalog.provision.is_dir():
            now = time.time()
            with (store_lock.in_use if dry_run else store_lock.alone)(catalog.provision):
                planned = prune.plan(generations, names, keep=keep, now=now)
                done = planned if dry_run else prune.apply(generations, planned, now=now)
        if form:
            print(dump(_row(done, removed=not dry_run), form), end="")
            return
        for doomed in done.generations:
            of = ", ".join(doomed.images) or f"no {words.noun}"
            print(f"{'Would remove' if dry_run else 'Removed'} generation {short(doomed.digest)} of {of}")
        print(_summary(done, "Would remove" if dry_run else "Removed"))


def _row(plan: Plan, *, removed: bool) -> PruneRow:
    gone = tuple(GoneRow(generation=doomed.digest, images=doomed.images) for doomed in plan.generations)
    return PruneRow(removed=removed, generations=gone, files=len(plan.strays), size=plan.size)


def _summary(plan: Plan, verb: str) -> str:
    files = len(plan.strays)
    free = "would be free" if verb != "Removed" else "freed"
    return f"{verb} {_count(len(plan.generations), 'generation')} and {_count(files, 'file')}; {size_text(plan.size)} {free}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
