"""Render one overlay template for one node with Jinja2: sandboxed, and an undefined name is an error.

A template may make several files: `{{ file("etc/x.conf") }}` begins a new one, and text before the first is dropped. A template
that renders to nothing but white space makes no file.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from netboot.errors import OverlayError
from netboot.node import Node
from netboot.urls import Urls

_MARK = re.compile("\x00file ([^\x00]*)\x00\n?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The head node as its nodes see it; `name` is its host name, `authorized_keys` are the lines that let root in."""

    name: str
    address: IPv4Address
    network: IPv4Network
    domain: str
    urls: Urls
    dns: tuple[IPv4Address, ...] = ()
    authorized_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderContext:
    """What a template may use: `node`, `nodes` (all of them, in order) and `server`."""

    node: Node
    nodes: Sequence[Node]
    server: Server


def _file(path: str) -> str:
    return f"\x00file {path}\x00"


_ENVIRONMENT = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, autoescape=False, cache_size=0
)
_ENVIRONMENT.globals.clear()
_ENVIRONMENT.globals["file"] = _file


def render(source: str, context: RenderContext, *, path: str, label: str) -> Iterator[tuple[str, str]]:
    """(path, text) of every file that the template makes; `path` is the one it has without `file()`.

    Raises OverlayError that names `label`, the line and the node.
    """
    try:
        text = _ENVIRONMENT.from_string(source).render(node=context.node, nodes=context.nodes, server=context.server)
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, RecursionError, MemoryError) as exc:
        line = getattr(exc, "lineno", None) or _line(exc)
        raise OverlayError(f"{label}:{line or '?'}: {exc} (node {context.node.id})", hint="mend the template") from exc
    pieces = _MARK.split(text)
    made = zip(pieces[1::2], pieces[2::2], strict=True) if len(pieces) > 1 else [(path, text)]
    yield from ((name, content) for name, content in made if content.strip())


def _line(error: BaseException) -> int | None:
    """The template's line in the traceback of an error that was raised while rendering."""
    line, frame = None, error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename == "<template>":
            line = frame.tb_lineno
        frame = frame.tb_next
    return line
