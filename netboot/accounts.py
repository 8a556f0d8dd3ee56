"""passwd and group of a node: the image's accounts, the head node's people, and what the node's resources add.

Unlike `images.syncuser` nothing in the image changes hands, so its system accounts keep their ids. A person whom only the head
node has gets `*` for a password: none fits, keys do, and no line in the image's shadow is needed for it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from images.passwd import Account, Accounts, parse_group, parse_passwd, serialize
from images.syncuser import FIRST_PERSON, NOBODY, AccountFiles, Collision, compare
from netboot.errors import OverlayError

ROOT_TAG = "PasswordlessRoot"
NO_PASSWORD = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a node says of its accounts: its image, for messages, and its tag and resources."""

    image: str
    passwordless_root: bool = False
    users: object = None
    groups: object = None


def merge(image: AccountFiles, host: AccountFiles, wishes: Wishes, *, first_person: int = FIRST_PERSON) -> AccountFiles:
    """The node's passwd and group. Raises OverlayError for an id that two names would share, and for a bad resource."""
    known = {name for file in (parse_passwd(image.passwd), parse_group(image.group)) for name in file.by_name()}
    done = compare(image, _people(image, host, first_person), first_person=first_person)
    if done.collisions:
        raise _collision(done.collisions[0], wishes.image)
    users = [*parse_passwd(done.files.passwd).accounts]
    users = [user if user.name in known else _with_password(user, NO_PASSWORD) for user in users]
    users = _added(users, _local(wishes.users, "localusers", _user), "user")
    groups = _added([*parse_group(done.files.group).accounts], _local(wishes.groups, "localgroups", _group), "group")
    if wishes.passwordless_root:
        users = [_with_password(user, "") if user.name == "root" else user for user in users]
    return AccountFiles(
        passwd=serialize(users, parse_passwd(image.passwd).other), group=serialize(groups, parse_group(image.group).other)
    )


def _people(image: AccountFiles, host: AccountFiles, first: int) -> AccountFiles:
    """The head node's people and their groups; a group of the system has the id that it has in the image."""
    users = [user for user in parse_passwd(host.passwd).accounts if user.id >= first and user.id != NOBODY]
    names, primary = {user.name for user in users}, {user.gid for user in users}
    own = parse_group(image.group).by_name()
    groups = []
    for group in parse_group(host.group).accounts:
        if group.id >= first or group.id in primary or names & {*group.members}:
            there = own.get(group.name)
            same = there is not None and group.id < first and group.id not in primary
            groups.append(_with_id(group, there.id) if there is not None and same else group)
    return AccountFiles(passwd=serialize(users), group=serialize(groups))


def _with_id(account: Account, number: int) -> Account:
    return replace(account, id=number, fields=(*account.fields[:2], str(number), *account.fields[3:]))


def _with_password(account: Account, password: str) -> Account:
    return replace(account, fields=(account.fields[0], password, *account.fields[2:]))


def _collision(one: Collision, image: str) -> OverlayError:
    return OverlayError(
        f"{one.number} is {one.name!r} in image {image!r} and {one.host_name!r} on this server",
        hint="give one of the two another id; `wwctl image syncuser` can change it in the image",
    )


def _added(accounts: list[Account], more: Iterable[Account], kind: str) -> list[Account]:
    """With the node's own accounts, each in the place of one of its name."""
    by_name = {account.name: account for account in accounts}
    for account in more:
        taken = next((one.name for one in by_name.values() if one.id == account.id and one.name != account.name), None)
        if taken is not None:
            raise OverlayError(
                f"the {kind} {account.name!r} of the node's resources has the id {account.id}, which is {taken!r}",
                hint="give it a free one in nodes.conf",
            )
        by_name[account.name] = account
    return list(by_name.values())


def _local(records: object, resource: str, line: Callable[[Mapping[str, Any]], str]) -> Iterable[Account]:
    """The accounts of `localusers` or `localgroups`: a list of mappings, or of lines as the file has them."""
    records = records or []
    if not isinstance(records, list):
        raise _bad(resource, records)
    parse: Callable[[str], Accounts] = parse_passwd if resource == "localusers" else parse_group
    for record in records:
        text = record if isinstance(record, str) else line(record) if isinstance(record, Mapping) else ""
        found = parse(text).accounts
        if len(found) != 1:
            raise _bad(resource, record)
        yield found[0]


def _bad(resource: str, record: object) -> OverlayError:
    return OverlayError(
        f"the resource {resource} has an entry that is no account: {record!r}",
        hint="a user has name, uid and gid, and may have gecos, home and shell; a group has name and gid, and may have members",
    )


def _user(record: Mapping[str, Any]) -> str:
    name, uid = record.get("name", ""), record.get("uid", "")
    home = record.get("home") or f"/home/{name}"
    shell = record.get("shell") or "/bin/sh"
    gecos = record.get("gecos") or record.get("comment") or ""
    return f"{name}:{NO_PASSWORD}:{uid}:{record.get('gid', uid)}:{gecos}:{home}:{shell}"


def _group(record: Mapping[str, Any]) -> str:
    members = record.get("members") or ""
    return f"{record.get('name', '')}:x:{record.get('gid', '')}:{members if isinstance(members, str) else ','.join(members)}"
