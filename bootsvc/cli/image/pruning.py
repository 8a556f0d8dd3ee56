"""`wwctl image prune`: remove generations that nobody needs any more."""

import contextlib
import time

import click

from bootsvc.cli import completion
from bootsvc.cli.command import Invocation, Noun, pass_invocation
from bootsvc.cli.image.formats import size_text
from bootsvc.cli.image.site import catalog as open_catalog
from bootsvc.cli.image.site import need_root
from bootsvc.cli.image.vocabulary import Vocabulary
from images import prune, store_lock
from images.generations import short
from images.prune import KEEP, Plan


def add_prune(group: Noun, words: Vocabulary) -> None:
    @group.command(
        "prune",
        help=f"Remove old generations of {words.noun}s (default: of all), and what nothing refers to. Current and pinned "
        "generations stay, and every one that a node was given in the last day.",
    )
    @click.argument("names", nargs=-1, shell_complete=completion.images)
    @click.option("--keep", type=click.IntRange(min=1), default=KEEP, show_default=True, help="The last so many stay, too.")
    @click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
    @pass_invocation
    def prune_(invocation: Invocation, names: tuple[str, ...], keep: int, dry_run: bool) -> None:
        catalog = open_catalog(invocation.config())
        generations = catalog.generations
        for name in names:
            if name not in generations.images():
                catalog.get(name)
        need_root(f"prune {words.noun}s")
        if not catalog.provision.is_dir():
            print(_summary(Plan(generations=(), strays=()), "Removed"))
            return
        now = time.time()
        with contextlib.ExitStack() as held:
            held.enter_context((store_lock.in_use if dry_run else store_lock.alone)(catalog.provision))
            planned = prune.plan(generations, names, keep=keep, now=now)
            done = planned if dry_run else prune.apply(generations, planned, now=now)
        for doomed in done.generations:
            of = ", ".join(doomed.images) or f"no {words.noun}"
            print(f"{'Would remove' if dry_run else 'Removed'} generation {short(doomed.digest)} of {of}")
        print(_summary(done, "Would remove" if dry_run else "Removed"))


def _summary(plan: Plan, verb: str) -> str:
    files = len(plan.strays)
    free = "would be free" if verb != "Removed" else "freed"
    return f"{verb} {_count(len(plan.generations), 'generation')} and {_count(files, 'file')}; {size_text(plan.size)} {free}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
