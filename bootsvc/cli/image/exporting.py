"""`wwctl image export`: what nodes boot, as one file for any boot loader."""

import sys
from pathlib import Path

import click

from bootsvc.cli import completion
from bootsvc.cli.command import HintedUsageError, Invocation, Noun, pass_invocation
from bootsvc.cli.image.formats import size_text
from bootsvc.cli.image.progress import job_progress
from bootsvc.cli.image.site import catalog as open_catalog
from bootsvc.cli.image.site import need_root
from bootsvc.cli.image.vocabulary import Vocabulary
from images import store_lock
from images.catalog import Catalog, check_name
from images.export import export, initramfs
from images.generation import Generation
from images.generations import ImageNotBuilt, short


def add_export(group: Noun, words: Vocabulary) -> None:
    @group.command("export", help=f"Write {words.noun} NAME to FILE as one initramfs; - is standard output.")
    @click.argument("name", shell_complete=completion.images)
    @click.argument("file")
    @click.option("-g", "--generation", metavar="GENERATION", help="Another one than the current generation.")
    @click.option("-f", "--force", is_flag=True, help="Replace FILE.")
    @pass_invocation
    def export_(invocation: Invocation, name: str, file: str, generation: str | None, force: bool) -> None:
        catalog = open_catalog(invocation.config())
        if file == "-" and sys.stdout.isatty():
            raise HintedUsageError("an initramfs is nothing for a terminal", "name a file, or redirect standard output")
        _choose(catalog, name, generation)
        need_root(f"export {words.noun} {name!r}")
        with store_lock.in_use(catalog.provision):
            chosen = _choose(catalog, name, generation)
            with job_progress("writing") as report:
                if file == "-":
                    for chunk in initramfs(chosen, report):
                        sys.stdout.buffer.write(chunk)
                    sys.stdout.buffer.flush()
                    return
                size = export(chosen, Path(file), force=force, report=report)
        print(f"Exported generation {short(chosen.digest)} of {name} to {file} ({size_text(size)})")


def _choose(catalog: Catalog, name: str, wanted: str | None) -> Generation:
    check_name(name)
    generations = catalog.generations
    found = generations.current(name) if wanted is None else generations.get(generations.find(name, wanted).digest)
    if found is None:
        catalog.get(name)
        raise ImageNotBuilt(name)
    return found
