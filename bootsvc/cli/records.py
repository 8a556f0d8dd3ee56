"""`wwctl node` and `wwctl profile`: one table of verbs for both."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import click

from bootsvc.cli import changing, completion, editing, flags, listing, status
from bootsvc.cli.command import Noun, Verb
from bootsvc.cli.names import NODE, PROFILE, Kind

ALIASES = {"add": ["new", "create"], "set": ["modify"], "list": ["ls"], "delete": ["rm", "del", "remove"]}

_ADD = {
    "node": """Add nodes; NODE may stand for several: n[01-16].

    The IPv4 addresses given (--ipaddr, --ipmiaddr) are the first node's, and go up by one from node to node. Without
    --profile a node gets the profile default.
    """,
    "profile": "Add profiles.",
}
_DELETE = {
    "node": "Delete nodes from nodes.conf.",
    "profile": "Delete profiles from nodes.conf, unless a node or another profile has them.",
}


class _Row(NamedTuple):
    """A verb of a noun; `help` instead of the function's docstring."""

    name: str
    callback: Callable[..., None]
    options: Sequence[click.Parameter] = ()
    help: str | None = None
    shape: type[click.Command] = Verb


def _switch(*names: str, help: str) -> click.Option:
    return click.Option(names, is_flag=True, help=help)


def _shared(kind: Kind) -> list[_Row]:
    """The verbs that nodes and profiles have in common; each is told which it works on."""
    section, word = kind.section, kind.word
    every = [_switch("-a", "--all", "every", help="All nodes.")] if kind is NODE else []
    yes = _switch("-y", "--yes", help="Do not ask.")
    old_force = click.Option(["-f", "--force"], is_flag=True, hidden=True, expose_value=False)
    force = _switch("-f", "--force", help=f"Pass over a {word} that does not exist.")
    merged = [_switch("--merged", help="With the values of their profiles.")] if kind is NODE else []
    setting = flags.value_options(section, removal=True)
    rows = [
        _Row("add", changing.add, flags.value_options(section, removal=False), _ADD[word], flags.ValueVerb),
        _Row("set", changing.set_, [*setting, *every, yes, old_force], shape=flags.ValueVerb),
        _Row("unset", changing.unset, [*flags.unset_options(section), *every, yes, force]),
        _Row("delete", changing.delete, [yes], _DELETE[word]),
        _Row("edit", editing.edit, [_switch("--noheader", help="Without the list of fields."), yes]),
        _Row("export", editing.export, [*merged, *listing.form_options()]),
        _Row("import", editing.import_, [_switch("--replace", help="Forget what the file does not say."), yes]),
    ]
    return [row._replace(callback=partial(row.callback, kind), help=(row.help or row.callback.__doc__ or "")) for row in rows]


def _noun(kind: Kind, help: str, own: Sequence[_Row]) -> Noun:
    noun = Noun(kind.word, aliases=ALIASES, help=help)
    complete = completion.nodes if kind is NODE else completion.profiles
    for row in (*_shared(kind), *own):
        if row.name == "import":
            argument = click.Argument(["file"], metavar="FILE", type=click.Path())
        else:
            argument = click.Argument(["names"], nargs=-1, metavar=f"{kind.word.upper()}...", shell_complete=complete)
        text = (row.help or row.callback.__doc__ or "").replace("{word}", kind.word)
        noun.add_command(row.shape(row.name, callback=row.callback, params=[argument, *row.options], help=text))
    return noun


node = _noun(
    NODE,
    "Add, change, list and watch nodes.",
    [_Row("list", listing.list_nodes, listing.node_options()), _Row("status", status.status, status.options())],
)
profile = _noun(
    PROFILE,
    "Add, change and list profiles, which hold what nodes have in common.",
    [_Row("list", listing.list_profiles, listing.profile_options())],
)
