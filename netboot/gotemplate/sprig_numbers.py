"""Sprig's conversions and arithmetic: integers are 64 bits wide and wrap, floats are added and divided as decimals.

Every argument may be any value, as in sprig: text is read as a Go literal (`0x1f`, `010`, `1_000`), true is 1, and what is no
number is 0.
"""

import math
import re
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Context, Decimal, Overflow

from netboot.gotemplate.errors import FunctionError, LimitExceeded
from netboot.gotemplate.printing import plain
from netboot.gotemplate.values import INT_MAX, INT_MIN, Functions, GoList, Value, function, wrap_int64

MAX_RANGE = 1_000_000
"""Members of the longest list that `until` and its like make."""

_INTEGER = re.compile(r"[+-]?(0[xX](?:_?[0-9a-fA-F])+|0[bB](?:_?[01])+|0[oO](?:_?[0-7])+|0(?:_?[0-7])*|[1-9](?:_?[0-9])*)")
_DIGITS, _HEX = r"[0-9](?:_?[0-9])*", r"[0-9a-fA-F](?:_?[0-9a-fA-F])*"
_FLOAT = re.compile(rf"[+-]?(?:(?:{_DIGITS}\.?(?:{_DIGITS})?|\.{_DIGITS})(?:[eE][+-]?{_DIGITS})?|(?i:inf|infinity))|(?i:nan)")
_HEX_FLOAT = re.compile(rf"[+-]?0[xX]_?(?:{_HEX}\.?(?:{_HEX})?|\.{_HEX})[pP][+-]?{_DIGITS}")
_DECIMALS = Context(prec=1000, rounding=ROUND_HALF_UP)
_DIVISION = Decimal("1e-16")
"""Sprig divides to sixteen places."""


def _parse_integer(text: str, base: int) -> int | None:
    """A Go integer literal within 64 bits (strconv.ParseInt); base 0 reads its prefix."""
    if base:
        match = re.fullmatch(r"[+-]?[0-9]+", text) if base == 10 else re.fullmatch(r"[+-]?[0-7]+", text)
        number = int(text, base) if match else None
    elif _INTEGER.fullmatch(text):
        digits = text.replace("_", "")
        bare = digits.lstrip("+-")
        number = int(digits, 8) if len(bare) > 1 and bare.isdigit() and bare[0] == "0" else int(digits, 0)
    else:
        number = None
    return number if number is not None and INT_MIN <= number <= INT_MAX else None


def to_int(value: Value) -> int:
    """Sprig's `int`: the integer that any value stands for."""
    if isinstance(value, bool | int):
        return int(value)
    if isinstance(value, float):
        return int(value) if math.isfinite(value) and INT_MIN <= value <= INT_MAX else INT_MIN
    if isinstance(value, str):
        whole, dot, zeros = value.partition(".")
        return _parse_integer(whole if dot and zeros and not zeros.strip("0") and whole else value, 0) or 0
    return 0


def to_float(value: Value) -> float:
    """Sprig's `float64`."""
    if isinstance(value, bool | int | float):
        return float(value)
    if isinstance(value, str):
        if _FLOAT.fullmatch(value):
            number = float(value)
            return 0.0 if math.isinf(number) and value[-1].isdigit() else number
        if _HEX_FLOAT.fullmatch(value):
            return float.fromhex(value.replace("_", ""))
    return 0.0


@function(params=("any",))
def _int(value: Value) -> Value:
    return to_int(value)


@function(params=("any",))
def _float64(value: Value) -> Value:
    return to_float(value)


@function(params=("string",))
def _atoi(text: str) -> Value:
    if not re.fullmatch(r"[+-]?[0-9]+", text):
        return 0
    return max(INT_MIN, min(INT_MAX, int(text[:100])))


@function(params=("any",))
def _to_decimal(value: Value) -> Value:
    """The number that an octal one is."""
    return _parse_integer(plain(value), 8) or 0


@function(params=("...any",))
def _add(*values: Value) -> Value:
    return wrap_int64(sum(map(to_int, values)))


@function(params=("any",))
def _add1(value: Value) -> Value:
    return wrap_int64(to_int(value) + 1)


@function(params=("any", "any"))
def _sub(left: Value, right: Value) -> Value:
    return wrap_int64(to_int(left) - to_int(right))


def _divided(left: Value, right: Value) -> tuple[int, int]:
    dividend, divisor = to_int(left), to_int(right)
    if divisor == 0:
        raise FunctionError("integer divide by zero")
    quotient = abs(dividend) // abs(divisor)
    quotient = quotient if (dividend < 0) == (divisor < 0) else -quotient
    return quotient, dividend - quotient * divisor


@function(params=("any", "any"))
def _div(left: Value, right: Value) -> Value:
    return wrap_int64(_divided(left, right)[0])


@function(params=("any", "any"))
def _mod(left: Value, right: Value) -> Value:
    return _divided(left, right)[1]


@function(params=("any", "...any"))
def _mul(first: Value, *values: Value) -> Value:
    product = to_int(first)
    for value in values:
        product = wrap_int64(product * to_int(value))
    return product


