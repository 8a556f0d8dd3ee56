"""Functions and methods that come from outside: the checks of their arguments, and what they may raise."""

import inspect
from collections.abc import Sequence
from typing import Final

from images.errors import Error
from netboot.gotemplate.errors import FunctionError, LimitExceeded
from netboot.gotemplate.frames import STATE, Expr, Frame, Place, State, bounded
from netboot.gotemplate.nodes import Bool, Nil, Number, Shown, String
from netboot.gotemplate.values import MISSING, Function, Shape, Signature, Value, shape_of, text_of, type_name

_GO_TYPES: Final = {
    "bool": "bool",
    "int": "int",
    "float": "float64",
    "string": "string",
    "slice": "[]interface {}",
    "map": "map[string]interface {}",
}
_SHAPES: Final = {
    "bool": Shape.BOOL,
    "int": Shape.INT,
    "float": Shape.FLOAT,
    "string": Shape.STRING,
    "slice": Shape.SLICE,
    "map": Shape.MAP,
}
_CONSTANTS: Final = {"bool": "bool", "int": "integer", "float": "float", "string": "string"}
_NILABLE: Final = ("any", "slice", "map")

# What a function that meets a value it did not expect may raise; anything else is a defect of ours and is not hidden.
_UNEXPECTED = (TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RecursionError, OSError, MemoryError)


class Arguments:
    """The arguments that a template gives in one place; `final` is the value that comes through the pipeline."""

    __slots__ = ("final", "given", "name", "place", "start")

    def __init__(self, name: str, given: Sequence[Expr], final: Expr | None, start: Place, place: Place) -> None:
        self.name = name
        self.given = tuple(given)
        self.final = final
        self.start = start  # the function's name
        self.place = place  # the whole command

    def __len__(self) -> int:
        return len(self.given) + (self.final is not None)

    def call(self, target: Function, frame: Frame, dot: Value, final: Value) -> Value:
        """Call with all arguments; `final` is evaluated already, since it comes first."""
        signature: Signature | None = getattr(target, "go_signature", None)
        if signature is None:
            values = [expr.run(frame, dot) for expr in self.given]
            if self.final:
                values.append(final)
            return self.invoke(target, [None if value is MISSING else value for value in values], frame[STATE])
        self.count(signature)
        kinds = (*signature.params, *(signature.variadic or "any",) * len(self))
        values = [
            check(expr.run(frame, dot), kind, expr.last, expr.literal) for expr, kind in zip(self.given, kinds, strict=False)
        ]
        if self.final:
            last = self.given[-1].last if self.given else self.start
            values.append(check(MISSING if final is None else final, kinds[len(self.given)], last, None))
        return self.invoke(target, values, frame[STATE])

    def count(self, signature: Signature) -> None:
        fixed = len(signature.params)
        if signature.variadic is None and len(self) != fixed:
            raise self.start.error(f"wrong number of args for {self.name}: want {fixed} got {len(self)}")
        if len(self) < fixed:
            raise self.start.error(f"wrong number of args for {self.name}: want at least {fixed} got {len(self.given)}")

    def invoke(self, target: Function, values: Sequence[Value], state: State) -> Value:
        try:
            result = target(*values)
        except (FunctionError, LimitExceeded) as exc:
            raise self.place.error(f"error calling {self.name}: {exc}") from exc
        except Error as exc:
            raise self.place.error(f"error calling {self.name}: {exc.message}", hint=exc.hint) from exc
        except _UNEXPECTED as exc:
            if isinstance(exc, TypeError) and (reason := _miscounted(target, values)):
                raise self.start.error(f"wrong number of args for {self.name}: {reason}") from None
            raise self.place.error(f"error calling {self.name}: {exc or type(exc).__name__}") from exc
        return bounded(result, state, self.place)


def call_value(arguments: Arguments, callee: str, target: Value, values: list[Value], state: State) -> Value:
    """`call .F x`: a function that is a value; `callee` is how the template names it."""
    problem = None
    if target is None or target is MISSING:
        problem = "call of nil"
    elif shape_of(target) is not Shape.FUNC or not callable(target):
        problem = f"non-function {callee} of type {type_name(target)}"
    else:
        signature: Signature | None = getattr(target, "go_signature", None)
        if signature is not None:
            problem = _unfit(signature, callee, values)
        if problem is None:
            given = [text_of(value) or value if shape_of(value) is Shape.TEXT else value for value in values]
            return arguments.invoke(target, [None if value is MISSING else value for value in given], state)
    raise arguments.place.error(f"error calling call: {problem}")


def _unfit(signature: Signature, callee: str, values: Sequence[Value]) -> str | None:
    """Why the values do not fit the parameters."""
    fixed = len(signature.params)
    if len(values) < fixed or (signature.variadic is None and len(values) > fixed):
        least = "at least " if signature.variadic is not None else ""
        return f"wrong number of args for {callee}: got {len(values)} want {least}{fixed}"
    kinds = (*signature.params, *(signature.variadic or "any",) * len(values))
    for number, (value, kind) in enumerate(zip(values, kinds, strict=False)):
        shape = shape_of(value)
        if kind == "any" or shape is _SHAPES[kind] or (kind == "string" and shape is Shape.TEXT):
            continue
        if shape not in (Shape.MISSING, Shape.NIL):
            return f"arg {number}: value has type {type_name(value)}; should be {_GO_TYPES[kind]}"
        if kind not in _NILABLE:
            return f"arg {number}: value is nil; should be of type {_GO_TYPES[kind]}"
    return None


def _miscounted(target: Function, values: Sequence[Value]) -> str | None:
    """What is wrong with the number of arguments, when that is why Python refused the call."""
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):
        return None
    try:
        signature.bind(*values)
    except TypeError:
        kinds = [one for one in signature.parameters.values() if one.kind <= inspect.Parameter.VAR_POSITIONAL]
        variadic = any(one.kind is inspect.Parameter.VAR_POSITIONAL for one in kinds)
        return f"want {'at least ' if variadic else ''}{len(kinds) - variadic} got {len(values)}"
    return None


def check(value: Value, kind: str, place: Place, node: Shown | None) -> Value:
    """`value` as a parameter of this kind takes it; `node` is what stands in the template, for constants."""
    if kind == "any":
        return None if value is MISSING else value
    shape = shape_of(value)
    if shape is _SHAPES[kind] or (kind == "string" and shape is Shape.TEXT):
        return text_of(value) if kind == "string" else value
    go_type = _GO_TYPES[kind]
    if isinstance(node, Nil):
        if kind in _NILABLE:
            return None
        raise place.error(f"cannot assign nil to {go_type}")
    if isinstance(node, Number) and kind in ("int", "float"):
        number = node.constant.integer if kind == "int" else node.constant.real
        if number is not None:
            return number
    if isinstance(node, Number | String | Bool):
        if kind in _CONSTANTS:
            raise place.error(f"expected {_CONSTANTS[kind]}; found {node}")
        raise place.error(f"can't handle {node} for arg of type {go_type}")
    if shape in (Shape.MISSING, Shape.NIL) and kind in _NILABLE:
        return None
    if shape is Shape.MISSING:
        raise place.error(f"invalid value; expected {go_type}")
    raise place.error(f"wrong type for value; expected {go_type}; got {type_name(value)}")
