"""What can be wrong with a Go template, when it is read and when it runs."""

from images.errors import Error


class GoTemplateError(Error):
    """A template that cannot be read or executed.

    `line` is 1-based, `column` is in bytes and 0-based as Go counts it (`None` where Go names none: while parsing).
    The sentence has Go's own form, `template: NAME:LINE:COLUMN: executing "NAME" at <CONTEXT>: REASON`, so that what is
    known about Go templates can be searched for.
    """

    def __init__(
        self, name: str, reason: str, *, line: int | None, column: int | None = None, at: str = "", hint: str | None = None
    ) -> None:
        place = name if line is None else f"{name}:{line}" if column is None else f"{name}:{line}:{column}"
        super().__init__(f"template: {place}: {at}{reason}", hint=hint)
        self.name = name
        self.line = line
        self.column = column
        self.reason = reason


class ParseError(GoTemplateError):
    """The text is no template; Go names a line and no column."""


class ExecError(GoTemplateError):
    """The template cannot be executed with this data."""


class FunctionError(Exception):
    """Raised by a template function for what a Go function returns as its error; the evaluator adds name and position."""


class LimitExceeded(Exception):
    """A template asks for more than `Limits` allows; the evaluator adds name and position."""


class Abort(Exception):
    """Raised by a template function to stop the execution at once; it reaches the caller of `execute` untouched."""
