"""The value flags of `add`, `set` and `unset`, made of `netboot.fields`; what is given becomes a list of changes."""

import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import click

from bootsvc.changes import ANY, Change
from bootsvc.cli import completion
from bootsvc.cli.command import HintedUsageError, Verb
from bootsvc.store import NODES
from images.errors import Error
from netboot.fields import CLEAR_WORDS, FALSE_WORDS, TRUE_WORDS, Field, Kind, Scope, node_fields, split_list

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters, line breaks of any kind, and bytes that are not UTF-8."""
_NETNAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_BOOLEAN_WORDS = frozenset((*TRUE_WORDS, *FALSE_WORDS, *CLEAR_WORDS))
_OLD_NAMES = {"image": ["--container", "-C"], "runtime-overlays": ["--runtime"], "system-overlays": ["--wwinit"]}
"""Flags of earlier versions, which still work and are not shown."""

TAGS: Mapping[str, tuple[Scope, tuple[str, ...], str]] = {
    "tag": (Scope.NODE, ("tags",), "tags"),
    "ipmitag": (Scope.NODE, ("ipmi", "tags"), "BMC tags"),
    "nettag": (Scope.NETWORK, ("tags",), "network tags"),
}
"""Word in --WORDadd and --WORDdel to where the tags are; a network's are those of --netname."""

_SCOPES: Mapping[Scope, tuple[str, str]] = {
    Scope.NETWORK: ("network", "NAME"),
    Scope.DISK: ("disk", "DEVICE"),
    Scope.PARTITION: ("partition", "LABEL"),
    Scope.FILESYSTEM: ("file system", "DEVICE"),
}
"""What --netname, --diskname, … name."""

_METAVARS = {Kind.BOOLEAN: "[true|false]", Kind.LIST: "A,B,…", Kind.IPV4: "ADDRESS", Kind.IPV6: "ADDRESS"}


class ValueVerb(Verb):
    """A verb with value flags: a boolean flag alone means true, whatever stands after it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        booleans = {name for field in _flagged(NODES) if field.kind is Kind.BOOLEAN for name in _names(field)}
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


def value_options(section: str, *, removal: bool) -> list[click.Parameter]:
    """One option a field, the tags', and with `removal` those that take tags, networks and disks away."""
    fields = {field.flag: field for field in _flagged(section) if field.flag}
    options: list[click.Parameter] = [_option(field) for field in fields.values()]
    options += [
        click.Option([*names, _old(flag)], hidden=True, multiple=fields[flag].kind is Kind.LIST)
        for flag, names in _OLD_NAMES.items()
    ]
    options += [_scope_option(scope) for scope in _SCOPES]
    for word, (_, _, what) in TAGS.items():
        options.append(click.Option([f"--{word}add"], multiple=True, metavar="KEY=VALUE,…", help=f"Set {what}."))
        if removal:
            options.append(click.Option([f"--{word}del"], multiple=True, metavar="KEY,…", help=f"Remove {what}."))
    if removal:
        options += [
            click.Option([f"--{scope.value}del"], multiple=True, metavar=metavar, help=f"Remove a {what}.")
            for scope, (what, metavar) in _SCOPES.items()
        ]
    return options


def unset_options(section: str) -> list[click.Parameter]:
    """One switch a field, and the tags by their keys."""
    fields = {field.flag: field for field in _flagged(section) if field.flag}
    options: list[click.Parameter] = [
        click.Option([*_names(field), _key(flag)], is_flag=True, help=f"Unset: {field.help}.") for flag, field in fields.items()
    ]
    options += [click.Option([*names, _old(flag)], is_flag=True, hidden=True) for flag, names in _OLD_NAMES.items()]
    options += [_scope_option(scope) for scope in _SCOPES]
    options += [
        click.Option([f"--{word}"], multiple=True, metavar="KEY,…", help=f"Remove {what}.")
        for word, (_, _, what) in TAGS.items()
    ]
    return options


