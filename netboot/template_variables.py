"""Which fields a Jinja2 template uses, as far as its text says so, with the flag, type and help of each."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
from jinja2 import nodes

from netboot.engine import RenderContext, Variable
from netboot.node import Record
from netboot.reads import EACH, ReadPath

ROOTS = ("node", "nodes", "server")
_COMMENT = re.compile(r"\{#-?\s*([\w.\[\]]+):\s*(.*?)\s*-?#\}", re.DOTALL)
_METHODS = ("items", "values", "keys", "get")


def variables(source: str, tree: nodes.Template) -> list[Variable]:
    """Each once, sorted by name. A comment `{# name: text #}` is the help of what has no other."""
    comments = dict(_COMMENT.findall(source))
    names: dict[str, ReadPath] = {}
    found: dict[str, Variable] = {}
    for statement in tree.body:
        for path in _paths(statement, names):
            variable = _describe(path)
            found[variable.name] = variable
    return [replace(variable, help=variable.help or comments.get(name, "")) for name, variable in sorted(found.items())]


def _paths(node: nodes.Node, names: dict[str, ReadPath]) -> Iterator[ReadPath]:
    """The longest chains of names; what a loop or `set` gives a name to is followed."""
    if isinstance(node, nodes.For | nodes.Assign):
        value = node.iter if isinstance(node, nodes.For) else node.node
        path = _chain(value, names)
        if path:
            _bind(node.target, (*path, EACH) if isinstance(node, nodes.For) else path, names)
    if isinstance(node, nodes.Name) and node.ctx == "store":
        return
    path = _chain(node, names)
    if path:
        if len(path) > 1:
            yield path
        return
    for child in node.iter_child_nodes():
        yield from _paths(child, names)


def _bind(target: nodes.Node, path: ReadPath, names: dict[str, ReadPath]) -> None:
    if isinstance(target, nodes.Name):
        names[target.name] = path
    elif isinstance(target, nodes.Tuple) and target.items and isinstance(target.items[-1], nodes.Name):
        # Key and value.
        names[target.items[-1].name] = path


def _chain(node: nodes.Node, names: Mapping[str, ReadPath]) -> ReadPath | None:
    if isinstance(node, nodes.Name):
        return (node.name,) if node.name in ROOTS else names.get(node.name)
    if isinstance(node, nodes.Getattr):
        below = _chain(node.node, names)
        return below if below is None or node.attr in _METHODS else (*below, node.attr)
    if isinstance(node, nodes.Getitem):
        below = _chain(node.node, names)
        return None if below is None else (*below, str(node.arg.value) if isinstance(node.arg, nodes.Const) else EACH)
    if isinstance(node, nodes.Filter | nodes.Call) and node.node is not None:
        return _chain(node.node, names)
    return None


def _describe(path: ReadPath) -> Variable:
    name = ".".join(path).replace(f".{EACH}", "[]")
    hint: Any = RenderContext
    meta: msgspec.Meta | None = None
    for step in path:
        hint, meta = _step(hint, step)
        if hint is None:
            return Variable(name=name)
    flag = (meta.extra or {}).get("flag") if meta else None
    return Variable(
        name=name, option=f"--{flag}" if flag else "", type=_type(hint), help=(meta.description or "") if meta else ""
    )


def _step(hint: Any, step: str) -> tuple[Any, msgspec.Meta | None]:
    """The type of an attribute or an element, and what is noted with it; None where nobody knows."""
    arguments = [argument for argument in get_args(hint) if argument not in (type(None), ...)]
    if get_origin(hint) is not None and isinstance(get_origin(hint), type) and arguments:
        return _plain(arguments[-1])
    if not isinstance(hint, type):
        hint = next((argument for argument in arguments if isinstance(argument, type)), None)
    attribute = getattr(hint, step, None)
    if isinstance(attribute, property):
        return _plain(get_type_hints(attribute.fget, include_extras=True).get("return"))
    if hint is None or not (issubclass(hint, Record) or hasattr(hint, "__dataclass_fields__")):
        return None, None
    return _plain(get_type_hints(hint, include_extras=True).get(step))


def _plain(hint: Any) -> tuple[Any, msgspec.Meta | None]:
    if get_origin(hint) is Annotated:
        meta = next((item for item in hint.__metadata__ if isinstance(item, msgspec.Meta)), None)
        return hint.__origin__, meta
    return hint, None


def _type(hint: Any) -> str:
    if isinstance(hint, type) and get_origin(hint) is None:
        return hint.__name__
    return str(hint).replace("ipaddress.", "").replace("netboot.node.", "").replace(" | None", "")
