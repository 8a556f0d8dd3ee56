"""`wwctl image syncuser`."""

import click

from bootsvc.cli import completion
from bootsvc.cli.command import Invocation, Noun, pass_invocation
from bootsvc.cli.image.building import run_build
from bootsvc.cli.image.site import catalog as open_catalog
from bootsvc.cli.image.site import need_root
from bootsvc.cli.image.users import sync_users
from bootsvc.cli.image.vocabulary import Vocabulary
from bootsvc.cli.terminal import say


def add_syncuser(group: Noun, words: Vocabulary) -> None:
    @group.command("syncuser", help=f"Give the users and groups of {words.noun} NAME the ids that they have on this server.")
    @click.argument("name", shell_complete=completion.images)
    @click.option(
        "--write", type=bool, is_flag=False, flag_value="true", default=True, help="--write=false: only say what would change."
    )
    @click.option("--build", is_flag=True, help="Build it afterwards.")
    @pass_invocation
    def syncuser(invocation: Invocation, name: str, write: bool, build: bool) -> None:
        config = invocation.config()
        catalog = open_catalog(config)
        catalog.get(name)
        need_root(f"change users in {words.noun} {name!r}")
        with catalog.locked(name, holder=f"syncuser {name}"):
            sync_users(catalog, words, name, config.paths.sysconfdir, write=write)
            if build and write:
                say(f"Building {words.noun}: {name}")
                run_build(catalog, words, name)
