"""`wwctl container import`."""

import asyncio
import os
from pathlib import Path

import click
import msgspec

from bootsvc.cli import completion
from bootsvc.cli.command import HintedUsageError, Invocation, Noun, pass_invocation
from bootsvc.cli.image.formats import aside, dump, format_options
from bootsvc.cli.image.import_progress import import_progress
from bootsvc.cli.image.site import catalog as open_catalog
from bootsvc.cli.image.site import need_root
from bootsvc.cli.image.users import sync_users, syncuser_option
from bootsvc.cli.image.vocabulary import Vocabulary
from bootsvc.cli.loading import load
from bootsvc.cli.terminal import say
from bootsvc.config import Config
from images.catalog import Catalog, ImageExists, check_name
from images.importer import Imported, Mode, import_image, update_resolv_conf
from images.manifest import Platform
from images.progress import ArchiveUnpacking, Event, LayerUnpacking, Progress
from images.source.scheme import SourceOptions, open_source

HOST_RESOLV_CONF = Path("/etc/resolv.conf")
_HELP = """Import SOURCE as {noun} NAME.

SOURCE is docker://[HOST[:PORT]/]NAME[:TAG], docker-daemon://NAME[:TAG], oci:DIR[:TAG], oci-archive:FILE[:TAG],
docker-archive:FILE[:NAME], or a path: a directory, an image's archive, a root file system as tar (also compressed), a SIF or
squashfs file.
"""


class ImportRow(msgspec.Struct, frozen=True, kw_only=True):
    """What was imported. `digest` tells one state of the source from another, where it has one; `current` is the generation
    that nodes get, None for an image that was never built."""

    image: str
    unchanged: bool
    source: str
    digest: str | None
    architecture: str | None
    current: str | None


def add_import(group: Noun, words: Vocabulary) -> None:
    @group.command("import", help=_HELP.format(noun=words.noun))
    @click.argument("source")
    @click.argument("name", required=False, shell_complete=completion.images)
    @click.option("-f", "--force", is_flag=True, help=f"Replace the {words.noun} that has this name.")
    @click.option("-u", "--update", is_flag=True, help="Replace it if the source has changed since.")
    @click.option("-b", "--build", is_flag=True, help="Build it afterwards.")
    @syncuser_option
    @click.option("--nohttps", is_flag=True, help="Allow plain http, and certificates that nobody vouches for.")
    @click.option("--username", help="User name at the registry.")
    @click.option("--password", "--passwd", help="Password at the registry.")
    @click.option(
        "--platform",
        "--arch",
        metavar="OS/ARCH[/VARIANT]",
        help="Which platform of a multi-platform image (default: this machine's).",
    )
    @format_options
    @pass_invocation
    def import_(
        invocation: Invocation,
        source: str,
        name: str | None,
        force: bool,
        update: bool,
        build: bool,
        syncuser: bool,
        form: str | None,
        **options: object,
    ) -> None:
        if force and update:
            raise HintedUsageError("--force and --update exclude each other", "--force replaces always, --update if needed")
        config = invocation.config()
        catalog = open_catalog(config)
        mode = Mode.REPLACE if force else Mode.UPDATE if update else Mode.NEW
        if name is not None:
            _check_target(catalog, name, mode)
        opened = open_source(source, _source_options(config, options))
        with aside(form):
            if name is None:
                name = opened.default_name
                _check_target(catalog, name, mode)
                say(f"Setting {words.noun} name: {name}")
            need_root(f"import {words.noun} {name!r}")
            with import_progress() as report:
                done = asyncio.run(import_image(catalog, name, opened, _loading_meanwhile(report), mode=mode))
            try:
                _finish(invocation, catalog, words, name, done, build=build, syncuser=syncuser)
            finally:
                # Nobody needs to wait for the tree that was replaced to be gone.
                catalog.remove_abandoned()
        if form:
            print(dump(_row(catalog, name, done), form), end="")


def _loading_meanwhile(report: Progress) -> Progress:
    """Loads what examines the image, too, while other processes unpack it: until then this one has more urgent things to do."""

    def tell(event: Event) -> None:
        report(event)
        if isinstance(event, LayerUnpacking | ArchiveUnpacking):
            load("bootsvc.cli.image.doctor")
            load("bootsvc.registry")

    return tell


def _row(catalog: Catalog, name: str, done: Imported) -> ImportRow:
    current = catalog.current(name)
    return ImportRow(
        image=name,
        unchanged=done.unchanged,
        source=done.provenance.reference,
        digest=done.provenance.digest,
        architecture=done.provenance.architecture,
        current=None if current is None else current.digest,
    )


def _check_target(catalog: Catalog, name: str, mode: Mode) -> None:
    """What can be said before a source is looked at."""
    check_name(name)
    catalog.check_place(name)
    if mode is Mode.NEW and catalog.exists(name):
        raise ImageExists(name)


def _finish(
    invocation: Invocation, catalog: Catalog, words: Vocabulary, name: str, done: Imported, *, build: bool, syncuser: bool
) -> None:
    """What an import does to the tree that it has brought."""
    if done.unchanged:
        say(words.up_to_date.format(name=name))
    else:
        with catalog.locked(name, holder=f"import {name}"):
            if words.finishes_import and update_resolv_conf(catalog.get(name), HOST_RESOLV_CONF):
                say("Updating the container's /etc/resolv.conf")
            if syncuser:
                sync_users(catalog, words, name, invocation.config().paths.sysconfdir)
    if build or (words.finishes_import and not done.unchanged):
        from bootsvc.cli.image.building import run_build

        say(f"Building {words.noun}: {name}")
        with catalog.locked(name, holder=f"build {name}"):
            run_build(catalog, words, name, examined=not done.unchanged)
    if not done.unchanged:
        from bootsvc.cli.image.doctor import warn_after_import

        warn_after_import(invocation, words, name)


def _source_options(config: Config, options: dict[str, object]) -> SourceOptions:
    def text(key: str, variable: str) -> str | None:
        value = options[key] or os.environ.get(variable)
        return str(value) if value else None

    username, password = text("username", "WAREWULF_OCI_USERNAME"), text("password", "WAREWULF_OCI_PASSWORD")
    if (username is None) != (password is None):
        missing = "--password" if password is None else "--username"
        raise HintedUsageError(f"{missing} is missing", "a registry needs both --username and --password")
    platform = text("platform", "WAREWULF_OCI_PLATFORM")
    if platform is not None:
        Platform.parse(platform)  # a mistake is one also where the source has no platforms to choose from
    insecure = bool(options["nohttps"]) or os.environ.get("WAREWULF_OCI_NOHTTPS", "").lower() in ("1", "true", "yes")
    return SourceOptions.from_environment(
        os.environ,
        uid=os.geteuid(),
        home=Path.home(),
        blobs=config.paths.blob_cache,
        platform=platform,
        insecure=insecure,
        username=username,
        password=password,
    )
