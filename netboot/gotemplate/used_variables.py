"""Which variables a Go template uses, as far as its text says so, with the flag, type and help of those that nodes.conf has."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache

from netboot.engine import Variable
from netboot.fields import Field, Scope, node_fields
from netboot.gotemplate.nodes import Chain
from netboot.gotemplate.nodes import Field as FieldNode
from netboot.gotemplate.nodes import Variable as VariableNode
from netboot.gotemplate.parser import parse

_COMMENT = re.compile(r"\{\{-?\s*/\*\s*([.$][\w.$]*|wwdoc):\s*(.*?)\s*\*/\s*-?\}\}", re.DOTALL)
_PARTS = {"Ipmi": "ipmi", "Kernel": "kernel"}
_OTHERWISE = {"ipxe": "ipxetemplate", "primarynetdev": "primarynetwork", "containername": "imagename", "container": "imagename"}
_HELP = {
    "BuildHost": "name of the head node",
    "BuildTime": "when the overlay was built",
    "BuildTimeUnix": "when the overlay was built, in seconds since 1970",
    "BuildSource": "path of the template in its overlay",
    "Overlay": "name of the overlay",
    "Id": "name of the node",
    "Hostname": "name of the node",
    "Ipaddr": "address of the head node",
    "Netmask": "netmask of the boot network",
    "Network": "address of the boot network",
    "AllNodes": "all nodes",
    "ThisNode": "the node, with its methods",
}
"""What stands at the root and is no field of a node."""


def variables(source: str, functions: Collection[str]) -> list[Variable]:
    """Each once, sorted by name; a comment `{{/* .Name: text */}}` is the help of that name. Raises ParseError."""
    comments: Mapping[str, str] = dict(_COMMENT.findall(source))
    tree = parse("template", source, functions=functions)
    names = {name for body in tree.bodies.values() for name in _names(body)}
    return [_describe(name, comments.get(name, "")) for name in sorted(names)]


def _names(node: object) -> Iterator[str]:
    """Every chain of fields below a node of the tree, longest first."""
    if isinstance(node, FieldNode):
        yield "." + ".".join(node.names)
    elif isinstance(node, VariableNode):
        if node.fields:
            start = "" if node.name == "$" else node.name
            yield ".".join([start, *node.fields])
    elif isinstance(node, Chain):
        yield from _names(node.node)
    elif isinstance(node, tuple | list):
        for member in node:
            yield from _names(member)
    elif is_dataclass(node):
        for one in fields(node):
            yield from _names(getattr(node, one.name))


def _describe(name: str, comment: str) -> Variable:
    *before, last = name.lstrip(".").split(".")
    if name.startswith(".") and not before and last in _HELP:
        return Variable(name=name, help=comment or _HELP[last])
    if last in ("Bool", "BoolDefaultTrue") and before:
        *before, last = before
    field = _field(before, last, at_root=name.startswith("."))
    if field is None:
        return Variable(name=name, help=comment)
    return Variable(
        name=name, option=f"--{field.flag}" if field.flag else "", type=field.kind.value, help=comment or field.help
    )


def _field(before: list[str], last: str, *, at_root: bool) -> Field | None:
    key = last.lower()
    key = _OTHERWISE.get(key, key)
    part = next((_PARTS[name] for name in before if name in _PARTS), None)
    if part:
        return _known().get((Scope.NODE, part + key))
    scopes = (Scope.NODE, *_INNER) if at_root and "NetDevs" not in before else (*_INNER, Scope.NODE)
    return next((found for scope in scopes if (found := _known().get((scope, key)))), None)


_INNER = (Scope.NETWORK, Scope.PARTITION, Scope.FILESYSTEM, Scope.DISK)


@cache
def _known() -> Mapping[tuple[Scope, str], Field]:
    """Fields by their scope and their key as one word, which is Go's name but for capitals."""
    return {(field.scope, re.sub("[ _]", "", "".join(field.path))): field for field in node_fields()}
