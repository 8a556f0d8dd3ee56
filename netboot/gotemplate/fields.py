"""Fields and methods: `.Name` of maps, records and of what has neither."""

from collections.abc import Sequence
from typing import cast

from netboot.gotemplate.calls import Arguments
from netboot.gotemplate.errors import ExecError
from netboot.gotemplate.frames import Frame, Run
from netboot.gotemplate.values import MISSING, Record, Shape, TextWithMethods, Value, shape_of, type_name


def compile_fields(accesses: Sequence[Arguments], base: Run | None, slot: int | None) -> Run:
    """The closure of `base.A.B`; base None is the variable in `slot`, or else the dot, which need no call of their own."""
    if len(accesses) > 1:
        return _chain(tuple(accesses), base, slot)
    access = accesses[0]
    name = access.name
    if base is not None:
        return lambda frame, dot: field(base(frame, dot), access, frame)
    if slot is not None:

        def of_variable(frame: Frame, dot: Value) -> Value:
            receiver = frame[slot]
            return receiver.get(name, MISSING) if type(receiver) is dict else field(receiver, access, frame)

        return of_variable

    def of_dot(frame: Frame, dot: Value) -> Value:
        return dot.get(name, MISSING) if type(dot) is dict else field(dot, access, frame)

    return of_dot


def _chain(accesses: tuple[Arguments, ...], base: Run | None, slot: int | None) -> Run:
    def of_chain(frame: Frame, dot: Value) -> Value:
        value = base(frame, dot) if base is not None else dot if slot is None else frame[slot]
        holder: Value = MISSING
        for access in accesses:
            found = value.get(access.name, MISSING) if type(value) is dict else field(value, access, frame, holder)
            holder, value = value, found
        return value

    return of_chain


def field(receiver: Value, access: Arguments, frame: Frame, holder: Value = MISSING) -> Value:
    """`receiver.name`; `holder` is what the receiver was found in, which decides the type that messages name."""
    shape = shape_of(receiver)
    if shape is Shape.RECORD:
        record = cast(Record, receiver)
        method = record.go_method(access.name)
        if method is not None:
            return access.call(method, frame, None, MISSING)
        value = record.go_field(access.name)
        if value is not MISSING:
            return value
    elif shape is Shape.MAP:
        return cast(dict[str, Value], receiver).get(access.name, MISSING)
    elif shape is Shape.MISSING:
        return MISSING
    elif isinstance(receiver, TextWithMethods) and (found := receiver.go_method(access.name)) is not None:
        return access.call(found, frame, None, MISSING)
    raise _no_field(receiver, access, holder)


def _no_field(receiver: Value, access: Arguments, holder: Value) -> ExecError:
    shape = shape_of(receiver)
    known = getattr(receiver, "fields", None) if shape is Shape.POINTER else None
    if shape is Shape.NIL or (shape is Shape.POINTER and (known is None or access.name in known)):
        return access.start.error(f"nil pointer evaluating {type_name(receiver)}.{access.name}")
    held_as = getattr(holder, "element", "interface {}") if shape_of(holder) is Shape.MAP else None
    named = "interface {}" if held_as == "interface {}" else type_name(receiver)
    return access.start.error(f"can't evaluate field {access.name} in type {named}")


def compile_method(receiver: Run, arguments: Arguments) -> Run:
    """`receiver.Method argument...`: only a method takes arguments."""
    name, place, final = arguments.name, arguments.start, arguments.final

    def call_method(frame: Frame, dot: Value) -> Value:
        through = final.run(frame, dot) if final else MISSING
        value = receiver(frame, dot)
        shape = shape_of(value)
        if shape is Shape.MISSING:
            return MISSING
        if shape is Shape.RECORD:
            record = cast(Record, value)
            method = record.go_method(name)
            if method is not None:
                return arguments.call(method, frame, dot, through)
            if record.go_field(name) is not MISSING:
                raise place.error(f"{name} has arguments but cannot be invoked as function")
        elif isinstance(value, TextWithMethods) and (found := value.go_method(name)) is not None:
            return arguments.call(found, frame, dot, through)
        if shape is Shape.MAP:
            raise place.error(f"{name} is not a method but has arguments")
        raise _no_field(value, arguments, MISSING)

    return call_method
