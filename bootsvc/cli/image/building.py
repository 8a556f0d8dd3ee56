"""`wwctl container build`, and the build that other verbs end with."""

import time

import click
import msgspec

from bootsvc.cli import completion
from bootsvc.cli.command import HintedUsageError, Invocation, Noun, pass_invocation
from bootsvc.cli.image.formats import aside, dump, format_options
from bootsvc.cli.image.progress import job_progress
from bootsvc.cli.image.site import builder, need_root
from bootsvc.cli.image.site import catalog as open_catalog
from bootsvc.cli.image.users import complete_sync, sync_users, syncuser_option
from bootsvc.cli.image.vocabulary import Vocabulary
from bootsvc.cli.terminal import say, warn
from images.catalog import Catalog
from images.generations import short
from images.rebuild import Build, BuildContext, rebuild
from netboot.init_files import own_files


class BuildRow(msgspec.Struct, frozen=True, kw_only=True):
    """What a build made. `current`: what nodes get, another generation while the image is pinned; `size` is what a node
    downloads, in bytes."""

    image: str
    generation: str
    unchanged: bool
    current: str
    size: int
    kernels: tuple[str, ...]
    warnings: tuple[str, ...]


def add_build(group: Noun, words: Vocabulary) -> None:
    @group.command("build", help=f"Build {words.noun}s into what nodes boot.")
    @click.argument("names", nargs=-1, shell_complete=completion.images)
    @click.option("-a", "--all", "every", is_flag=True, help=f"Every {words.noun}.")
    @click.option("-f", "--force", is_flag=True, help="Read and compress everything anew.")
    @syncuser_option
    @format_options
    @pass_invocation
    def build(
        invocation: Invocation, names: tuple[str, ...], every: bool, force: bool, syncuser: bool, form: str | None
    ) -> None:
        catalog = open_catalog(invocation.config())
        if not names and not every:
            raise HintedUsageError(f"no {words.noun} is named", f"name one, or use --all to build every {words.noun}")
        chosen = catalog.names() if every else list(names)
        for name in chosen:
            catalog.get(name)
        need_root(f"build {words.noun}s")
        rows = []
        with aside(form):
            for name in chosen:
                say(f"Building {words.noun}: {name}")
                with catalog.locked(name, holder=f"build {name}"):
                    if syncuser:
                        sync_users(catalog, words, name, invocation.config().paths.sysconfdir)
                    done = run_build(catalog, words, name, force=force)
                if done.unchanged:
                    say(words.current)
                rows.append(_row(name, done))
        if form:
            print(dump(rows, form), end="")


def _row(name: str, done: Build) -> BuildRow:
    made = done.generation
    return BuildRow(
        image=name,
        generation=made.digest,
        unchanged=done.unchanged,
        current=done.pin.generation if done.pin else made.digest,
        size=made.image_size,
        kernels=tuple(kernel.version for kernel in made.manifest.kernels),
        warnings=done.warnings,
    )


def run_build(catalog: Catalog, words: Vocabulary, name: str, *, force: bool = False, examined: bool = False) -> Build:
    """`examined`: the caller has the doctor say what the image lacks, and once is enough."""
    need_root(f"build {name!r}")
    complete_sync(catalog, name)
    context = BuildContext(own=own_files(), built_by=builder(), now=time.time(), force=force)
    with job_progress("compressing") as report:
        done = rebuild(catalog, name, context, report)
    for warning in done.warnings:
        warn(warning)
    if not done.generation.manifest.kernels and not examined:
        warn(f"{name} has no kernel, so no node can boot it", "install a kernel package in it with exec")
    if done.pin is not None and done.pin.generation != done.generation.digest:
        say(
            f"{name} is pinned: nodes still get generation {short(done.pin.generation)}, "
            f"not {short(done.generation.digest)}, until `wwctl {words.noun} unpin {name}`"
        )
    return done
