"""Calls of the built-in functions as closures; the common numbers of arguments need no list."""

from collections.abc import Callable

from netboot.gotemplate.builtins import Builtin
from netboot.gotemplate.calls import Arguments, call_value, check
from netboot.gotemplate.errors import FunctionError, LimitExceeded
from netboot.gotemplate.frames import STATE, Frame, Run, bounded
from netboot.gotemplate.values import MISSING, Value


def compile_builtin(builtin: Builtin, arguments: Arguments) -> Run:
    """The closure of a call."""
    given = len(arguments)
    if given < builtin.least or (builtin.most is not None and given > builtin.most):
        return _miscounted(builtin.least, arguments, exact=builtin.most is not None)
    return _with_limits(builtin, arguments) if builtin.takes_limits else _plain(builtin, arguments)


def compile_call(arguments: Arguments, callee: str) -> Run:
    """`call .F x`; `callee` is how the template names what is called."""
    if not len(arguments):
        return _miscounted(1, arguments, exact=False)
    evaluate = _values(arguments)

    def run(frame: Frame, dot: Value) -> Value:
        target, *values = evaluate(frame, dot)
        return call_value(arguments, callee, target, values, frame[STATE])

    return run


def _miscounted(least: int, arguments: Arguments, *, exact: bool) -> Run:
    want = f"{'' if exact else 'at least '}{least}"
    error = f"wrong number of args for {arguments.name}: want {want} got {len(arguments) if exact else len(arguments.given)}"

    def fail(frame: Frame, dot: Value) -> Value:
        if arguments.final is not None:
            arguments.final.run(frame, dot)
        raise arguments.start.error(error)

    return fail


def _values(arguments: Arguments) -> Callable[[Frame, Value], list[Value]]:
    """All arguments; what comes through the pipeline is evaluated first and stands last."""
    runs = tuple(expr.run for expr in arguments.given)
    if arguments.final is None:
        return lambda frame, dot: [run(frame, dot) for run in runs]
    final = arguments.final.run

    def with_final(frame: Frame, dot: Value) -> list[Value]:
        last = final(frame, dot)
        return [*[run(frame, dot) for run in runs], last]

    return with_final


def _plain(builtin: Builtin, arguments: Arguments) -> Run:
    target, name, place = builtin.run, arguments.name, arguments.place
    runs = [expr.run for expr in (*arguments.given, arguments.final) if expr is not None]
    if len(runs) == 1:
        only = runs[0]

        def one(frame: Frame, dot: Value) -> Value:
            value = only(frame, dot)
            try:
                return target(value)
            except (FunctionError, LimitExceeded) as exc:
                raise place.error(f"error calling {name}: {exc}") from exc

        return one
    if len(runs) == 2:
        return _two(builtin, arguments, runs[0], runs[1])
    evaluate = _values(arguments)

    def several(frame: Frame, dot: Value) -> Value:
        values = evaluate(frame, dot)
        try:
            return target(*values)
        except (FunctionError, LimitExceeded) as exc:
            raise place.error(f"error calling {name}: {exc}") from exc

    return several


def _two(builtin: Builtin, arguments: Arguments, left: Run, right: Run) -> Run:
    target, name, place = builtin.run, arguments.name, arguments.place
    equal = {"eq": True, "ne": False}.get(name)
    swapped = arguments.final is not None

    def two(frame: Frame, dot: Value) -> Value:
        if swapped:
            second = right(frame, dot)
            first = left(frame, dot)
        else:
            first, second = left(frame, dot), right(frame, dot)
        if equal is not None and type(first) is str and type(second) is str:
            return (first == second) is equal
        try:
            return target(first, second)
        except (FunctionError, LimitExceeded) as exc:
            raise place.error(f"error calling {name}: {exc}") from exc

    return two


def _with_limits(builtin: Builtin, arguments: Arguments) -> Run:
    target, name, place = builtin.run, arguments.name, arguments.place
    evaluate = _values(arguments)
    text_at = arguments.given[0].last if arguments.given else arguments.start
    literal = arguments.given[0].literal if arguments.given else None

    def run(frame: Frame, dot: Value) -> Value:
        state = frame[STATE]
        values = evaluate(frame, dot)
        if builtin.first_is_text and type(values[0]) is not str:
            values[0] = check(values[0], "string", text_at, literal)
        try:
            result = target(state.limits, *[None if value is MISSING else value for value in values])
        except (FunctionError, LimitExceeded) as exc:
            raise place.error(f"error calling {name}: {exc}") from exc
        return bounded(result, state, place)

    return run
