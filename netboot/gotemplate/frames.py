"""What an execution carries along, and the places that its errors name.

A template is compiled to closures of (frame, dot). A frame is a list, because that is Python's fastest record: the execution's
State, its writer, the value of `$`, then the variables of one definition.
"""

from collections.abc import Callable
from io import StringIO
from typing import Any, Final, NamedTuple, TypeAlias

from netboot.gotemplate.errors import ExecError
from netboot.gotemplate.limits import Limits
from netboot.gotemplate.nodes import Shown
from netboot.gotemplate.values import MISSING, Function, Value

Frame: TypeAlias = list[Any]
Run: TypeAlias = Callable[[Frame, Value], Value]
Step: TypeAlias = Callable[[Frame, Value], None]

STATE: Final = 0
WRITE: Final = 1
DOLLAR: Final = 2
FIRST_VARIABLE: Final = 3


class Unset:
    """The class of UNSET, what a variable holds before its declaration was executed."""


UNSET: Final = Unset()


class BreakLoop(Exception):
    """`{{break}}`."""


class ContinueLoop(Exception):
    """`{{continue}}`."""


class State:
    """One execution: the functions by number, what is written, and what is left of its limits."""

    __slots__ = ("depth", "functions", "limits", "made", "output", "steps")

    def __init__(self, functions: list[Function | None], limits: Limits) -> None:
        self.functions = functions
        self.limits = limits
        self.output = StringIO()
        self.steps = limits.steps
        self.made = 0
        self.depth = 0


class Place(NamedTuple):
    """A node of a definition, for errors: `executing "definition" at <node>`."""

    name: str
    text: str
    definition: str
    node: Shown

    def error(self, reason: str, *, hint: str | None = None) -> ExecError:
        pos = self.node.pos
        start = self.text.rfind("\n", 0, pos) + 1
        return ExecError(
            self.name,
            reason,
            line=self.text.count("\n", 0, pos) + 1,
            column=len(self.text[start:pos].encode("utf-8", "surrogateescape")),
            at=f'executing "{self.definition}" at <{self.node}>: ',
            hint=hint,
        )


class Expr(NamedTuple):
    """A compiled expression; `last` is what it looks at last, which errors that follow name; `literal` is set for constants."""

    run: Run
    last: Place
    literal: Shown | None = None


def charge(state: State, place: Place, steps: int) -> None:
    """Take steps off the execution's budget, and look at the size of its output."""
    state.steps -= steps
    if state.steps < 0:
        raise place.error(f"the template takes more than {state.limits.steps} steps", hint="look for a loop over too much")
    if state.output.tell() > state.limits.output:
        raise too_long(state.limits, place)


_LARGE: Final = 1000


def bounded(result: Value, state: State, place: Place) -> Value:
    """What a function returns, unless it is larger than the limits; large results are counted, since variables keep them."""
    limits = state.limits
    if isinstance(result, str):
        if len(result) > limits.output:
            raise place.error(f"a function returned a text of more than {limits.output} characters")
    elif isinstance(result, list | tuple | dict):
        if len(result) > limits.items:
            raise place.error(f"a function returned more than {limits.items} items")
    else:
        return result
    if len(result) > _LARGE:
        state.made += len(result)
        if state.made > limits.made:
            raise place.error(f"functions made more than {limits.made} characters and items in all")
    return result


def too_long(limits: Limits, place: Place) -> ExecError:
    return place.error(f"the output is longer than {limits.output} characters", hint="look for a loop that never ends")


def dug(run: Run) -> Run:
    """What a pipeline gives: an interface that holds nil is no value any more."""

    def dig(frame: Frame, dot: Value) -> Value:
        value = run(frame, dot)
        return MISSING if value is None else value

    return dig