def changes(given: Mapping[str, Any]) -> list[Change]:
    """The changes that these options of `add` or `set` ask for, in the order of the fields; raises Error."""
    names = _scope_names(given)
    found: list[Change] = []
    used: set[Scope] = set()
    for scope in _SCOPES:
        for name in map(partial(_printable, f"{scope.value}del"), _split(given.get(f"{scope.value}del"))):
            used.add(Scope.DISK if scope is Scope.PARTITION else scope)
            found.append(Change(path=_whole(scope, {**names, scope: name}), value=None))
    for field in _flagged(NODES):
        assert field.flag
        value = _given(given, field.flag)
        if value is None or value == ():
            continue
        text = ",".join(value) if field.kind is Kind.LIST else value
        found.append(Change(path=field.full_path(_complete(names, field.scope, field.flag)), value=_parse(field, text)))
        used.add(field.scope)
    for word, (scope, path, _) in TAGS.items():
        holder = (*scope.path(_complete(names, scope, word)), *path)
        for pair in map(partial(_printable, f"{word}add"), _pairs(given.get(f"{word}add"))):
            key, equals, value = pair.partition("=")
            if not equals or not key:
                raise Error(f"--{word}add: {pair!r} is no KEY=VALUE", hint=f"such as --{word}add rack=7")
            found.append(Change(path=(*holder, key), value=value))
            used.add(scope)
        for key in _split(given.get(f"{word}del")):
            found.append(Change(path=(*holder, key), value=None))
            used.add(scope)
    _refuse_idle(names, used)
    return found


def removals(given: Mapping[str, Any]) -> list[Change]:
    """The changes that these options of `unset` ask for; a scope without a field means the whole record. Raises Error."""
    names = _scope_names(given)
    found: list[Change] = []
    used: set[Scope] = set()
    for field in _flagged(NODES):
        assert field.flag
        if _given(given, field.flag):
            found.append(Change(path=field.full_path(_complete(names, field.scope, field.flag)), value=None))
            used.add(field.scope)
    for word, (scope, path, _) in TAGS.items():
        for key in _split(given.get(word)):
            found.append(Change(path=(*scope.path(_complete(names, scope, word)), *path, key), value=None))
            used.add(scope)
    if Scope.PARTITION in names:
        used.add(Scope.DISK)
    found += [Change(path=_whole(scope, names), value=None) for scope in names if scope not in used]
    return found


def _scope_names(given: Mapping[str, Any]) -> dict[Scope, str]:
    """What --netname and its like name; raises Error."""
    names: dict[Scope, str] = {scope: given[f"{scope.value}name"] for scope in _SCOPES if given.get(f"{scope.value}name")}
    for scope, name in names.items():
        if scope is not Scope.NETWORK:
            _printable(f"{scope.value}name", name)
    netname, partname, fsname = (names.get(scope) for scope in (Scope.NETWORK, Scope.PARTITION, Scope.FILESYSTEM))
    if netname and not _NETNAME.fullmatch(netname):
        raise Error(f"--netname: {netname!r} cannot be the name of a network", hint="letters, digits, . _ and -")
    if fsname and not fsname.startswith("/dev/"):
        if fsname != partname:
            raise Error(
                f"--fsname: {fsname!r} is no block device",
                hint="name a device below /dev, or what --partname names",
            )
        names[Scope.FILESYSTEM] = f"/dev/disk/by-partlabel/{fsname}"
    return names


def _complete(names: Mapping[Scope, str], scope: Scope, flag: str) -> Mapping[Scope, str]:
    """The names with the default network; raises Error when the flag needs one that is not given."""
    for needed in (Scope.DISK, scope) if scope is Scope.PARTITION else (scope,):
        if needed in (Scope.DISK, Scope.PARTITION, Scope.FILESYSTEM) and needed not in names:
            what = _SCOPES[needed][0]
            raise Error(f"--{flag} needs --{needed.value}name", hint=f"--{needed.value}name says which {what} is meant")
    return {Scope.NETWORK: "default", **names}


