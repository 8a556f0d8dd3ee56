"""`printf`: Go's verbs, flags, widths, precisions and argument numbers, and its complaints in the text (package fmt)."""

import re
from collections.abc import Sequence

from netboot.gotemplate.errors import LimitExceeded
from netboot.gotemplate.limits import Limits
from netboot.gotemplate.quoting import REPLACEMENT, is_raw_byte
from netboot.gotemplate.values import Shape, Value, shape_of, type_name
from netboot.gotemplate.verbs import Flags, Verbs

_MAX_NUMBER = 1_000_000  # beyond it Go gives up reading
_FLAG_CHARS = re.compile(r"[#0+\- ]*")
_DIGITS = re.compile(r"[0-9]*")
_ARGUMENT = re.compile(r"\[([0-9]+)\]")


def sprintf(template: str, values: Sequence[Value], limits: Limits) -> str:
    """The text of a Printf. Raises LimitExceeded for a width or a result beyond the limits."""
    return _Printf(template, values, limits).run()


class _Printf:
    def __init__(self, template: str, values: Sequence[Value], limits: Limits) -> None:
        self.template = template
        self.values = values
        self.limits = limits
        self.pieces: list[str] = []
        self.room = limits.output
        self.at = 0
        self.argument = 0
        self.reordered = False
        self.good_number = True
        self.after_index = False

    def put(self, text: str) -> None:
        self.pieces.append(text)
        self.room -= len(text)
        if self.room < 0:
            raise LimitExceeded(f"printf makes a text of more than {self.limits.output} characters")

    def run(self) -> str:
        template, size = self.template, len(self.template)
        while self.at < size:
            percent = template.find("%", self.at)
            if percent < 0:
                self.put(template[self.at :])
                break
            if percent > self.at:
                self.put(template[self.at : percent])
            self.at = percent + 1
            if not self.directive():
                break
        if not self.reordered and self.argument < len(self.values):
            self.extra()
        return "".join(self.pieces)

    def directive(self) -> bool:
        """One verb with all before it, from behind its percent sign; False at the end of the template."""
        template, size = self.template, len(self.template)
        self.good_number, self.after_index = True, False
        found = _FLAG_CHARS.match(template, self.at)
        given = found[0] if found else ""
        self.at += len(given)
        flags = Flags(sharp="#" in given, plus="+" in given, minus="-" in given, space=" " in given, zero="0" in given)
        self.argument_number()
        self.width(flags)
        if self.at + 1 < size and template[self.at] == ".":
            self.precision(flags)
        if not self.after_index:
            self.argument_number()
        if self.at >= size:
            self.put("%!(NOVERB)")
            return False
        verb = template[self.at]
        self.at += 1
        self.verb(REPLACEMENT if is_raw_byte(verb) else verb, flags)
        return True

    def verb(self, verb: str, flags: Flags) -> None:
        if verb == "%":
            self.put("%")
        elif not self.good_number:
            self.put(f"%!{verb}(BADINDEX)")
        elif self.argument >= len(self.values):
            self.put(f"%!{verb}(MISSING)")
        else:
            if verb in "vw":
                flags.sharp_v, flags.sharp = flags.sharp, False
                flags.plus = False
            self.put(Verbs(flags, self.room).text(self.values[self.argument], verb))
            self.argument += 1

    def argument_number(self) -> None:
        """`[3]`: which argument is next."""
        self.after_index = False
        if self.template[self.at : self.at + 1] != "[":
            return
        self.reordered = True
        found = _ARGUMENT.match(self.template, self.at)
        if found is not None and 0 < self.bounded(found[1]) <= len(self.values):
            self.argument = int(found[1]) - 1
            self.at = found.end()
            self.after_index = True
            return
        self.good_number = False
        close = self.template.find("]", self.at + 1)
        if len(self.template) - self.at < 3 or close < 0:
            self.at += 1
        else:
            self.at = close + 1
            self.after_index = found is not None and self.bounded(found[1]) >= 0

    def bounded(self, digits: str) -> int:
        """The number, or -1 when Go would not read it."""
        return -1 if len(digits) > 7 and int(digits[:-1]) > _MAX_NUMBER else int(digits)

    def number(self) -> int | None:
        """Digits of a width or precision; a number that is too long takes the rest of the template, as in Go."""
        found = _DIGITS.match(self.template, self.at)
        digits = found[0] if found else ""
        if any(int(digits[:end]) > _MAX_NUMBER for end in range(1, min(len(digits), 12))):
            self.at = len(self.template)
            return None
        self.at += len(digits)
        return self.allowed(int(digits)) if digits else None

    def allowed(self, number: int) -> int:
        if abs(number) > self.limits.width:
            raise LimitExceeded(f"printf width {number} exceeds the limit of {self.limits.width}")
        return number

    def from_argument(self) -> int | None:
        """The width or precision of `*`."""
        if self.argument >= len(self.values):
            return None
        value = self.values[self.argument]
        self.argument += 1
        if shape_of(value) is not Shape.INT or not isinstance(value, int) or abs(value) > _MAX_NUMBER:
            return None
        return self.allowed(value)

    def width(self, flags: Flags) -> None:
        if self.template[self.at : self.at + 1] == "*":
            self.at += 1
            flags.width = self.from_argument()
            if flags.width is None:
                self.put("%!(BADWIDTH)")
            elif flags.width < 0:
                flags.width = -flags.width
                flags.minus, flags.zero = True, False
            self.after_index = False
        else:
            flags.width = self.number()
            if self.after_index and flags.width is not None:
                self.good_number = False

    def precision(self, flags: Flags) -> None:
        self.at += 1
        if self.after_index:
            self.good_number = False
        self.argument_number()
        if self.template[self.at : self.at + 1] == "*":
            self.at += 1
            flags.precision = self.from_argument()
            if flags.precision is None or flags.precision < 0:
                flags.precision = None
                self.put("%!(BADPREC)")
            self.after_index = False
        else:
            flags.precision = self.number() or 0

    def extra(self) -> None:
        """Arguments that no verb took."""
        shown = (
            "<nil>" if value is None else f"{type_name(value)}={Verbs(Flags(), self.room).text(value, 'v')}"
            for value in self.values[self.argument :]
        )
        self.put(f"%!(EXTRA {', '.join(shown)})")
