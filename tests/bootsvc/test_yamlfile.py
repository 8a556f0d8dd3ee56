from pathlib import Path
from typing import Any

import pytest

from bootsvc.yamlfile import YamlError, compose, core_scalar, read_text, value

SOURCE = Path("some.conf")


def load(text: str, *, typed: bool = False) -> Any:
    root = compose(text, SOURCE)
    return None if root is None else value(root, SOURCE, typing=core_scalar if typed else None)


@pytest.mark.parametrize(
    "text", ["52:54:00:12:34:56", "12:30", "no", "on", "yes", "0755", "5.10", "2024-01-01", "1e3", "true", "=", "~x"]
)
def test_plain_scalars_stay_text(text: str) -> None:
    assert load(f"key: {text}") == {"key": text}


@pytest.mark.parametrize("text", ["", "~", "null", "Null", "NULL"])
def test_null_is_none(text: str) -> None:
    assert load(f"key: {text}") == {"key": None}


def test_quoted_null_is_text() -> None:
    assert load("key: '~'\nother: \"\"") == {"key": "~", "other": ""}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12", 12),
        ("0755", 0o755),
        ("0800", 800),
        ("0o17", 15),
        ("0x1F", 31),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".inf", float("inf")),
        ("-.INF", float("-inf")),
        ("true", True),
        ("FALSE", False),
        ("yes", "yes"),
        ("12:30", "12:30"),
        ("1_000", "1_000"),
        ("2024-01-01", "2024-01-01"),
        ("~", None),
    ],
)
def test_core_schema(text: str, expected: object) -> None:
    assert core_scalar(text) == expected
    assert type(core_scalar(text)) is type(expected)


def test_typed_values_leave_quoted_text_alone() -> None:
    assert load("a: 1\nb: '1'\nc: [true, 'true']", typed=True) == {"a": 1, "b": "1", "c": [True, "true"]}


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "~\n"])
def test_nothing_is_none(text: str) -> None:
    assert load(text) is None


@pytest.mark.parametrize(
    ("text", "line", "column", "reason"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, 1, "'a' stands here twice, first on line 1"),
        ("a: 1\nb: [\n", 3, 1, "not YAML"),
        ("a: b: c\n", 1, 5, "not YAML: mapping values are not allowed"),
        ("a: 1\n\tb: 2\n", 2, 1, "not YAML"),
        ("a: x\nb: \x01\n", 2, 4, "control characters are not allowed"),
        ("- a\n- b\n", 1, 1, "expected keys and values here"),
        ("just text\n", 1, 1, "expected keys and values here"),
        ("a: *gone\n", 1, 4, "undefined alias"),
        ("a: 1\n---\nb: 2\n", 2, 1, "another document"),
        ("a: !!python/object:os.system x\n", 1, 4, "is not supported"),
        ("? [a]\n: b\n", 1, 3, "a key must be text"),
        ("a: &a {b: *a}\n", 1, 4, "alias of itself"),
        ("a: {<<: text}\n", 1, 9, "only a mapping can be merged"),
    ],
)
def test_errors_name_the_place(text: str, line: int, column: int, reason: str) -> None:
    with pytest.raises(YamlError) as caught:
        load(text)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert reason in caught.value.message
    assert caught.value.message.startswith(f"some.conf:{line}:{column}: ")


def test_deep_nesting_is_an_error() -> None:
    with pytest.raises(YamlError):
        load("a: " + "[" * 5000)


def test_merge_keys() -> None:
    text = "base: &b {x: 1, y: 2}\nmore: &m {y: 3, z: 4}\none: {<<: *b, y: 9}\ntwo:\n  <<: [*b, *m]\n"
    loaded = load(text)
    assert loaded["one"] == {"y": "9", "x": "1"}
    assert loaded["two"] == {"x": "1", "y": "2", "z": "4"}


def test_quoted_merge_key_is_a_key() -> None:
    assert load("'<<': x") == {"<<": "x"}


def test_aliases_that_repeat_too_much_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    with pytest.raises(YamlError, match="aliases repeat"):
        load("\n".join(lines))


def test_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "x.conf"
    path.write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(YamlError, match=r"x\.conf:2:4: byte 0xff is not UTF-8"):
        read_text(path)


def test_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "x.conf"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_text(path) == "a: 1\n"
