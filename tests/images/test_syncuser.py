"""What a synchronization of users changes, decided by the account files and the tree's entries alone."""

import stat
import struct

import pytest

from images.index import Entry
from images.syncuser import AccountFiles, Collision, Move, compare, plan, remedy


def passwd(*users: str) -> str:
    """`name:uid[:gid]` each."""
    parts = [[*user.split(":"), "100"][:3] for user in users]
    return "".join(f"{name}:x:{uid}:{gid}:of the {{}}:/home/{name}:/bin/sh\n" for name, uid, gid in parts)


def group(*groups: str) -> str:
    """`name:gid[:members]` each."""
    parts = [[*entry.split(":"), ""][:3] for entry in groups]
    return "".join(f"{name}:x:{gid}:{members}\n" for name, gid, members in parts)


def files(users: str = "", groups: str = "", shadow: str | None = None) -> AccountFiles:
    return AccountFiles(passwd=users, group=groups, shadow=shadow)


def entry(path: str, uid: int, gid: int, mode: int = stat.S_IFREG | 0o644, **more: object) -> Entry:
    values: dict[str, object] = {"inode": 1, "size": 0, "nlink": 1, "rdev": 0, "mtime_ns": 0, "ctime_ns": 0, **more}
    return Entry(path=path.encode(), mode=mode, uid=uid, gid=gid, **values)  # type: ignore[arg-type]


def test_the_same_name_gets_the_head_nodes_id_and_keeps_the_rest_of_its_line() -> None:
    image = files("munge:!:115:116:image:/var/lib/munge:/usr/sbin/nologin\n", group("munge:116"))
    host = files("munge:x:120:121:host:/elsewhere:/bin/bash\n", group("munge:121"))
    found = compare(image, host)
    assert found.moves == (
        Move(kind="user", name="munge", old=115, new=120),
        Move(kind="group", name="munge", old=116, new=121),
    )
    assert found.files.passwd == "munge:!:120:121:image:/var/lib/munge:/usr/sbin/nologin\n"
    assert found.files.group == "munge:x:121:\n"
    assert found.collisions == ()


def test_a_person_is_as_the_head_node_says_but_no_hash_is_taken_over() -> None:
    image = files("alice:x:1000:1000:old:/home/old:/bin/sh\n", group("alice:1000"))
    host = files("alice:$6$secret$:2000:3000:new:/home/alice:/bin/zsh\n", group("alice:2000", "research:3000"))
    found = compare(image, host)
    assert found.files.passwd == "alice:x:2000:3000:new:/home/alice:/bin/zsh\n"
    assert found.files.group == "alice:x:2000:\nresearch:x:3000:\n"


def test_people_are_added_with_the_groups_that_they_need_and_system_accounts_are_not() -> None:
    image = files(passwd("root:0:0"), group("root:0", "video:44"), shadow="root:*:1::::::\n")
    host = files(
        passwd("root:0:0", "postgres:110:112", "bob:1001:500", "nobody:65534:65534") + "carol:$6$x$:1002:100::/:/bin/sh\n",
        group("root:0", "postgres:112", "staff:500", "docker:998:bob,root", "lxd:997:root", "lab:1500", "video:44:bob,ghost"),
    )
    found = compare(image, host)
    assert [user.split(":")[0] for user in found.files.passwd.splitlines()] == ["root", "bob", "carol"]
    assert "$6$" not in found.files.passwd
    assert found.files.group == "root:x:0:\nvideo:x:44:bob\nstaff:x:500:\ndocker:x:998:bob,root\nlab:x:1500:\n"
    assert found.files.shadow == "root:*:1::::::\nbob:*:::::::\ncarol:*:::::::\n"
    assert [(one.kind, one.name) for one in found.added] == [
        ("user", "bob"), ("user", "carol"), ("group", "staff"), ("group", "docker"), ("group", "lab"),
    ]  # fmt: skip


def test_first_person_is_the_sites() -> None:
    host = files(passwd("old:500:500"), group("old:500"))
    assert compare(files(), host).added == ()
    assert [one.name for one in compare(files(), host, first_person=500).added] == ["old", "old"]


def test_only_in_the_image_with_a_free_id_stays() -> None:
    image = files(passwd("sshd:74"), group("sshd:74"))
    found = compare(image, files(passwd("root:0"), group("root:0")))
    assert (found.files.passwd, found.files.group, found.collisions) == (image.passwd, image.group, ())


