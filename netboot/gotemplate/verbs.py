"""One value under one verb of `printf` (package fmt)."""

from dataclasses import dataclass

from netboot.gotemplate import floats
from netboot.gotemplate.errors import LimitExceeded
from netboot.gotemplate.printing import MAX_PRINTED_DEPTH, NIL, scalar, sorted_keys
from netboot.gotemplate.quoting import can_backquote, quote, quote_rune, rune, to_bytes
from netboot.gotemplate.values import Shape, Value, shape_of, text_of, type_name

_BASES = {"d": 10, "v": 10, "b": 2, "o": 8, "O": 8, "x": 16, "X": 16}
_PREFIXES = {2: "0b", 16: "0x"}


@dataclass(slots=True, kw_only=True)
class Flags:
    """What stands between `%` and the verb; `sharp_v` is # of `%#v`."""

    sharp: bool = False
    plus: bool = False
    minus: bool = False
    space: bool = False
    zero: bool = False
    sharp_v: bool = False
    width: int | None = None
    precision: int | None = None


class Verbs:
    """Writes values with one set of flags; `room` is how many characters are still allowed."""

    def __init__(self, flags: Flags, room: int) -> None:
        self.flags = flags
        self.room = room

    def pad(self, text: str, *, zeros: bool | None = None) -> str:
        flags = self.flags
        width = flags.width or 0
        if flags.minus:
            return text.ljust(width)
        return text.rjust(width, "0" if (flags.zero if zeros is None else zeros) else " ")

    def text(self, value: Value, verb: str, depth: int = 0) -> str:
        if depth > MAX_PRINTED_DEPTH:
            raise LimitExceeded(f"a value is nested more than {MAX_PRINTED_DEPTH} deep")
        shape = shape_of(value)
        if shape in (Shape.NIL, Shape.MISSING):
            return self.nil(verb, depth)
        if verb == "T":
            return self.pad(type_name(value)[: self.flags.precision])
        text = text_of(value)
        written: str | None
        if verb == "w":  # only Errorf wraps errors
            written = None
        elif text is not None:
            written = self.string(text, verb)
        elif shape is Shape.BOOL:
            written = self.pad("true" if value else "false") if verb in "tv" else None
        elif isinstance(value, int):
            written = self.integer(value, verb)
        elif isinstance(value, float):
            written = self.real(value, verb)
        elif isinstance(value, dict | list | tuple):
            written = self.composite(value, verb, depth)
        elif shape is Shape.POINTER:
            written = self.pad(NIL) if verb == "v" else None
        else:
            written = self.string(scalar(value), verb)
        if written is None:
            return f"%!{verb}({type_name(value)}={Verbs(self.flags, self.room).text(value, 'v', depth)})"
        return self.taken(written)

    def taken(self, text: str) -> str:
        self.room -= len(text)
        if self.room < 0:
            raise LimitExceeded("printf makes a text longer than the limit of an output")
        return text

    def nil(self, verb: str, depth: int) -> str:
        if depth:
            return "interface {}(nil)" if self.flags.sharp_v else NIL
        return self.pad(NIL) if verb in "Tv" else f"%!{verb}({NIL})"

    def composite(self, value: dict[Value, Value] | list[Value] | tuple[Value, ...], verb: str, depth: int) -> str | None:
        go_syntax = self.flags.sharp_v
        if isinstance(value, dict):
            shown = [
                f"{self.text(key, verb, depth + 1)}:{self.text(value[key], verb, depth + 1)}" for key in sorted_keys(value)
            ]
        else:
            shown = [self.text(item, verb, depth + 1) for item in value]
        if go_syntax:
            return f"{type_name(value)}{{{', '.join(shown)}}}"
        return f"{'map' if isinstance(value, dict) else ''}[{' '.join(shown)}]"

    def string(self, text: str, verb: str) -> str | None:
        flags = self.flags
        if verb in "vs" and not (flags.sharp_v and verb == "v"):
            return self.pad(text[: flags.precision])
        if verb in "xX":
            return self.hexadecimal(to_bytes(text)[: flags.precision], verb)
        if verb not in "qv":
            return None
        text = text[: flags.precision]
        if flags.sharp and can_backquote(text):
            return self.pad(f"`{text}`")
        return self.pad(quote(text, ascii_only=flags.plus))

    def hexadecimal(self, raw: bytes, verb: str) -> str:
        flags = self.flags
        prefix = f"0{verb}" if flags.sharp else ""
        if not raw:
            return self.pad("")
        pieces = [f"{byte:02{verb}}" for byte in raw]
        return self.pad(" ".join(prefix + piece for piece in pieces) if flags.space else prefix + "".join(pieces))

    def integer(self, value: int, verb: str) -> str | None:
        flags = self.flags
        if verb == "c":
            return self.pad(rune(value))
        if verb == "q":
            return self.pad(quote_rune(value, ascii_only=flags.plus))
        if verb == "U":
            return self.unicode(value)
        base = _BASES.get(verb)
        if base is None:
            return None
        if flags.precision == 0 and value == 0:
            return " " * (flags.width or 0)
        signed = value < 0 or flags.plus or flags.space
        least = flags.precision
        if least is None and flags.zero and not flags.minus and flags.width is not None:
            least = flags.width - signed
        digits = f"{abs(value):{ {10: 'd', 2: 'b', 8: 'o', 16: verb}[base] }}".rjust(least or 0, "0")
        if flags.sharp and base == 8 and digits[0] != "0":
            digits = "0" + digits
        elif flags.sharp:
            digits = (f"0{verb}" if base == 16 else _PREFIXES.get(base, "")) + digits
        if verb == "O":
            digits = "0o" + digits
        sign = "-" if value < 0 else "+" if flags.plus else " " if flags.space else ""
        return self.pad(sign + digits, zeros=False)

    def unicode(self, value: int) -> str:
        value &= (1 << 64) - 1
        text = f"U+{value:0{max(self.flags.precision or 4, 4)}X}"
        if self.flags.sharp and value <= 0x10FFFF and chr(value).isprintable():
            text += f" '{chr(value)}'"
        return self.pad(text, zeros=False)

    def real(self, value: float, verb: str) -> str | None:
        flags = self.flags
        if verb not in "vbgGxXfFeE":
            return None
        verb = {"v": "g", "F": "f"}.get(verb, verb)
        precision = flags.precision if flags.precision is not None else 6 if verb in "feE" else None
        number = floats.formatted(value, verb, precision)
        if number[0] not in "+-":
            number = "+" + number
        if flags.space and number[0] == "+" and not flags.plus:
            number = " " + number[1:]
        if number[1] in "IN":
            if number[1] == "N" and not flags.space and not flags.plus:
                number = number[1:]
            return self.pad(number, zeros=False)
        if flags.sharp and verb != "b":
            number = self.with_point(number, verb, precision)
        if flags.plus or number[0] != "+":
            if flags.zero and not flags.minus and flags.width is not None and flags.width > len(number):
                return number[0] + number[1:].rjust(flags.width - 1, "0")
            return self.pad(number)
        return self.pad(number[1:])

    def with_point(self, number: str, verb: str, precision: int | None) -> str:
        """The flag # keeps the decimal point, and for %g the zeros after it."""
        marks = "pP" if verb in "xX" else "eE"
        cut = next((place for place, char in enumerate(number) if char in marks), len(number))
        head, tail = number[:cut], number[cut:]
        digits = (6 if precision is None else precision) if verb in "gGx" else 0
        significant = head[1:].replace(".", "").lstrip("0")
        if verb == "x":
            significant = head[1:].replace(".", "").replace("x", "1", 1).lstrip("0")
        digits -= len(significant)
        if "." not in head:
            digits -= head[1:] == "0"
            head += "."
        return head + "0" * digits + tail
