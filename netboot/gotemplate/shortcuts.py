"""Calls of the built-in functions as closures; the common numbers of arguments need no list."""

from netboot.gotemplate.builtins import CALL, Builtin
from netboot.gotemplate.calls import Arguments, bounded, check
from netboot.gotemplate.errors import FunctionError, LimitExceeded
from netboot.gotemplate.frames import STATE, Frame, Run
from netboot.gotemplate.values import MISSING, Shape, Value, shape_of, type_name


def compile_builtin(builtin: Builtin, arguments: Arguments, callee: str) -> Run:
    """The closure of a call; `callee` is how the template names what `call` calls."""
    given = len(arguments)
    if given < builtin.least or (builtin.most is not None and given > builtin.most):
        return _miscounted(builtin, arguments)
    if builtin is CALL:
        return _compile_call(arguments, callee)
    runs = [expr.run for expr in arguments.given]
    if arguments.final is not None:
        runs.append(arguments.final.run)
    if builtin.takes_limits:
        return _with_limits(builtin, arguments, runs)
    return _plain(builtin, arguments, runs)


def _miscounted(builtin: Builtin, arguments: Arguments) -> Run:
    exact = builtin.most is not None
    want = f"{'' if exact else 'at least '}{builtin.least}"
    error = f"wrong number of args for {arguments.name}: want {want} got {len(arguments) if exact else len(arguments.given)}"

    def fail(frame: Frame, dot: Value) -> Value:
        if arguments.final is not None:
            arguments.final.run(frame, dot)
        raise arguments.start.error(error)

    return fail


def _plain(builtin: Builtin, arguments: Arguments, runs: list[Run]) -> Run:
    target, name, place = builtin.run, arguments.name, arguments.place
    if len(runs) == 1:
        only = runs[0]

        def one(frame: Frame, dot: Value) -> Value:
            value = only(frame, dot)
            try:
                return target(value)
            except FunctionError as exc:
                raise place.error(f"error calling {name}: {exc}") from exc

        return one
    if len(runs) == 2:
        return _two(builtin, arguments, runs[0], runs[1])
    every = tuple(runs)

    def several(frame: Frame, dot: Value) -> Value:
        values = [run(frame, dot) for run in every]
        try:
            return target(*values)
        except FunctionError as exc:
            raise place.error(f"error calling {name}: {exc}") from exc

    return several


def _two(builtin: Builtin, arguments: Arguments, left: Run, right: Run) -> Run:
    target, name, place = builtin.run, arguments.name, arguments.place
    equal = {"eq": True, "ne": False}.get(name)

    def two(frame: Frame, dot: Value) -> Value:
        first, second = left(frame, dot), right(frame, dot)
        if equal is not None and type(first) is str and type(second) is str:
            return (first == second) is equal
        try:
            return target(first, second)
        except FunctionError as exc:
            raise place.error(f"error calling {name}: {exc}") from exc

    return two


def _with_limits(builtin: Builtin, arguments: Arguments, runs: list[Run]) -> Run:
    target, name, place = builtin.run, arguments.name, arguments.place
    every = tuple(runs)

    def run(frame: Frame, dot: Value) -> Value:
        limits = frame[STATE].limits
        values = [None if (value := one(frame, dot)) is MISSING else value for one in every]
        if builtin.first_is_text and type(values[0]) is not str:
            values[0] = _text(arguments, frame, dot)
        try:
            return bounded(target(limits, *values), limits, place)
        except (FunctionError, LimitExceeded) as exc:
            raise place.error(f"error calling {name}: {exc}") from exc

    return run


def _text(arguments: Arguments, frame: Frame, dot: Value) -> Value:
    """The first argument of printf, which must be a string."""
    expr = arguments.given[0] if arguments.given else arguments.final
    assert expr is not None
    return check(expr.run(frame, dot), "string", expr.last, expr.last.node if arguments.given else None)


def _compile_call(arguments: Arguments, callee: str) -> Run:
    first, *rest = [*arguments.given, *([arguments.final] if arguments.final else [])]
    place = arguments.place
    inner = Arguments(callee, rest, None, arguments.start, place)

    def run(frame: Frame, dot: Value) -> Value:
        target = first.run(frame, dot)
        if target is None or target is MISSING:
            raise place.error("error calling call: call of nil")
        if shape_of(target) is not Shape.FUNC or not callable(target):
            raise place.error(f"error calling call: non-function {callee} of type {type_name(target)}")
        return inner.call(target, frame, dot)

    return run
