"""passwd, group and shadow as records."""

from images.passwd import locked_shadow_lines, parse_group, parse_passwd, passwords, serialize

PASSWD = """\
root:x:0:0:root:/root:/bin/bash
alice:x:1000:100:Alice,,,:/home/alice:/bin/zsh
# a comment
broken:x:12
+@nis::::::
-mallory:x:1:1:::
number:x:abc:0:::
huge:x:4294967295:0:::
alice:x:1001:100::/:/bin/sh
evil\x1b[2J:x:5:5:::
last:x:7:8:::
"""


def test_lines_that_are_no_account_are_kept_and_come_last() -> None:
    parsed = parse_passwd(PASSWD)
    assert [(user.name, user.id, user.gid) for user in parsed.accounts] == [
        ("root", 0, 0),
        ("alice", 1000, 100),
        ("last", 7, 8),
    ]
    assert serialize(parsed.accounts, parsed.other).splitlines() == [
        "root:x:0:0:root:/root:/bin/bash",
        "alice:x:1000:100:Alice,,,:/home/alice:/bin/zsh",
        "last:x:7:8:::",
        "# a comment",
        "broken:x:12",
        "+@nis::::::",
        "-mallory:x:1:1:::",
        "number:x:abc:0:::",
        "huge:x:4294967295:0:::",
        "evil\x1b[2J:x:5:5:::",
    ]
    assert parsed.warnings == ("user alice is listed twice, with 1000 and 1001; 1000 counts",)


def test_members_of_a_group() -> None:
    (group,) = parse_group("wheel:x:10:root,alice\n").accounts
    assert group.members == ("root", "alice")
    assert parse_group("empty:x:11:\n").accounts[0].members == ()


def test_shadow_lines_are_added_once_and_locked() -> None:
    shadow = "root:$6$x$y:19000:0:99999:7:::"
    after = locked_shadow_lines(shadow, ["root", "alice"])
    assert after == "root:$6$x$y:19000:0:99999:7:::\nalice:*:::::::\n"
    assert locked_shadow_lines(after, ["root", "alice"]) == after
    assert passwords(after) == {"root": "$6$x$y", "alice": "*"}
