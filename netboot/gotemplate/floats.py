"""Floating point numbers as Go writes them (strconv.FormatFloat)."""

import math


def special(value: float) -> str | None:
    """The text of what is no finite number, else None."""
    return None if math.isfinite(value) else "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


def general(value: float) -> str:
    """The verb `%g` without precision: the fewest digits that give the same number again."""
    if not math.isfinite(value):
        return special(value) or ""
    mantissa, _, exponent_text = repr(value).partition("e")
    sign = "-" if mantissa[0] == "-" else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    digits = (whole + fraction).lstrip("0")
    exponent = len(whole) - 1 + int(exponent_text or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    if not digits:
        return f"{sign}0"
    if exponent < -4 or exponent >= 6:
        rest = f".{digits[1:]}" if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{rest}e{exponent:+03d}"
    if exponent < 0:
        return f"{sign}0.{'0' * (-exponent - 1)}{digits}"
    whole = digits[: exponent + 1].ljust(exponent + 1, "0")
    rest = digits[exponent + 1 :]
    return f"{sign}{whole}.{rest}" if rest else f"{sign}{whole}"


def binary(value: float) -> str:
    """The verb `%b`: mantissa and power of two."""
    if value == 0:
        return f"{'-' if math.copysign(1, value) < 0 else ''}0p-1074"
    exponent = max(math.frexp(value)[1] - 53, -1074)
    return f"{int(math.ldexp(value, -exponent))}p{exponent:+d}"


def hexadecimal(value: float, precision: int | None) -> str:
    """The verb `%x`: `0x1.8p+01`, with `precision` hexadecimal digits after the point."""
    sign = "-" if math.copysign(1, value) < 0 else ""
    if value == 0:
        return f"{sign}0x0{'.' + '0' * precision if precision else ''}p+00"
    mantissa, exponent = math.frexp(abs(value))
    bits, exponent = int(mantissa * (1 << 53)), exponent - 1  # 1 bit before the point, 52 after it
    if precision is not None and precision < 13:
        drop = 52 - 4 * precision
        half, rest = 1 << (drop - 1), bits & ((1 << drop) - 1)
        bits >>= drop
        bits += rest > half or (rest == half and bits & 1)
        bits <<= drop
        if bits >> 53:
            bits, exponent = bits >> 1, exponent + 1
    digits = f"{bits & ((1 << 52) - 1):013x}"
    digits = digits.rstrip("0") if precision is None else digits[:precision].ljust(precision, "0")
    return f"{sign}0x1{'.' + digits if digits else ''}p{exponent:+03d}"


def formatted(value: float, verb: str, precision: int | None) -> str:
    """`value` under one of the verbs e E f F g G b x X; without `precision` as few digits as are needed."""
    if text := special(value):
        return text
    if verb == "b":
        return binary(value)
    if verb in "xX":
        text = hexadecimal(value, precision)
    elif precision is None:
        text = general(value)
    else:
        text = f"{value:.{precision}{verb}}"
    return text.upper() if verb in "XG" else text
