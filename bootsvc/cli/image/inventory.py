"""`wwctl container list` and `delete`."""

from collections.abc import Sequence

import click

from bootsvc.cli.command import Invocation, Noun, pass_invocation
from bootsvc.cli.image.site import catalog as open_catalog
from bootsvc.cli.image.site import need_root
from bootsvc.cli.image.site import registry as load_registry
from bootsvc.cli.image.vocabulary import Vocabulary
from bootsvc.cli.table import table
from bootsvc.cli.terminal import confirm
from images.errors import Error
from images.locks import exclusive


class ImageInUse(Error):
    def __init__(self, words: Vocabulary, name: str, nodes: Sequence[str]) -> None:
        super().__init__(
            f"{words.noun} {name!r} is used by {', '.join(nodes)}",
            hint=f"give them another image first: wwctl node set {','.join(nodes)} --image NAME",
        )


def add_list(group: Noun, words: Vocabulary) -> None:
    @group.command("list", help=f"List the {words.noun}s.")
    @click.argument("names", nargs=-1)
    @pass_invocation
    def list_(invocation: Invocation, names: tuple[str, ...]) -> None:
        config = invocation.config()
        catalog = open_catalog(config)
        for name in names:
            catalog.get(name)
        chosen = [name for name in catalog.names() if not names or name in names]
        if not words.finishes_import:
            print(table(["IMAGE NAME"], [[name] for name in chosen], empty=""), end="")
            return
        registry = load_registry(config)
        print(f"{'CONTAINER NAME':<35} {'BUILT':<6} {'NODES':<6}")
        for name in chosen:
            built = "true" if catalog.current(name) else "false"
            print(f"{name:<35} {built:<6} {len(registry.nodes_of_image(name)):<6}")


def add_delete(group: Noun, words: Vocabulary) -> None:
    @group.command("delete", help=f"Delete {words.noun}s that no node uses.")
    @click.argument("names", nargs=-1, required=True)
    @click.option("-y", "--yes", is_flag=True, help="Do not ask.")
    @pass_invocation
    def delete(invocation: Invocation, names: tuple[str, ...], yes: bool) -> None:
        config = invocation.config()
        catalog, registry = open_catalog(config), load_registry(config)
        for name in names:
            catalog.get(name)
            users = [node.id for node in registry.nodes_of_image(name)]
            if users:
                raise ImageInUse(words, name, users)
        need_root(f"delete {words.noun} {names[0]!r}")
        if not yes and not confirm(f"Are you sure you want to delete {words.noun} [{' '.join(names)}]"):
            return
        for name in names:
            with exclusive(catalog.lock_path(name), holder=f"delete {name}"):
                catalog.delete(name)
            print(f"Deleted {words.noun}: {name}", flush=True)
