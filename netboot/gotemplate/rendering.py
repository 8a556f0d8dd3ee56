"""A `.ww` template of an overlay: parsed once, rendered for one node after the other."""

import re
from datetime import UTC, datetime

from netboot.engine import HeadFiles, RenderContext, Rendering, Variable
from netboot.errors import TemplateError
from netboot.gotemplate.builtins import BUILTIN_NAMES
from netboot.gotemplate.data import Root
from netboot.gotemplate.errors import Abort, FunctionError, GoTemplateError
from netboot.gotemplate.template import Template
from netboot.gotemplate.used_variables import variables
from netboot.gotemplate.warewulf_functions import FUNCTION_NAMES, Execution
from netboot.reads import Trace

NAME = "template"
"""What the engine calls every template: overlay, file and node are added by whoever knows them."""


def parse(source: str) -> "GoTemplate":
    """Raises TemplateError with the line."""
    try:
        return GoTemplate(Template.parse(NAME, source, functions=FUNCTION_NAMES), source)
    except GoTemplateError as exc:
        raise _said(exc) from exc


class GoTemplate:
    """Keeps nothing of an execution, so that several threads can use it."""

    def __init__(self, template: Template, source: str) -> None:
        self._template = template
        self._source = source

    def render(self, context: RenderContext, path: str, trace: Trace, files: HeadFiles) -> Rendering:
        """Raises TemplateError with the line."""
        now = context.now or datetime.now(UTC)
        execution = Execution(context, path, trace, files, now)
        source = f"{context.overlay}/rootfs/{path}.ww"
        root = Root(context, trace, source=source, now=now.astimezone(execution.zone))
        try:
            text = self._template.execute(root, execution.functions())
            outputs = tuple(execution.outputs(text))
        except Abort:
            return Rendering(outputs=(), aborted=True, backup=execution.backup)
        except GoTemplateError as exc:
            raise _said(exc) from exc
        except FunctionError as exc:
            raise TemplateError(str(exc)) from exc
        return Rendering(outputs=outputs, backup=execution.backup)

    def variables(self) -> list[Variable]:
        """What the template uses, for `wwctl overlay info`."""
        return variables(self._source, FUNCTION_NAMES | BUILTIN_NAMES)


_AT = re.compile(r" at (<.*?>): ", re.DOTALL)


def _said(error: GoTemplateError) -> TemplateError:
    """What a person needs besides the line: the column, from 1, and the expression."""
    found = _AT.search(error.message.removesuffix(error.reason))
    place = "" if error.column is None else f"column {error.column + 1}: "
    at = f" at {found[1]}" if found else ""
    hint = f" ({error.hint})" if error.hint else ""
    return TemplateError(f"{place}{error.reason}{at}{hint}", line=error.line)
