"""Give the users and groups of an image the ids that they have on the head node: what is to change, as a value.

A name that both have gets the head node's id, and so do the files that it owns in the image. A system account keeps the
rest of its line; a person (an id from UID_MIN on) is as the head node says. People that only the head node has, and the groups
that they need, are added. An id that another name has on the head node is a collision: then nothing is changed.
"""

import shlex
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from images.index import Entry
from images.passwd import Account, Accounts, locked_shadow_lines, parse_group, parse_passwd, serialize

FIRST_PERSON = 1000
"""UID_MIN and GID_MIN of login.defs(5): below it are the system's own accounts."""
NOBODY = 65534
_ACLS = (b"system.posix_acl_access", b"system.posix_acl_default")
_ACL_HEADER = struct.Struct("<I")
_ACL_ENTRY = struct.Struct("<HHI")
_ACL_USER, _ACL_GROUP = 0x02, 0x08


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountFiles:
    """The texts of one system's files; `shadow` is None when it has none."""

    passwd: str
    group: str
    shadow: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Collision:
    """`kind` is `user` or `group`; the image's `name` has `id`, which on the head node is `host_name`'s.

    With `host_name` equal to `name`, it is not the name that differs but the image's id that several names share.
    """

    kind: str
    id: int
    name: str
    host_name: str
    shared_with: str = ""

    @property
    def number(self) -> str:
        return f"{'uid' if self.kind == 'user' else 'gid'} {self.id}"

    def __str__(self) -> str:
        if self.shared_with:
            return f"{self.number} ({self.name} and {self.shared_with} share it, but not here)"
        return f"{self.number} ({self.name}; here {self.host_name})"


def remedy(collisions: Sequence[Collision]) -> str:
    """What to do: a name that the head node has, too, needs no id of its own in the image."""
    missing = [one for one in collisions if not one.shared_with]
    commands = [f"groupadd --system {shlex.quote(one.name)}" for one in missing if one.kind == "group"]
    commands += [
        f"useradd --system --no-create-home --no-user-group {shlex.quote(one.name)}" for one in missing if one.kind == "user"
    ]
    advice = [f"create these names here, under any free id: {'; '.join(commands)}"] if commands else []
    advice += [f"give {one.name} and {one.shared_with} different ids in the image" for one in collisions if one.shared_with]
    return "; ".join(advice)


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A name's id in the image before and after."""

    kind: str
    name: str
    old: int
    new: int


