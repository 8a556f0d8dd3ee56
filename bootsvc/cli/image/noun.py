"""The noun: which verbs it has, where they are, and under which other names.

A verb's module is imported when the verb is used: an import pulls in an HTTP client, which a build has no time for.
"""

import click

from bootsvc.cli.command import Noun
from bootsvc.cli.image.vocabulary import VOCABULARIES, Vocabulary
from bootsvc.cli.loading import load

VERBS = {
    "import": "importing.add_import",
    "list": "inventory.add_list",
    "exec": "running.add_exec",
    "shell": "running.add_shell",
    "build": "building.add_build",
    "history": "history.add_history",
    "rollback": "history.add_rollback",
    "unpin": "history.add_unpin",
    "diff": "history.add_diff",
    "prune": "pruning.add_prune",
    "export": "exporting.add_export",
    "show": "inventory.add_show",
    "kernels": "inventory.add_kernels",
    "copy": "naming.add_copy",
    "rename": "naming.add_rename",
    "delete": "naming.add_delete",
    "syncuser": "syncuser.add_syncuser",
    "check": "doctor.add_check",
}
"""Verb → module of this folder and the function `add(group, words)` in it that makes the verb."""
ALIASES = {
    "import": ("pull",),
    "list": ("ls",),
    "kernels": ("kernel",),
    "copy": ("cp",),
    "rename": ("mv",),
    "delete": ("rm", "remove", "del"),
    "shell": ("chroot",),
}


class ImageNoun(Noun):
    """The group whose verbs come from VERBS."""

    words: Vocabulary

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        verb = self.verbs_by_alias.get(cmd_name, cmd_name)
        if verb in VERBS and verb not in self.commands:
            module, _, function = VERBS[verb].partition(".")
            getattr(load(f"bootsvc.cli.image.{module}"), function)(self, self.words)
        return super().get_command(ctx, verb)


def command(vocabulary: str) -> click.Group:
    """The noun in the words of `vocabulary` (`container` or `image`)."""
    words = VOCABULARIES[vocabulary]
    group = ImageNoun(words.noun, help=words.help, aliases=ALIASES)
    group.words = words
    return group