@function(params=("any", "...any"))
def _max(first: Value, *values: Value) -> Value:
    return max(map(to_int, (first, *values)))


@function(params=("any", "...any"))
def _min(first: Value, *values: Value) -> Value:
    return min(map(to_int, (first, *values)))


def _decimal(value: Value) -> Decimal:
    number = to_float(value)
    if not math.isfinite(number):
        raise FunctionError(f"cannot calculate with {plain(number)}")
    return Decimal(repr(number))


def _folded(step: Callable[[Decimal, Decimal], Decimal], first: Decimal, values: tuple[Value, ...]) -> float:
    result = first
    for value in values:
        result = step(result, _decimal(value))
    try:
        return float(result) or 0.0
    except (OverflowError, Overflow):
        return math.copysign(math.inf, result)


def _quotient(left: Decimal, right: Decimal) -> Decimal:
    if not right:
        raise FunctionError("decimal division by 0")
    return _DECIMALS.quantize(_DECIMALS.divide(left, right), _DIVISION)


@function(params=("...any",))
def _addf(*values: Value) -> Value:
    return _folded(_DECIMALS.add, Decimal(0), values)


@function(params=("any",))
def _add1f(value: Value) -> Value:
    return _folded(_DECIMALS.add, Decimal(1), (value,))


@function(params=("any", "...any"))
def _subf(first: Value, *values: Value) -> Value:
    return _folded(_DECIMALS.subtract, _decimal(first), values)


@function(params=("any", "...any"))
def _divf(first: Value, *values: Value) -> Value:
    return _folded(_quotient, _decimal(first), values)


@function(params=("any", "...any"))
def _mulf(first: Value, *values: Value) -> Value:
    return _folded(_DECIMALS.multiply, _decimal(first), values)


@function(params=("any", "...any"))
def _maxf(first: Value, *values: Value) -> Value:
    numbers = list(map(to_float, (first, *values)))
    return math.nan if any(map(math.isnan, numbers)) else max(numbers)


@function(params=("any", "...any"))
def _minf(first: Value, *values: Value) -> Value:
    numbers = list(map(to_float, (first, *values)))
    return math.nan if any(map(math.isnan, numbers)) else min(numbers)


def _whole(step: Callable[[float], int], value: float) -> float:
    return float(step(value)) if math.isfinite(value) else value


@function(params=("any",))
def _floor(value: Value) -> Value:
    return _whole(math.floor, to_float(value))


@function(params=("any",))
def _ceil(value: Value) -> Value:
    return _whole(math.ceil, to_float(value))


@function(params=("any", "int", "...float"))
def _round(value: Value, places: int, *limit: float) -> Value:
    """Up from `limit` (0.5) on, else down: a negative number is rounded down, as sprig does."""
    try:
        scale = math.pow(10, places)
        digits = scale * to_float(value)
        rounded = math.ceil(digits) if math.modf(digits)[0] >= (limit[0] if limit else 0.5) else math.floor(digits)
        return rounded / scale
    except (OverflowError, ValueError, ZeroDivisionError):
        return to_float(value)


def _range(start: int, stop: int, step: int) -> list[Value]:
    if step == 0 or (start < stop) != (step > 0):
        return []
    members = range(start, stop, step)
    if (stop - start) // step > MAX_RANGE:
        raise LimitExceeded(f"a list from {start} to {stop} by {step} has more than {MAX_RANGE} members")
    return list(members)


@function(params=("int",))
def _until(count: int) -> Value:
    return GoList(_range(0, count, -1 if count < 0 else 1), "int")


@function(params=("int", "int", "int"))
def _until_step(start: int, stop: int, step: int) -> Value:
    return GoList(_range(start, stop, step), "int")


@function(params=("...int",))
def _seq(*numbers: int) -> Value:
    """Numbers as the shell's seq prints them, between blanks."""
    match numbers:
        case (last,):
            step = -1 if last < 1 else 1
            members = _range(1, last + step, step)
        case (first, last):
            step = -1 if last < first else 1
            members = _range(first, last + step, step)
        case (first, step, last):
            members = [] if (step > 0) != (first <= last) else _range(first, last + (1 if step > 0 else -1), step)
        case _:
            members = []
    return " ".join(map(str, members))


FUNCTIONS: Functions = {
    "int": _int,
    "int64": _int,
    "float64": _float64,
    "atoi": _atoi,
    "toDecimal": _to_decimal,
    "add": _add,
    "add1": _add1,
    "sub": _sub,
    "div": _div,
    "mod": _mod,
    "mul": _mul,
    "max": _max,
    "biggest": _max,
    "min": _min,
    "addf": _addf,
    "add1f": _add1f,
    "subf": _subf,
    "divf": _divf,
    "mulf": _mulf,
    "maxf": _maxf,
    "minf": _minf,
    "floor": _floor,
    "ceil": _ceil,
    "round": _round,
    "until": _until,
    "untilStep": _until_step,
    "seq": _seq,
}
