"""The noun: which verbs it has, and under which other names."""

from collections.abc import Callable

import click

from bootsvc.cli.command import Noun
from bootsvc.cli.image import building, importing, inventory, running
from bootsvc.cli.image.vocabulary import VOCABULARIES, Vocabulary

VERBS: tuple[Callable[[Noun, Vocabulary], None], ...] = (
    importing.add_import,
    inventory.add_list,
    running.add_exec,
    running.add_shell,
    building.add_build,
    inventory.add_delete,
)
ALIASES = {
    "import": ("pull",),
    "list": ("ls",),
    "delete": ("rm", "remove", "del"),
    "shell": ("chroot",),
}


def command(vocabulary: str) -> click.Group:
    """The noun in the words of `vocabulary` (`container` or `image`)."""
    words = VOCABULARIES[vocabulary]
    group = Noun(words.noun, help=words.help, aliases=ALIASES)
    for add in VERBS:
        add(group, words)
    return group
