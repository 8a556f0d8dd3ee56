"""The value flags of `node add` and `node set`, made of `netboot.fields`; what is given becomes a list of changes."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import click

from bootsvc.changes import Change
from bootsvc.cli.command import HintedUsageError, Verb
from images.errors import Error
from netboot.fields import CLEAR_WORDS, FALSE_WORDS, NETWORKS, TRUE_WORDS, Field, Kind, node_fields

_NETNAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_BOOLEAN_WORDS = frozenset((*TRUE_WORDS, *FALSE_WORDS, *CLEAR_WORDS))
_OLD_NAMES = {"image": ["--container", "-C"], "runtime-overlays": ["--runtime"], "system-overlays": ["--wwinit"]}
"""Flags of earlier versions, which still work and are not shown."""

TAGS: Mapping[str, tuple[str, ...]] = {"tag": ("tags",), "ipmitag": ("ipmi", "tags"), "nettag": (NETWORKS, "tags")}
"""Word in --WORDadd and --WORDdel to the path of the tags; for networks, of the network chosen by --netname."""


class ValueVerb(Verb):
    """A verb with value flags: a boolean flag alone means true, whatever stands after it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        booleans = {name for field in _flagged() if field.kind is Kind.BOOLEAN for name in _names(field)}
        complete: list[str] = []
        for index, arg in enumerate(args):
            if arg == "--":
                complete += args[index:]
                break
            follower = args[index + 1] if index + 1 < len(args) else ""
            if arg in booleans and follower not in _BOOLEAN_WORDS:
                complete += [arg, "true"]
            else:
                complete.append(arg)
        return super().parse_args(ctx, complete)


def value_options(*, removal: bool) -> list[click.Parameter]:
    """One option a field, the tags', and with `removal` those that take tags and networks away."""
    options: list[click.Parameter] = [_option(field) for field in _flagged()]
    hidden = {field.flag: field for field in _flagged()}
    options += [
        click.Option([*names, _old(flag)], hidden=True, multiple=hidden[flag].kind is Kind.LIST)
        for flag, names in _OLD_NAMES.items()
    ]
    options.append(
        click.Option(["--netname"], default="default", show_default=True, metavar="NAME", help="The network that is meant.")
    )
    for word in TAGS:
        name = {"tag": "tags", "ipmitag": "BMC tags", "nettag": "network tags"}[word]
        options.append(click.Option([f"--{word}add"], multiple=True, metavar="KEY=VALUE,…", help=f"Set {name}."))
        if removal:
            options.append(click.Option([f"--{word}del"], multiple=True, metavar="KEY,…", help=f"Remove {name}."))
    if removal:
        options.append(click.Option(["--netdel"], multiple=True, metavar="NAME", help="Remove a network."))
    return options


def changes(given: Mapping[str, Any]) -> list[Change]:
    """The changes that these options ask for, in the order of the fields; raises Error that names the flag."""
    netname = given["netname"]
    if not _NETNAME.fullmatch(netname):
        raise Error(f"--netname: {netname!r} cannot be the name of a network", hint="letters, digits, . _ and -")
    found = [Change(path=(NETWORKS, name), value=None) for name in given.get("netdel") or ()]
    for field in _flagged():
        assert field.flag
        value = given.get(_key(field.flag))
        if value is None or value == ():
            value = given.get(_old(field.flag))
        if value is None or value == ():
            continue
        text = ",".join(value) if field.kind is Kind.LIST else value
        found.append(Change(path=field.full_path(netname), value=_parse(field, text)))
    for word, path in TAGS.items():
        full = (NETWORKS, netname, *path[1:]) if path[0] == NETWORKS else path
        for pair in _split(given.get(f"{word}add")):
            key, equals, value = pair.partition("=")
            if not equals or not key:
                raise Error(f"--{word}add: {pair!r} is no KEY=VALUE", hint=f"such as --{word}add rack=7")
            found.append(Change(path=(*full, key), value=value))
        found += [Change(path=(*full, key), value=None) for key in _split(given.get(f"{word}del"))]
    return found


def _parse(field: Field, text: str) -> str | list[str] | None:
    if text in CLEAR_WORDS or text == "":
        return None
    try:
        return field.parse(text)
    except Error as exc:
        raise Error(f"--{field.flag}: {exc.message}", hint=exc.hint) from exc


def _flagged() -> Iterable[Field]:
    return (field for field in node_fields() if field.flag)


def _names(field: Field) -> list[str]:
    return [*([f"-{field.short}"] if field.short else []), f"--{field.flag}"]


def _option(field: Field) -> click.Option:
    assert field.flag
    metavar = {
        Kind.TEXT: "TEXT",
        Kind.BOOLEAN: "[true|false]",
        Kind.LIST: "A,B,…",
        Kind.IPV4: "ADDRESS",
        Kind.IPV6: "ADDRESS",
    }
    return click.Option(
        [*_names(field), _key(field.flag)],
        metavar=metavar.get(field.kind, "TEXT"),
        multiple=field.kind is Kind.LIST,
        help=f"{field.help[:1].upper()}{field.help[1:]}." if not field.help.startswith("iPXE") else f"{field.help}.",
    )


def _key(flag: str) -> str:
    return flag.replace("-", "_")


def _old(flag: str) -> str:
    return f"old_{_key(flag)}"


def _split(values: Iterable[str] | None) -> list[str]:
    """Values of a flag that takes commas and may be repeated."""
    return [part for value in values or () for part in value.split(",") if part]


def require(names: tuple[str, ...], message: str, hint: str, ctx: click.Context) -> None:
    """A usage error unless something is named."""
    if not names:
        raise HintedUsageError(message, hint, ctx)
