"""How Python objects stand for Go's values."""

from collections.abc import Callable
from enum import Enum
from ipaddress import IPv4Address, IPv6Network
from pathlib import PurePosixPath

import pytest

from netboot.gotemplate.errors import ExecError
from netboot.gotemplate.printing import plain, show
from netboot.gotemplate.template import Template
from netboot.gotemplate.values import (
    INT_MAX,
    INT_MIN,
    MISSING,
    GoList,
    GoMap,
    NilPointer,
    Value,
    function,
    is_true,
    text_of,
    type_name,
    wrap_int64,
    zero,
)


class Color(Enum):
    RED = "red"


class Level(Enum):
    HIGH = 3


class Version:
    def go_string(self) -> str:
        return "v1"


class Host:
    def go_type(self) -> str:
        return "*node.Node"

    def go_field(self, name: str) -> Value:
        return {"Id": "n1", "Nothing": None}.get(name, MISSING)

    def go_method(self, name: str) -> Callable[..., Value] | None:
        return self.greet if name == "Greet" else None

    @function(params=("string", "...int"))
    def greet(self, who: str, *numbers: int) -> str:
        return f"hello {who} {sum(numbers)}"

    def go_string(self) -> str:
        return "{n1}"


@pytest.mark.parametrize(
    ("value", "name", "truth", "printed"),
    [
        (None, "interface {}", False, "<no value>"),
        (MISSING, "interface {}", False, "<no value>"),
        (True, "bool", True, "true"),
        (0, "int", False, "0"),
        (-0.0, "float64", False, "-0"),
        (1e6, "float64", True, "1e+06"),
        (float("inf"), "float64", True, "+Inf"),
        ("", "string", False, ""),
        ([], "[]interface {}", False, "[]"),
        ((1, None, "a"), "[]interface {}", True, "[1 <nil> a]"),
        (GoList(["a"], "string"), "[]string", True, "[a]"),
        ({"b": 1, "a": {"x": True}}, "map[string]interface {}", True, "map[a:map[x:true] b:1]"),
        ({2: "b", 10: "c", "x": 1}, "map[string]interface {}", True, "map[2:b 10:c x:1]"),
        (GoMap({}, "string"), "map[string]string", False, "map[]"),
        (NilPointer("*node.KernelConf"), "*node.KernelConf", False, "<nil>"),
        (Host(), "*node.Node", True, "{n1}"),
        (Version(), "Version", True, "v1"),
        (Color.RED, "string", True, "red"),
        (Level.HIGH, "string", True, "3"),
        (IPv4Address("10.0.0.1"), "net.IP", True, "10.0.0.1"),
        (IPv6Network("fd00::/64"), "net.IPNet", True, "fd00::/64"),
        (PurePosixPath("/etc"), "string", True, "/etc"),
    ],
)
def test_value(value: Value, name: str, truth: bool, printed: str) -> None:
    assert (type_name(value), is_true(value), show(value)) == (name, truth, printed)


def test_nil_within_is_printed_as_nil() -> None:
    assert plain(None) == "<nil>"
    assert plain([None, NilPointer("*x")]) == "[<nil> <nil>]"


def test_text_of_is_for_texts_only() -> None:
    assert [text_of(value) for value in ("a", Version(), Color.RED, 1, None, ["a"], Host())] == [
        "a",
        "v1",
        "red",
        None,
        None,
        None,
        None,
    ]


def test_zero_values() -> None:
    assert [zero(name) for name in ("string", "bool", "int", "float64", "interface {}")] == ["", False, 0, 0.0, None]
    assert type_name(zero("[]string")) == "[]string"
    assert type_name(zero("map[string]int")) == "map[string]int"
    assert zero("*node.NetDev") == NilPointer("*node.NetDev")


def test_int64_wraps() -> None:
    assert [wrap_int64(number) for number in (INT_MAX, INT_MAX + 1, INT_MIN - 1, 1 << 64)] == [INT_MAX, INT_MIN, INT_MAX, 0]


def test_record_in_a_template() -> None:
    template = Template.parse("t", '{{ .Id }} {{ .Greet "you" }} {{ "me" | .Greet }} {{ .Greet `x` 1 2 }} {{ .Nothing }}')
    assert template.execute(Host()) == "n1 hello you 0 hello me 0 hello x 3 <no value>"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{{ .Greet }}", "wrong number of args for Greet: want at least 1 got 0"),
        ("{{ .Greet 1 }}", "expected string; found 1"),
        ("{{ .Greet .Nothing }}", "wrong type for value; expected string; got interface {}"),
        ("{{ .Greet `a` `b` }}", "expected integer; found `b`"),
        ("{{ .Greet `a` 1.5 }}", "expected integer; found 1.5"),
        ("{{ .Other }}", "can't evaluate field Other in type *node.Node"),
        ("{{ .Nothing.X }}", "nil pointer evaluating interface {}.X"),
    ],
)
def test_record_refuses(text: str, reason: str) -> None:
    with pytest.raises(ExecError) as caught:
        Template.parse("t", text).execute(Host())
    assert caught.value.reason == reason