def _whole(scope: Scope, names: Mapping[Scope, str]) -> tuple[str, ...]:
    """The path of a whole record; a partition whose disk is not named is sought on all."""
    return scope.path({Scope.DISK: ANY, **names})


def _refuse_idle(names: Mapping[Scope, str], used: set[Scope]) -> None:
    """A scope that no other flag uses is a mistake; a partition uses its disk, and a file system its partition."""
    if Scope.PARTITION in names and Scope.PARTITION in used:
        used.add(Scope.DISK)
    if names.get(Scope.FILESYSTEM, "").endswith(f"/by-partlabel/{names.get(Scope.PARTITION)}"):
        used |= {Scope.PARTITION, Scope.DISK}
    for scope in names:
        if scope not in used and scope is not Scope.NETWORK:
            raise Error(f"--{scope.value}name {names[scope]}: nothing is said about that {_SCOPES[scope][0]}")


def _given(given: Mapping[str, Any], flag: str) -> Any:
    """The flag's value, or that of its old name."""
    value = given.get(_key(flag))
    return given.get(_old(flag)) if value is None or value in ((), False) else value


def _parse(field: Field, text: str) -> str | list[str] | bool | None:
    if text in CLEAR_WORDS or text == "":
        return None
    try:
        value = field.parse(text)
    except Error as exc:
        raise Error(f"--{field.flag}: {exc.message}", hint=exc.hint) from exc
    _printable(field.flag or "", text)
    return value


def _printable(flag: str, text: str) -> str:
    """The text; raises Error when it could not stand on one line of a terminal or of a file on a node."""
    if _UNPRINTABLE.search(text):
        hint = "write it as one line of text; `wwctl node edit` takes texts of several lines"
        raise Error(f"--{flag}: {text!r} holds a line break, a control character, or a byte that is not UTF-8", hint=hint)
    return text


def _flagged(section: str) -> Iterable[Field]:
    return (field for field in node_fields() if field.flag and (section == NODES or not field.node_only))


def _names(field: Field) -> list[str]:
    return [*([f"-{field.short}"] if field.short else []), f"--{field.flag}"]


def _option(field: Field) -> click.Option:
    assert field.flag
    return click.Option(
        [*_names(field), _key(field.flag)],
        metavar=_METAVARS.get(field.kind, "TEXT"),
        multiple=field.kind is Kind.LIST,
        help=f"{field.help[:1].upper()}{field.help[1:]}." if not field.help.startswith("iPXE") else f"{field.help}.",
        shell_complete=completion.of_field(field.flag),
    )


def _scope_option(scope: Scope) -> click.Option:
    what, metavar = _SCOPES[scope]
    default = " (default: default)" if scope is Scope.NETWORK else ""
    return click.Option([f"--{scope.value}name"], metavar=metavar, help=f"The {what} that is meant{default}.")


def _key(flag: str) -> str:
    return flag.replace("-", "_")


def _old(flag: str) -> str:
    return f"old_{_key(flag)}"


def _split(values: Iterable[str] | None) -> list[str]:
    """Values of a flag that takes commas and may be repeated."""
    return [part for value in values or () for part in value.split(",") if part]


def _pairs(values: Iterable[str] | None) -> list[str]:
    """KEY=VALUE pairs: one alone may have commas, as routes do; among several, quotes keep one together, as in Warewulf."""
    lists = ([value.strip('"')] if value.count("=") == 1 else split_list(value) for value in values or ())
    return [pair for pairs in lists for pair in pairs if pair]


def require(names: tuple[str, ...], message: str, hint: str, ctx: click.Context) -> None:
    """A usage error unless something is named."""
    if not names:
        raise HintedUsageError(message, hint, ctx)