class Owned(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One entry that changes hands: what it shall have. Absolute values: applied twice it is the same as once."""

    path: bytes
    uid: int
    gid: int
    mode: int
    xattrs: tuple[tuple[bytes, bytes], ...]


class SyncPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a synchronization does; the texts are the image's new files, None where they stay."""

    entries: tuple[Owned, ...] = ()
    passwd: bytes | None = None
    group: bytes | None = None
    shadow: bytes | None = None

    def __bool__(self) -> bool:
        return bool(self.entries) or (self.passwd, self.group, self.shadow) != (None, None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The image's accounts beside the head node's."""

    moves: tuple[Move, ...]
    added: tuple[Move, ...]
    """People and groups that only the head node has (`old` and `new` are their id there)."""
    collisions: tuple[Collision, ...]
    warnings: tuple[str, ...]
    files: AccountFiles
    """The image's files as they shall be."""

    def ids(self, kind: str) -> Mapping[int, int]:
        return {move.old: move.new for move in self.moves if move.kind == kind}


def compare(image: AccountFiles, host: AccountFiles, *, first_person: int = FIRST_PERSON) -> Comparison:
    """What has to change, by the account files alone."""
    users, host_users = parse_passwd(image.passwd), parse_passwd(host.passwd)
    groups, host_groups = parse_group(image.group), parse_group(host.group)
    people = {account.name: account for account in host_users.accounts if _is_person(account, first_person)}
    new_people = [person for name, person in people.items() if name not in users.by_name()]
    present = {*users.by_name(), *people}
    needed = {person.gid for person in people.values()}
    new_groups = [
        group
        for group in host_groups.accounts
        if group.name not in groups.by_name()
        and (_is_person(group, first_person) or group.id in needed or {*group.members} & {*people})
    ]
    moves = (*_moves("user", users, host_users), *_moves("group", groups, host_groups))
    gids = {move.old: move.new for move in moves if move.kind == "group"}
    after_users = [_synced_user(user, host_users, people, gids) for user in users.accounts]
    after_users += map(_without_password, new_people)
    after_groups = [*(_synced_group(group, host_groups, present) for group in groups.accounts)]
    after_groups += [_with_members(_without_password(group), group.members, present) for group in new_groups]
    shadow = None if image.shadow is None else locked_shadow_lines(image.shadow, [person.name for person in new_people])
    return Comparison(
        moves=moves,
        added=(
            *(Move(kind="user", name=a.name, old=a.id, new=a.id) for a in new_people),
            *(Move(kind="group", name=a.name, old=a.id, new=a.id) for a in new_groups),
        ),
        collisions=(*_collisions("user", users, host_users), *_collisions("group", groups, host_groups)),
        warnings=(
            *(f"in the image, {text}" for text in (*users.warnings, *groups.warnings)),
            *(f"on this server, {text}" for text in (*host_users.warnings, *host_groups.warnings)),
        ),
        files=AccountFiles(
            passwd=serialize(after_users, users.other), group=serialize(after_groups, groups.other), shadow=shadow
        ),
    )


def plan(comparison: Comparison, image: AccountFiles, entries: Iterable[Entry]) -> SyncPlan:
    """The whole synchronization of a tree; call it only without collisions."""

    def changed(after: str | None, before: str | None) -> bytes | None:
        if after is None or after.splitlines() == (before or "").splitlines():
            return None
        return after.encode("utf-8", "surrogateescape")

    files = comparison.files
    return SyncPlan(
        entries=tuple(_owned(entries, comparison.ids("user"), comparison.ids("group"))),
        passwd=changed(files.passwd, image.passwd),
        group=changed(files.group, image.group),
        shadow=changed(files.shadow, image.shadow),
    )


def _is_person(account: Account, first: int) -> bool:
    return account.id >= first and account.id != NOBODY


def _moves(kind: str, image: Accounts, host: Accounts) -> Iterator[Move]:
    known = host.by_name()
    for account in image.accounts:
        other = known.get(account.name)
        if other is not None and other.id != account.id:
            yield Move(kind=kind, name=account.name, old=account.id, new=other.id)


def _collisions(kind: str, image: Accounts, host: Accounts) -> Iterator[Collision]:
    known, taken = host.by_name(), host.names_by_id()
    for account in image.accounts:
        if account.name not in known and account.id in taken and account.id != NOBODY:
            yield Collision(kind=kind, id=account.id, name=account.name, host_name=taken[account.id][0])
    for number, names in image.names_by_id().items():
        targets = {known[name].id if name in known else number for name in names}
        if len(targets) > 1:
            yield Collision(kind=kind, id=number, name=names[0], host_name=names[0], shared_with=", ".join(names[1:]))


def _synced_user(user: Account, host: Accounts, people: Mapping[str, Account], gids: Mapping[int, int]) -> Account:
    """The image's line with the head node's uid and its group's new gid; of a person, the head node's line."""
    if user.name in people:
        person = people[user.name]
        return replace(person, fields=(user.name, user.fields[1], *person.fields[2:]))
    known = host.by_name().get(user.name)
    uid = user.id if known is None else known.id
    gid = gids.get(user.gid, user.gid)
    return replace(user, id=uid, fields=(*user.fields[:2], str(uid), str(gid), *user.fields[4:]))


def _synced_group(group: Account, host: Accounts, present: set[str]) -> Account:
    """The head node's id, and the members of both as far as the image has them."""
    known = host.by_name().get(group.name)
    if known is None:
        return group
    moved = replace(group, id=known.id, fields=(*group.fields[:2], str(known.id), group.fields[3]))
    return _with_members(moved, [*group.members, *(name for name in known.members if name in present)], None)


def _with_members(group: Account, members: Iterable[str], present: set[str] | None) -> Account:
    kept = dict.fromkeys(name for name in members if present is None or name in present)
    return replace(group, fields=(*group.fields[:3], ",".join(kept)))


def _without_password(account: Account) -> Account:
    """A hash in these files would be readable by everyone on the boot network."""
    return replace(account, fields=(account.fields[0], "x", *account.fields[2:]))


def _owned(entries: Iterable[Entry], uids: Mapping[int, int], gids: Mapping[int, int]) -> Iterator[Owned]:
    """Every entry that changes, of whatever type: links, devices and directories, too."""
    for entry in entries:
        uid, gid = uids.get(entry.uid, entry.uid), gids.get(entry.gid, entry.gid)
        xattrs = tuple((name, _moved_acl(value, uids, gids) if name in _ACLS else value) for name, value in entry.xattrs)
        if (uid, gid, xattrs) != (entry.uid, entry.gid, entry.xattrs):
            yield Owned(path=entry.path, uid=uid, gid=gid, mode=entry.mode, xattrs=xattrs)


def _moved_acl(value: bytes, uids: Mapping[int, int], gids: Mapping[int, int]) -> bytes:
    """An ACL as the kernel stores it (linux/posix_acl_xattr.h), with the ids in it moved."""
    head, rest = value[: _ACL_HEADER.size], value[_ACL_HEADER.size :]
    if len(rest) % _ACL_ENTRY.size:
        return value
    moved = [head]
    for tag, permissions, number in _ACL_ENTRY.iter_unpack(rest):
        ids = uids if tag == _ACL_USER else gids if tag == _ACL_GROUP else {}
        moved.append(_ACL_ENTRY.pack(tag, permissions, ids.get(number, number)))
    return b"".join(moved)