def test_only_in_the_image_with_a_taken_id_is_a_collision() -> None:
    image = files(passwd("munge:115"), group("input:102"))
    found = compare(image, files(passwd("postgres:115"), group("messagebus:102")))
    assert found.collisions == (
        Collision(kind="user", id=115, name="munge", host_name="postgres"),
        Collision(kind="group", id=102, name="input", host_name="messagebus"),
    )
    assert [str(one) for one in found.collisions] == ["uid 115 (munge; here postgres)", "gid 102 (input; here messagebus)"]
    assert remedy(found.collisions) == (
        "create these names here, under any free id: groupadd --system input; "
        "useradd --system --no-create-home --no-user-group munge"
    )


def test_creating_the_name_on_the_head_node_ends_the_collision() -> None:
    image = files(passwd("munge:115"))
    found = compare(image, files(passwd("postgres:115", "munge:119")))
    assert (found.collisions, found.moves) == ((), (Move(kind="user", name="munge", old=115, new=119),))


def test_two_names_of_one_id_that_part_are_a_collision() -> None:
    found = compare(files(passwd("a:50", "b:50")), files(passwd("a:50", "b:51")))
    assert [str(one) for one in found.collisions] == ["uid 50 (a and b share it, but not here)"]
    assert compare(files(passwd("a:50", "b:50")), files(passwd("a:60", "b:60"))).collisions == ()


def test_nobody_may_have_any_name() -> None:
    assert compare(files("", group("nobody:65534")), files("", group("nogroup:65534"))).collisions == ()


def test_swapped_ids_and_every_kind_of_entry() -> None:
    image = files(passwd("a:1000", "b:1001"), group("g:50"))
    host = files(passwd("a:1001", "b:1000"), group("g:60"))
    entries = [
        entry("a", 1000, 50),
        entry("b", 1001, 0),
        entry("link", 1000, 0, stat.S_IFLNK | 0o777),
        entry("null", 0, 50, stat.S_IFCHR | 0o666),
        entry("others", 7, 8),
        entry("suid", 1000, 0, stat.S_IFREG | 0o4755, xattrs=((b"security.capability", b"x"),)),
    ]
    done = plan(compare(image, host), image, entries)
    assert [(owned.path, owned.uid, owned.gid) for owned in done.entries] == [
        (b"a", 1001, 60), (b"b", 1000, 0), (b"link", 1001, 0), (b"null", 0, 60), (b"suid", 1001, 0),
    ]  # fmt: skip
    assert done.entries[-1].mode == stat.S_IFREG | 0o4755
    assert done.entries[-1].xattrs == ((b"security.capability", b"x"),)


def test_ids_in_acls_move_too() -> None:
    def acl(user: int, group_id: int) -> bytes:
        rows = [(0x01, 6, 0xFFFFFFFF), (0x02, 4, user), (0x04, 4, 0xFFFFFFFF), (0x08, 4, group_id), (0x10, 6, 0xFFFFFFFF)]
        return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *row) for row in rows)

    image, host = files(passwd("a:100"), group("g:50")), files(passwd("a:200"), group("g:60"))
    found = entry("shared", 0, 0, xattrs=((b"system.posix_acl_access", acl(100, 50)),))
    (owned,) = plan(compare(image, host), image, [found]).entries
    assert owned.xattrs == ((b"system.posix_acl_access", acl(200, 60)),)


def test_nothing_to_do_is_an_empty_plan() -> None:
    image = files(passwd("root:0:0", "alice:1000"), group("root:0", "users:100"), shadow="root:*::::::\nalice:*::::::\n")
    found = compare(image, files(image.passwd, image.group))
    done = plan(found, image, [entry("x", 1000, 100)])
    assert not done
    again = compare(found.files, files(image.passwd, image.group))
    assert again.files == found.files


@pytest.mark.parametrize("shadow", [None, ""])
def test_an_image_without_shadow_gets_none(shadow: str | None) -> None:
    image, host = files(passwd("root:0"), shadow=shadow), files(passwd("root:0", "bob:1000"))
    done = plan(compare(image, host), image, [])
    assert done.shadow == (None if shadow is None else b"bob:*:::::::\n")
