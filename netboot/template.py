"""Jinja2 templates: sandboxed, and an undefined name is an error.

A template may make several files: `{{ file("etc/x.conf") }}` begins a new one, and text before the first is dropped. What
renders to nothing but white space makes no file. `{{ softlink("target") }}` makes the current file a symbolic link,
`{{ abort() }}` ends the template without any file, `{{ nobackup() }}` is Warewulf's, and `{{ include_file("motd") }}` is a file
of the head node.
"""

import json
import re
from collections.abc import Callable, Iterator, Sized
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from images.errors import Error
from netboot.devices import Device, Resolver, devices, resolver
from netboot.engine import HeadFiles, Output, RenderContext, Rendering, Variable
from netboot.errors import TemplateError
from netboot.facts import FILTERS, NodeFacts
from netboot.hostnames import host_names
from netboot.output_marks import END, FILE, LINK, MARK, cut
from netboot.reads import COUNT, EACH, KEYS, Trace, parts, stand_in, whole
from netboot.template_steps import BUDGET, MAX_STEPS, Budget, charge_call, charge_format, count
from netboot.template_steps import FILTERS as COUNTING
from netboot.template_variables import variables

_MARK = re.compile(f"{MARK}\n?")
MAX_TEXT = 16 << 20
"""Characters of all that one template writes, and of one text or list that it multiplies: what a mistake may cost."""
MAX_BITS = 1 << 32
"""Of two factors, the product of their lengths: what a multiplication costs."""
_FAILURES = (
    jinja2.TemplateError,
    TypeError,
    ValueError,
    ArithmeticError,
    LookupError,
    AttributeError,
    RecursionError,
    MemoryError,
)


class _Environment(ImmutableSandboxedEnvironment):
    """Of three operators, and of calls, a few characters could fill the memory, or take for ever."""

    intercepted_binops = frozenset(("*", "**", "%"))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Raises ValueError for a result beyond the limits."""
        for one, times in ((left, right), (right, left)):
            if operator == "*" and isinstance(one, Sized) and isinstance(times, int) and len(one) * times > MAX_TEXT:
                raise ValueError(f"a text or list of {len(one) * times} is longer than {MAX_TEXT}")
        if (
            operator == "*"
            and isinstance(left, int)
            and isinstance(right, int)
            and left.bit_length() * right.bit_length() > MAX_BITS
        ):
            raise ValueError("a product is too large")
        if operator == "%" and isinstance(left, str):
            charge_format(context, left, right)
        if operator == "**" and isinstance(left, int) and isinstance(right, int) and left.bit_length() * right > MAX_TEXT:
            raise ValueError(f"{left} ** {right} is too large")
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Any, __called: Any, *args: Any, **kwargs: Any) -> Any:
        """Raises ValueError when the rendering has taken too many steps. The names are no keyword arguments of a template."""
        charge_call(__context, __called, (*args, *kwargs.values()))
        return super().call(__context, __called, *args, **kwargs)


class Jinja:
    """The engine; `steps` is how much work a rendering may be (`template_steps`)."""

    def __init__(self, *, steps: int = MAX_STEPS) -> None:
        self._steps = steps
        self._environment = _Environment(
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            autoescape=False,
            cache_size=0,
        )
        self._environment.globals.clear()
        self._environment.filters |= {**FILTERS, **COUNTING}
        self._environment.policies["json.dumps_function"] = _dumps

    def parse(self, source: str) -> "JinjaTemplate":
        try:
            compiled = self._environment.from_string(count(self._environment.parse(source)))
            return JinjaTemplate(source, compiled, self._steps)
        except _FAILURES as exc:
            raise TemplateError(str(exc), line=getattr(exc, "lineno", None)) from exc


class JinjaTemplate:
    def __init__(self, source: str, template: jinja2.Template, steps: int) -> None:
        self._source = source
        self._steps = steps
        self._template = template

    def variables(self) -> list[Variable]:
        return variables(self._source, self._template.environment.parse(self._source))

    def render(self, context: RenderContext, path: str, trace: Trace, files: HeadFiles) -> Rendering:
        call = _Call(context, files)
        pieces: list[str] = []
        aborted = False
        try:
            try:
                self._write({**call.names(trace), BUDGET: Budget(self._steps)}, pieces)
            except _Aborted:
                aborted = True
            return Rendering(outputs=tuple(_outputs("".join(pieces), path)), aborted=aborted, backup=call.backup)
        except _FAILURES as exc:
            reason = str(exc) or "it needs more memory than there is"
            raise TemplateError(reason, line=getattr(exc, "lineno", None) or _line(exc)) from exc
        except Error as exc:
            raise TemplateError(exc.message, line=_line(exc), hint=exc.hint) from exc

    def _write(self, names: dict[str, Any], pieces: list[str]) -> None:
        size = 0
        for piece in self._template.generate(names):
            pieces.append(piece)
            size += len(piece)
            if size > MAX_TEXT:
                raise ValueError(f"the output is longer than {MAX_TEXT} characters")


class _Aborted(Exception):
    """The template has called abort()."""


class _Call:
    """The functions of one rendering."""

    def __init__(self, context: RenderContext, files: HeadFiles) -> None:
        self._context = context
        self._files = files
        self.backup = True

    def names(self, trace: Trace) -> dict[str, Any]:
        context = self._context
        functions: list[Callable[..., Any]] = [self.file, self.softlink, self.abort, self.nobackup, self.include_file]
        functions += [_devices, _resolver, _host_names]
        return {
            **{function.__name__.lstrip("_"): function for function in functions},
            **NodeFacts(context, trace, self._files).functions(),
            **{name: stand_in(getattr(context, name), (name,), trace) for name in ("node", "nodes", "server")},
        }

    def file(self, path: object) -> str:
        return f"{FILE}{_plain(path)}{END}"

    def softlink(self, target: object) -> str:
        return f"{LINK}{_plain(target)}{END}"

    def abort(self) -> str:
        raise _Aborted

    def nobackup(self) -> str:
        self.backup = False
        return ""

    def include_file(self, path: object) -> str:
        """The text of a file of the head node, without its last newline; relative to Warewulf's folder; "" without one."""
        content = self._files.read(self._context.server.sysconfdir / "warewulf" / Path(_plain(path)))
        return (content or b"").decode(errors="replace").removesuffix("\n")


