"""`wwctl image copy`, `rename` and `delete`."""

import asyncio
from typing import TYPE_CHECKING

import click

from bootsvc.cli import completion
from bootsvc.cli.command import Invocation, Noun, pass_invocation
from bootsvc.cli.image.building import run_build
from bootsvc.cli.image.import_progress import import_progress
from bootsvc.cli.image.site import catalog as open_catalog
from bootsvc.cli.image.site import need_root
from bootsvc.cli.image.site import registry as load_registry
from bootsvc.cli.image.vocabulary import Vocabulary
from bootsvc.cli.terminal import confirm, say
from images.catalog import Catalog
from images.errors import Error
from images.renaming import copy_image, rename_image

if TYPE_CHECKING:
    from bootsvc.image_users import Users
    from bootsvc.store import Snapshot


class ImageInUse(Error):
    def __init__(self, words: Vocabulary, name: str, users: "Users") -> None:
        from bootsvc.image_users import SHOWN

        kind, names = ("node", users.nodes) if users.nodes else ("profile", users.profiles)
        which = ",".join(names) if len(names) <= SHOWN else f"{kind.upper()}S"
        super().__init__(
            f"{words.noun} {name!r} is used by {users}",
            hint=f"give them another {words.noun} first: wwctl {kind} set {which} --image NAME",
        )


def add_copy(group: Noun, words: Vocabulary) -> None:
    @group.command("copy", help=f"Copy {words.noun} NAME as NEW.")
    @click.argument("name", shell_complete=completion.images)
    @click.argument("new")
    @click.option("-b", "--build", is_flag=True, help="Build the copy afterwards.")
    @pass_invocation
    def copy(invocation: Invocation, name: str, new: str, build: bool) -> None:
        catalog = open_catalog(invocation.config())
        catalog.get(name)
        need_root(f"copy {words.noun} {name!r}")
        with import_progress() as report:
            asyncio.run(copy_image(catalog, name, new, report))
        say(f"{words.noun.capitalize()} {name} successfully duplicated as {new}")
        if build:
            _build(catalog, words, new)


def add_rename(group: Noun, words: Vocabulary) -> None:
    @group.command("rename", help=f"Rename {words.noun} NAME to NEW; its nodes and profiles follow.")
    @click.argument("name", shell_complete=completion.images)
    @click.argument("new")
    @click.option("-b", "--build", is_flag=True, help="Build it afterwards.")
    @pass_invocation
    def rename(invocation: Invocation, name: str, new: str, build: bool) -> None:
        from bootsvc.image_users import renamed

        config = invocation.config()
        catalog, store = open_catalog(config), invocation.store()
        need_root(f"rename {words.noun} {name!r}")

        def follow(snapshot: "Snapshot") -> "Snapshot":
            return renamed(snapshot, name, new)

        rename_image(catalog, name, new, move_users=lambda: store.edit(follow))
        say(f"{words.noun.capitalize()} {name} successfully renamed as {new}")
        if build:
            _build(catalog, words, new)


def add_delete(group: Noun, words: Vocabulary) -> None:
    @group.command("delete", help=f"Delete {words.noun}s that no node and no profile uses.")
    @click.argument("names", nargs=-1, required=True, shell_complete=completion.images)
    @click.option("-y", "--yes", is_flag=True, help="Do not ask.")
    @pass_invocation
    def delete(invocation: Invocation, names: tuple[str, ...], yes: bool) -> None:
        from bootsvc.image_users import users

        config = invocation.config()
        catalog, registry, snapshot = open_catalog(config), load_registry(config), invocation.store().load()
        chosen = list(dict.fromkeys(names))
        for name in chosen:
            catalog.get(name)
            using = users(snapshot, registry, name)
            if using:
                raise ImageInUse(words, name, using)
        need_root(f"delete {words.noun} {chosen[0]!r}")
        if not yes and not confirm(f"Are you sure you want to delete {words.noun} [{' '.join(chosen)}]"):
            return
        for name in chosen:
            with catalog.locked(name, holder=f"delete {name}"):
                catalog.delete(name)
            say(f"Deleted {words.noun}: {name}")


def _build(catalog: Catalog, words: Vocabulary, name: str) -> None:
    say(f"Building {words.noun}: {name}")
    with catalog.locked(name, holder=f"build {name}"):
        run_build(catalog, words, name)
