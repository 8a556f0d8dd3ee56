"""passwd(5), group(5) and shadow(5): text to records and back; lines that are no account are kept as they are."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MAX_ID = 0xFFFFFFFE
"""The largest id; the one above means "none" to chown(2)."""
PASSWD_FIELDS = 7
GROUP_FIELDS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A user (`id` is the uid, `fields` are all seven) or a group (the gid, all four)."""

    name: str
    id: int
    fields: tuple[str, ...]

    @property
    def gid(self) -> int:
        """A user's primary group; 0 where the field is no number."""
        return int(self.fields[3]) if self.fields[3].isdecimal() else 0

    @property
    def members(self) -> tuple[str, ...]:
        """A group's members."""
        return tuple(filter(None, self.fields[3].split(",")))

    def line(self) -> str:
        return ":".join(self.fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """One file: each name's first line, in order; `other` are the lines that are none (NIS, comments, broken ones)."""

    accounts: tuple[Account, ...]
    other: tuple[str, ...]
    warnings: tuple[str, ...]

    def by_name(self) -> dict[str, Account]:
        return {account.name: account for account in self.accounts}

    def names_by_id(self) -> dict[int, list[str]]:
        found: dict[int, list[str]] = {}
        for account in self.accounts:
            found.setdefault(account.id, []).append(account.name)
        return found


def parse_passwd(text: str) -> Accounts:
    return _parse(text, PASSWD_FIELDS, "user")


def parse_group(text: str) -> Accounts:
    return _parse(text, GROUP_FIELDS, "group")


def _parse(text: str, count: int, kind: str) -> Accounts:
    accounts: dict[str, Account] = {}
    other, warnings = [], []
    for line in text.splitlines():
        fields = tuple(line.split(":"))
        if len(fields) != count or not _is_name(fields[0]) or not _is_id(fields[2]):
            other.append(line)
            continue
        account = Account(name=fields[0], id=int(fields[2]), fields=fields)
        first = accounts.setdefault(account.name, account)
        if first is not account and first.id != account.id:
            warnings.append(f"{kind} {account.name} is listed twice, with {first.id} and {account.id}; {first.id} counts")
    return Accounts(accounts=tuple(accounts.values()), other=tuple(other), warnings=tuple(warnings))


def _is_name(text: str) -> bool:
    """Not a NIS line, and nothing that would garble a message or another field."""
    return bool(text) and text[0] not in "+-#" and text.isprintable() and " " not in text


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdecimal() and int(text) <= MAX_ID


def serialize(accounts: Iterable[Account], other: Sequence[str] = ()) -> str:
    """The file's text; lines that are no account come last, as NIS wants it."""
    return "".join(f"{line}\n" for line in (*(account.line() for account in accounts), *other))


def passwords(text: str) -> dict[str, str]:
    """The password field of each account in a shadow or passwd file."""
    fields = (line.split(":") for line in text.splitlines())
    return {words[0]: words[1] for words in fields if len(words) > 1 and _is_name(words[0])}


def locked_shadow_lines(text: str, names: Iterable[str]) -> str:
    """`text` (shadow) with a line for each name that has none: no password fits, but keys do, and nothing expires."""
    known = passwords(text)
    added = "".join(f"{name}:*:::::::\n" for name in names if name not in known)
    return (text if text.endswith("\n") or not text else text + "\n") + added
