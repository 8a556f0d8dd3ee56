"""Sprig's semantic versions (semver.org 2.0.0, read leniently: `v1.2` is 1.2.0) and what they are compared with.

A constraint is groups between `||`, each of comparisons between blanks or commas: `= != > < >= <= ~ ^`, ranges `1.2 - 1.4.5`,
and `x` or `*` for any number. A version with a prerelease only meets a comparison that names one.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import total_ordering
from itertools import zip_longest

from netboot.gotemplate.errors import FunctionError
from netboot.gotemplate.values import MISSING, Function, Functions, Value, function, type_name

_NUMBER = r"[0-9]{1,18}"
_TAIL = r"(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?"
_VERSION = re.compile(rf"v?({_NUMBER})(?:\.({_NUMBER}))?(?:\.({_NUMBER}))?{_TAIL}")
_OPERATOR = r"=<|=>|!=|>=|<=|~>|=|>|<|~|\^|"
_PARTIAL = rf"v?({_NUMBER}|[xX*])(?:\.({_NUMBER}|[xX*]))?(?:\.({_NUMBER}|[xX*]))?{_TAIL}"
_COMPARISON = re.compile(rf"\s*({_OPERATOR})\s*{_PARTIAL}\s*")
_GROUP = re.compile(rf"\s*(?:{_OPERATOR})\s*{_PARTIAL}\s*(?:(?:,\s*|\s+)(?:{_OPERATOR})\s*{_PARTIAL}\s*)*")
_RANGE = re.compile(rf"\s*({_PARTIAL})\s+-\s+({_PARTIAL})\s*")
MAX_CONSTRAINT = 1000
"""Characters of the longest constraint."""


@total_ordering
@dataclass(frozen=True, slots=True, eq=False)
class Version:
    """A semantic version; those that differ in metadata alone are equal."""

    major: int
    minor: int
    patch: int
    prerelease: str = ""
    metadata: str = ""
    original: str = ""

    def __lt__(self, other: "Version") -> bool:
        return compare(self, other) < 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and compare(self, other) == 0

    def __hash__(self) -> int:
        return hash((self.major, self.minor, self.patch, self.prerelease))

    def __str__(self) -> str:
        prerelease = f"-{self.prerelease}" if self.prerelease else ""
        metadata = f"+{self.metadata}" if self.metadata else ""
        return f"{self.major}.{self.minor}.{self.patch}{prerelease}{metadata}"

    def go_type(self) -> str:
        return "*semver.Version"

    def go_field(self, name: str) -> Value:
        return MISSING

    def go_method(self, name: str) -> Function | None:
        if name in _PARTS:
            part = _PARTS[name]
            return function(params=())(lambda: part(self))
        if name in _COMPARED:
            test = _COMPARED[name]
            return function(params=("any",))(lambda other: test(compare(self, _version(other))))
        return None

    def go_string(self) -> str:
        return str(self)

    def go_json(self) -> Value:
        return str(self)


_PARTS: dict[str, Callable[[Version], Value]] = {
    "Major": lambda version: version.major,
    "Minor": lambda version: version.minor,
    "Patch": lambda version: version.patch,
    "Prerelease": lambda version: version.prerelease,
    "Metadata": lambda version: version.metadata,
    "Original": lambda version: version.original,
    "String": str,
    "IncMajor": lambda version: Version(version.major + 1, 0, 0),
    "IncMinor": lambda version: Version(version.major, version.minor + 1, 0),
    # The release that a prerelease leads to is the next one.
    "IncPatch": lambda version: Version(version.major, version.minor, version.patch + (not version.prerelease)),
}
_COMPARED: dict[str, Callable[[int], Value]] = {
    "Compare": lambda order: order,
    "Equal": lambda order: order == 0,
    "LessThan": lambda order: order < 0,
    "LessThanEqual": lambda order: order <= 0,
    "GreaterThan": lambda order: order > 0,
    "GreaterThanEqual": lambda order: order >= 0,
}


def _version(value: Value) -> Version:
    if isinstance(value, Version):
        return value
    raise FunctionError(f"wrong type for value; expected *semver.Version; got {type_name(value)}")


def compare(left: Version, right: Version) -> int:
    """-1, 0 or 1 by precedence (semver.org, 11)."""
    first = (left.major, left.minor, left.patch)
    second = (right.major, right.minor, right.patch)
    if first != second:
        return -1 if first < second else 1
    if not left.prerelease or not right.prerelease:
        return bool(right.prerelease) - bool(left.prerelease)
    for ours, theirs in zip_longest(left.prerelease.split("."), right.prerelease.split(".")):
        if ours != theirs:
            return -1 if _rank(ours) < _rank(theirs) else 1
    return 0


def _rank(identifier: str | None) -> tuple[int, int, str]:
    """Fewer identifiers come first, then numbers, then text."""
    if identifier is None:
        return (0, 0, "")
    return (1, int(identifier), "") if identifier.isdigit() else (2, 0, identifier)


def parse(text: str) -> Version:
    """Raises FunctionError."""
    match = _VERSION.fullmatch(text)
    if match is None:
        raise FunctionError(f"Invalid Semantic Version {text!r}")
    major, minor, patch, prerelease, metadata = match.groups()
    if any(part.isdigit() and len(part) > 1 and part[0] == "0" for part in (prerelease or "").split(".")):
        raise FunctionError(f"Version segment starts with 0: {text!r}")
    return Version(int(major), int(minor or 0), int(patch or 0), prerelease or "", metadata or "", text)


@dataclass(frozen=True, slots=True)
class _Comparison:
    """`said` counts the numbers that are given: 3 for `1.2.3`, 1 for `1.x`, 0 for `*`."""

    operator: str
    version: Version
    said: int

    def admits(self, version: Version) -> bool:
        exact_other = self.operator == "!=" and self.said == 3
        if version.prerelease and not self.version.prerelease and not exact_other:
            return False
        return _TESTS[self.operator](self, version)

    def order(self, version: Version) -> int:
        """-1, 0 or 1 as the version is before, within or after what is said; `*` counts as `0.0` here."""
        if self.said == 3:
            return compare(version, self.version)
        count = self.said or 2
        given, limit = _numbers(version)[:count], _numbers(self.version)[:count]
        return (given > limit) - (given < limit)


def _numbers(version: Version) -> tuple[int, int, int]:
    return version.major, version.minor, version.patch


def _equal(limit: _Comparison, version: Version) -> bool:
    return limit.order(version) == 0 if limit.said == 3 else _tilde(limit, version)


def _tilde(limit: _Comparison, version: Version) -> bool:
    count = min(limit.said, 2)
    same = _numbers(version)[:count] == _numbers(limit.version)[:count]
    return limit.said == 0 or (same and version >= limit.version)


def _caret(limit: _Comparison, version: Version) -> bool:
    """The first number that is not 0 stays, or the last that is said."""
    base = limit.version
    count = 1 if base.major or limit.said == 1 else 2 if base.minor or limit.said < 3 else 3
    return version >= base and _numbers(version)[:count] == _numbers(base)[:count]


_TESTS: dict[str, Callable[[_Comparison, Version], bool]] = {
    "": _equal,
    "=": _equal,
    "!=": lambda limit, version: limit.said == 0 or limit.order(version) != 0,
    ">": lambda limit, version: limit.order(version) > 0,
    "<": lambda limit, version: version < limit.version,
    ">=": lambda limit, version: version >= limit.version,
    "=>": lambda limit, version: version >= limit.version,
    "<=": lambda limit, version: limit.order(version) <= 0,
    "=<": lambda limit, version: limit.order(version) <= 0,
    "~": _tilde,
    "~>": _tilde,
    "^": _caret,
}


def _comparison(match: re.Match[str]) -> _Comparison:
    operator, *numbers, prerelease, metadata = match.groups()
    known: list[int] = []
    for number in numbers:
        if number is None or not number.isdigit():
            break
        known.append(int(number))
    major, minor, patch = (*known, *([0] * (3 - len(known))))
    return _Comparison(operator, Version(major, minor, patch, prerelease or "", metadata or ""), len(known))


def _constraint(text: str) -> list[list[_Comparison]]:
    groups = []
    for group in text[:MAX_CONSTRAINT].split("||"):
        group = _RANGE.sub(lambda match: f">={match[1]} <={match[7]}", group)
        if not _GROUP.fullmatch(group):
            raise FunctionError(f"improper constraint: {text}")
        groups.append([_comparison(match) for match in _COMPARISON.finditer(group.replace(",", " "))])
    return groups


@function(params=("string",))
def _semver(text: str) -> Value:
    return parse(text)


@function(params=("string", "string"))
def _semver_compare(constraint: str, text: str) -> Value:
    groups = _constraint(constraint)
    version = parse(text)
    return any(all(comparison.admits(version) for comparison in group) for group in groups)


FUNCTIONS: Functions = {"semver": _semver, "semverCompare": _semver_compare}
