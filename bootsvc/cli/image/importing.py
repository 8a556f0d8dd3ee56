"""`wwctl container import`."""

import asyncio
import os
from pathlib import Path

import click

from bootsvc.cli.command import HintedUsageError, Invocation, Noun, pass_invocation
from bootsvc.cli.image.building import run_build
from bootsvc.cli.image.progress import import_progress
from bootsvc.cli.image.site import catalog as open_catalog
from bootsvc.cli.image.site import need_root
from bootsvc.cli.image.vocabulary import Vocabulary
from bootsvc.config import Config
from images.importer import import_image, update_resolv_conf
from images.source.scheme import SourceOptions, open_source

HOST_RESOLV_CONF = Path("/etc/resolv.conf")


def add_import(group: Noun, words: Vocabulary) -> None:
    @group.command("import", help=f"Import SOURCE as {words.noun} NAME: docker://[HOST[:PORT]/]NAME[:TAG], or a directory.")
    @click.argument("source")
    @click.argument("name", required=False)
    @click.option("-f", "--force", is_flag=True, help=f"Replace a {words.noun} of that name.")
    @click.option("-b", "--build", is_flag=True, help="Build it afterwards.")
    @click.option("--nohttps", is_flag=True, help="Allow plain http, and certificates that nobody vouches for.")
    @click.option("--username", help="User name at the registry.")
    @click.option("--password", help="Password at the registry.")
    @click.option("--platform", metavar="OS/ARCH", help="Which platform of a multi-platform image (default: this machine's).")
    @pass_invocation
    def import_(invocation: Invocation, source: str, name: str | None, force: bool, build: bool, **options: object) -> None:
        config = invocation.config()
        catalog = open_catalog(config)
        opened = open_source(source, _source_options(config, options))
        if name is None:
            name = opened.default_name
            print(f"Setting {words.noun} name: {name}", flush=True)
        need_root(f"import {words.noun} {name!r}")
        with import_progress() as report:
            asyncio.run(import_image(catalog, name, opened, report, force=force))
        if words.finishes_import:
            if update_resolv_conf(catalog.get(name), HOST_RESOLV_CONF):
                print("Updating the container's /etc/resolv.conf", flush=True)
            build = True
        if build:
            print(f"Building {words.noun}: {name}", flush=True)
            run_build(catalog, name)


def _source_options(config: Config, options: dict[str, object]) -> SourceOptions:
    def text(key: str, variable: str) -> str | None:
        value = options[key] or os.environ.get(variable)
        return str(value) if value else None

    username, password = text("username", "WAREWULF_OCI_USERNAME"), text("password", "WAREWULF_OCI_PASSWORD")
    if (username is None) != (password is None):
        missing = "--password" if password is None else "--username"
        raise HintedUsageError(f"{missing} is missing", "a registry needs both --username and --password")
    insecure = bool(options["nohttps"]) or os.environ.get("WAREWULF_OCI_NOHTTPS", "").lower() in ("1", "true", "yes")
    return SourceOptions(
        blobs=config.paths.blob_cache,
        platform=text("platform", "WAREWULF_OCI_PLATFORM"),
        insecure=insecure,
        username=username,
        password=password,
    )
