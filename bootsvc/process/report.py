"""What `wwctl server --check` found."""

from dataclasses import dataclass, field
from enum import Enum

from images.errors import Error


class Level(Enum):
    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the report; `what` is the part of the server that it is about."""

    what: str
    level: Level
    text: str
    hint: str = ""


@dataclass(slots=True)
class Report:
    """All findings, in the order in which a person wants to know them."""

    findings: list[Finding] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        return any(finding.level is Level.ERROR for finding in self.findings)

    def ok(self, what: str, text: str) -> None:
        self.findings.append(Finding(what=what, level=Level.OK, text=text))

    def warn(self, what: str, text: str, hint: str = "") -> None:
        self.findings.append(Finding(what=what, level=Level.WARNING, text=text, hint=hint))

    def error(self, what: str, text: str, hint: str = "") -> None:
        self.findings.append(Finding(what=what, level=Level.ERROR, text=text, hint=hint))

    def add(self, what: str, exc: Error) -> None:
        self.error(what, exc.message, exc.hint or "")
