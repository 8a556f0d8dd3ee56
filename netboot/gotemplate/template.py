"""A Go template: parsed once, executed for every node."""

from collections.abc import Collection, Mapping

from netboot.gotemplate.builtins import BUILTIN_NAMES
from netboot.gotemplate.errors import ExecError, ParseError
from netboot.gotemplate.evaluator import Definitions, compile_tree
from netboot.gotemplate.frames import State
from netboot.gotemplate.limits import DEFAULT_LIMITS, Limits
from netboot.gotemplate.parser import parse
from netboot.gotemplate.values import MISSING, Function, Value


class Template:
    """A text of Go's text/template (option missingkey=default), ready to be executed any number of times."""

    def __init__(self, name: str, definitions: Definitions, functions: tuple[str, ...]) -> None:
        self.name = name
        self._definitions = definitions
        self._functions = functions

    @classmethod
    def parse(cls, name: str, text: str, *, functions: Collection[str] = ()) -> "Template":
        """Read a text; bytes that are no UTF-8 stand in it as surrogate escapes.

        `functions` are the names of all functions that `execute` will be given; one that has the name of a built-in function
        hides it. Raises ParseError.
        """
        try:
            tree = parse(name, text, functions={*functions, *BUILTIN_NAMES})
            return cls(name, *compile_tree(tree, frozenset(functions)))
        except RecursionError as exc:  # only where the caller's own stack is deep: the parser counts
            raise ParseError(name, "the template nests too deeply", line=None) from exc

    def execute(self, data: Value, functions: Mapping[str, Function] | None = None, *, limits: Limits = DEFAULT_LIMITS) -> str:
        """The text that the template makes of `data`.

        `functions` may close over the state of this execution. Raises ExecError; Abort passes through from a function.
        """
        given = functions or {}
        state = State([given.get(name) for name in self._functions], limits)
        step, variables = self._definitions[self.name]
        value = MISSING if data is None else data
        try:
            step([state, state.output.write, value, *variables], value)
        except RecursionError as exc:
            raise ExecError(self.name, "the template nests too deeply", line=None) from exc
        text = state.output.getvalue()
        if len(text) > limits.output:
            raise ExecError(self.name, f"the output is longer than {limits.output} characters", line=None)
        return text
