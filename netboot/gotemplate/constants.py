"""Numbers and characters that stand in a template, with the kinds that each may be used as (Go's untyped constants)."""

import re
from dataclasses import dataclass

from netboot.gotemplate.quoting import quote, unquote_char
from netboot.gotemplate.values import INT_MAX, INT_MIN

_UINT_MAX = (1 << 64) - 1
_INTEGER = re.compile(r"0[xX](?P<hex>[0-9a-fA-F]+)|0[bB](?P<bin>[01]+)|0[oO]?(?P<oct>[0-7]+)|(?P<dec>0|[1-9][0-9]*)")
_BASES = {"hex": 16, "bin": 2, "oct": 8, "dec": 10}
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_HEXADECIMAL = re.compile(r"[+-]?0[xX](?:[0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)[pP][+-]?[0-9]+")


class BadConstant(Exception):
    """What is wrong with a number, as a sentence for the parser to report."""


@dataclass(frozen=True, slots=True)
class Constant:
    """`integer` and `real` are its values as int and as float where it has one; `value` is what it is without further need.

    `value` is None for an integer that needs more than int64.
    """

    integer: int | None
    real: float | None
    value: int | float | None


def parse_character(literal: str) -> Constant:
    """The code point of `'x'`."""
    found = unquote_char(literal)
    if found is None:
        raise BadConstant("invalid syntax")
    code, rest = found
    if rest != "'":
        raise BadConstant(f"malformed character constant: {literal}")
    return Constant(code, float(code), code)


def parse_number(literal: str) -> Constant:
    """Decimal, hexadecimal, octal, binary integers with underscores, and floats; complex numbers are refused."""
    if literal.endswith("i") and _real(literal[:-1]) is not None:
        raise BadConstant(f"complex constants are not supported: {quote(literal)}")
    integer = _integer(literal)
    if integer is not None and INT_MIN <= integer <= INT_MAX:
        return Constant(integer, float(integer), integer)
    if integer is not None and 0 <= integer <= _UINT_MAX and literal[0] != "+":
        return Constant(None, float(integer), None)
    real = _real(literal)
    if real is None:
        raise BadConstant(f"illegal number syntax: {quote(literal)}")
    if not any(char in ".eEpP" for char in literal):
        raise BadConstant(f"integer overflow: {quote(literal)}")
    whole = int(real) if real.is_integer() and INT_MIN <= real <= INT_MAX else None
    return Constant(whole, real, real)


def _integer(literal: str) -> int | None:
    body = literal.lstrip("+-") if literal[:1] in ("+", "-") else literal
    if not _underscores_are_right(body):
        return None
    found = _INTEGER.fullmatch(body.replace("_", ""))
    if found is None or found.lastgroup is None:
        return None
    digits = found[found.lastgroup]
    if len(digits) > 80:  # far beyond 64 bits, whatever the base
        return 1 << 200
    value = int(digits, _BASES[found.lastgroup])
    return -value if literal[0] == "-" else value


def _real(literal: str) -> float | None:
    body = literal[1:] if literal[:1] in ("+", "-") else literal
    if not _underscores_are_right(body):
        return None
    plain = literal.replace("_", "")
    try:
        if _HEXADECIMAL.fullmatch(plain):
            real = float.fromhex(plain)
        elif _DECIMAL.fullmatch(plain):
            real = float(plain)
        else:
            return None
    except (OverflowError, ValueError):
        return None
    return None if real in (float("inf"), float("-inf")) else real


def _underscores_are_right(body: str) -> bool:
    """Underscores stand between digits, or between a base prefix and a digit (Go language specification)."""
    if "_" not in body:
        return True
    prefixed = body[:2].lower() in ("0x", "0o", "0b")
    digits = "0123456789abcdefABCDEF" if body[:2].lower() == "0x" else "0123456789"
    previous = "digit" if prefixed else "start"
    for char in body[2:] if prefixed else body:
        if char in digits:
            previous = "digit"
        elif char == "_":
            if previous != "digit":
                return False
            previous = "underscore"
        elif previous == "underscore":
            return False
        else:
            previous = "other"
    return previous != "underscore"
