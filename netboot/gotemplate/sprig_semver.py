"""Sprig's semantic versions (semver.org 2.0.0, read leniently: `v1.2` is 1.2.0) and what they are compared with.

A constraint is groups between `||`, each of comparisons between blanks or commas: `= != > < >= <= ~ ^`, ranges `1.2 - 1.4.5`,
and `x` or `*` for any number. A version with a prerelease only meets a comparison that names one.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
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
    """`wild` counts the numbers that are not said, or said as any: 3 for `*`, 1 for `1.2`."""

    operator: str
    version: Version
    wild: int

    def admits(self, version: Version) -> bool:
        if version.prerelease and not self.version.prerelease:
            return False
        return _TESTS[self.operator](self, version)

    @property
    def above(self) -> Version:
        """The first version that no number left open reaches."""
        bounds = {1: Version(self.version.major, self.version.minor + 1, 0), 2: Version(self.version.major + 1, 0, 0)}
        return bounds.get(self.wild, self.version)


def _equal(limit: _Comparison, version: Version) -> bool:
    return _tilde(limit, version) if limit.wild else version == limit.version


def _not_equal(limit: _Comparison, version: Version) -> bool:
    if not limit.wild:
        return version != limit.version
    given = (version.major, version.minor)
    known = (limit.version.major, limit.version.minor)
    count = 3 - limit.wild
    return given[:count] != known[:count] if count else False


def _greater(limit: _Comparison, version: Version) -> bool:
    return version > limit.version if not limit.wild else limit.wild < 3 and version >= limit.above


def _at_most(limit: _Comparison, version: Version) -> bool:
    return version <= limit.version if not limit.wild else limit.wild == 3 or version < limit.above


def _tilde(limit: _Comparison, version: Version) -> bool:
    if limit.wild == 3:
        return True
    wild = replace(limit, wild=max(limit.wild, 1))
    return limit.version <= version and version < wild.above


def _caret(limit: _Comparison, version: Version) -> bool:
    base = limit.version
    if limit.wild == 3:
        return True
    if version < base:
        return False
    if base.major or limit.wild == 2:
        return version.major == base.major
    if version.major:
        return False
    if base.minor or limit.wild == 1:
        return version.minor == base.minor
    return version.minor == 0 and version.patch == base.patch


_TESTS: dict[str, Callable[[_Comparison, Version], bool]] = {
    "": _equal,
    "=": _equal,
    "!=": _not_equal,
    ">": _greater,
    "<": lambda limit, version: version < limit.version,
    ">=": lambda limit, version: version >= limit.version,
    "=>": lambda limit, version: version >= limit.version,
    "<=": _at_most,
    "=<": _at_most,
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
    wild = 3 - len(known)
    major, minor, patch = (*known, *([0] * wild))
    return _Comparison(operator, Version(major, minor, patch, prerelease or "", metadata or ""), wild)


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
