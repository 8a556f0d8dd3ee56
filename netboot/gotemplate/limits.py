"""What one execution of a template may cost; hostile or mistaken templates end with a sentence, not with a dead server."""

from dataclasses import dataclass

# Nesting of parentheses and of if, range, with, define and block in the text. Go stops at 10 000 parentheses and does not count
# the others; this engine recurses on Python's stack, and a person stops reading at ten.
MAX_NESTING = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Every value is the largest that is still allowed.

    `output` counts characters of the whole output and of any one text; `steps` counts iterations of `range` and calls of
    `template` in one execution (a loop is charged when it begins); `range_length` is the largest N of `range N`; `items` the
    longest list or map that a function may return; `made` the characters and items of all large results together; `width`
    the largest width or precision of `printf` (Go itself refuses more than a million).
    """

    output: int = 16 << 20
    steps: int = 5_000_000
    range_length: int = 1_000_000
    template_depth: int = 100
    items: int = 1_000_000
    made: int = 256 << 20
    width: int = 1_000_000


DEFAULT_LIMITS = Limits()