_NETWORK = (("network_devices",), ("primary_network",))
_NAMES = (
    (COUNT,),
    (EACH, "id"),
    (EACH, "primary_network"),
    (EACH, "network_devices", KEYS),
    *((EACH, "network_devices", EACH, field) for field in ("device", "ipaddr", "ipaddr6")),
)
"""What `host_names` looks at, in all nodes."""


def _devices(node: object) -> tuple[Device, ...]:
    return devices(parts(node, *_NETWORK))


def _resolver(node: object, servers: object = ()) -> Resolver:
    return resolver(parts(node, *_NETWORK), whole(servers))


def _host_names(nodes: object) -> list[tuple[object, str]]:
    return list(host_names(parts(nodes, *_NAMES)))


def _plain(value: object) -> str:
    text = str(value)
    if "\x00" in text:
        raise ValueError("a name cannot hold a NUL")
    return text


def _outputs(text: str, path: str) -> Iterator[Output]:
    """The files in a rendered text; what is nothing but white space makes none. Raises ValueError for what is no text."""
    for name, content, target in cut(text, _MARK, path):
        if target is not None:
            yield Output(path=name, target=target)
        elif content.strip():
            content.encode(errors="surrogateescape")
            yield Output(path=name, text=content)


def _dumps(value: object, **options: Any) -> str:
    return json.dumps(whole(value), default=_jsonable, **options)


def _jsonable(value: object) -> object:
    plain = whole(value)
    return str(plain) if plain is value else plain


def _line(error: BaseException) -> int | None:
    """The template's line in the traceback of an error that was raised while rendering."""
    line, frame = None, error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename == "<template>":
            line = frame.tb_lineno
        frame = frame.tb_next
    return line
