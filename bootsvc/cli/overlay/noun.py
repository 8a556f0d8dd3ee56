"""The noun: which verbs it has and where they are; a verb's module is imported when the verb is used."""

from importlib import import_module

import click

from bootsvc.cli.command import Noun

VERBS = {
    "list": "listing.list_",
    "show": "showing.show",
    "info": "showing.info",
    "create": "changing.create",
    "edit": "editing.edit",
    "import": "changing.import_",
    "mkdir": "changing.mkdir",
    "chmod": "changing.chmod",
    "chown": "changing.chown",
    "delete": "changing.delete",
    "build": "building.build",
    "check": "building.check",
    "diff": "comparing.diff",
}
"""Verb → module of this folder and the command in it."""
ALIASES = {
    "list": ("ls",),
    "show": ("cat",),
    "info": ("variables", "vars"),
    "create": ("new", "add"),
    "import": ("cp",),
    "delete": ("rm", "remove", "del"),
}


class OverlayNoun(Noun):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        verb = self.verbs_by_alias.get(cmd_name, cmd_name)
        if verb not in VERBS:
            return None
        module, _, name = VERBS[verb].partition(".")
        command: click.Command = getattr(import_module(f"bootsvc.cli.overlay.{module}"), name)
        return command


overlay = OverlayNoun("overlay", help="List, change and build overlays: what nodes get on top of their image.", aliases=ALIASES)
