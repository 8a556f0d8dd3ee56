"""Excludes: the documented pattern rules."""

from pathlib import Path

import pytest

from images.excludes import BadPattern, Excludes, NoExcludesFile, literal, read_excludes


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("swapfile", "swapfile", True),
        ("boot/*", "boot/vmlinuz", True),
        ("boot/*", "boot/grub/x", False),
        ("boot/*", "boot", False),
        ("usr/share/*/doc", "usr/share/a/doc", True),
        ("usr/share/*/doc", "usr/share/a/b/doc", False),
        ("log?", "log1", True),
        ("log?", "log/", False),
        ("[ab]c", "ac", True),
        ("[!ab]c", "ac", False),
        ("[!ab]c", "/c", False),
        ("a[", "a[", True),
        ("a.c", "abc", False),
        ("a(b|c)+", "a(b|c)+", True),
        (r"a\*", "a*", True),
        (r"a\*", "ab", False),
        (r"a\[x\]", "a[x]", True),
        (r"[\]x]", "]", True),
        (r"[\]x]", "\\", False),
        (r"[]x]", "]", True),
        (r"[a\-c]", "b", False),
        (r"[a-c]", "b", True),
        (r"[[x]", "[", True),
        (r"[!\^]", "^", False),
        (r"[\!a]", "!", True),
        (r"[\!a]", "b", False),
        (r"[\^\-]", "-", True),
        ("a\\", "a\\", True),
        (r"a\\b", "a\\b", True),
    ],
)
def test_pattern(pattern: str, path: str, matches: bool) -> None:
    assert Excludes([pattern]).match(path.encode()) is matches


@pytest.mark.parametrize("path", ["a*b", "a[x]", "a?", "back\\slash", "a]", "-!^"])
def test_a_literal_pattern_matches_one_path(path: str) -> None:
    assert Excludes([literal(path)]).match(path.encode())
    assert not Excludes([literal(path)]).match(b"aab")


def test_what_is_no_pattern_is_named() -> None:
    with pytest.raises(BadPattern, match=r"'tmp/\[z-a\]' in /etc/warewulf/excludes"):
        Excludes(["ok", "tmp/[z-a]"])


def test_any_of_several_patterns() -> None:
    assert Excludes(["a", "b*"]).match(b"bc")
    assert not Excludes([]).match(b"")


def test_file_has_comments_and_slashes(tmp_path: Path) -> None:
    (tmp_path / "etc/warewulf").mkdir(parents=True)
    (tmp_path / "etc/warewulf/excludes").write_text("# caches\n/var/cache/*\n\n  tmp/ \n")
    assert read_excludes(tmp_path) == ["var/cache/*", "tmp"]
    assert read_excludes(tmp_path / "elsewhere") == []


def test_the_file_is_a_regular_one(tmp_path: Path) -> None:
    file = tmp_path / "etc/warewulf/excludes"
    file.mkdir(parents=True)
    with pytest.raises(NoExcludesFile):
        read_excludes(tmp_path)
    file.rmdir()
    for target in ("/etc/passwd", "nowhere"):
        file.symlink_to(target)
        with pytest.raises(NoExcludesFile, match="/etc/warewulf/excludes of the image is no regular file"):
            read_excludes(tmp_path)
        file.unlink()
