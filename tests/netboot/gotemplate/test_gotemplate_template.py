"""What a template makes of data, case by case; `test_gotemplate_differential` asks Go about the same cases."""

from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import PurePosixPath

import pytest
from go_oracle import DATA, FUNCTIONS
from handwritten import ERRORS, PARSE_ERRORS, RENDERED

from netboot.gotemplate.errors import Abort, ExecError, ParseError
from netboot.gotemplate.template import Template


def render(text: str, data: object = DATA, **functions: Callable[..., object]) -> str:
    given = FUNCTIONS | functions
    return Template.parse("t", text, functions=given).execute(data, given)


@pytest.mark.parametrize(("text", "expected"), RENDERED)
def test_renders(text: str, expected: str) -> None:
    assert render(text) == expected


@pytest.mark.parametrize(("text", "message"), ERRORS)
def test_execution_fails_with_the_place(text: str, message: str) -> None:
    with pytest.raises(ExecError) as caught:
        render(text)
    assert caught.value.message == f"template: t:{message}"


@pytest.mark.parametrize(("text", "message"), PARSE_ERRORS)
def test_is_no_template(text: str, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        render(text)
    assert caught.value.message == f"template: t:{message}"


def test_error_keeps_its_fields() -> None:
    with pytest.raises(ExecError) as caught:
        render("a\n  é{{ .node.Nope }}")
    error = caught.value
    assert (error.name, error.line, error.column) == ("t", 2, 12)  # é is two bytes
    assert error.hint is None
    assert error.reason == "can't evaluate field Nope in type interface {}"


def test_one_template_serves_many_executions_with_functions_of_their_own() -> None:
    template = Template.parse("t", "{{ range .hosts }}{{ file . }}{{ end }}", functions={"file"})
    for hosts in (["a", "b"], ["c"]):
        seen: list[object] = []
        text = template.execute({"hosts": hosts}, {"file": lambda name, seen=seen: seen.append(name) or ""})
        assert (text, seen) == ("", hosts)


def test_abort_reaches_the_caller_untouched() -> None:
    def abort() -> str:
        raise Abort

    with pytest.raises(Abort):
        render("before {{ if true }}{{ abort }}{{ end }}", abort=abort)


def test_function_of_the_site_hides_a_built_in_one() -> None:
    assert render("{{ len 1 2 }} {{ and 1 2 }}", len=lambda a, b: a + b, **{"and": lambda a, b: f"{a}&{b}"}) == "3 1&2"


def test_break_may_be_a_function() -> None:
    template = Template.parse("t", "{{ break }}", functions={"break"})
    assert template.execute(None, {"break": lambda: "snap"}) == "snap"


def test_function_that_is_not_given_is_an_error() -> None:
    with pytest.raises(ExecError, match='"shout" is not a defined function'):
        Template.parse("t", "{{ shout }}", functions={"shout"}).execute(None)


def test_addresses_and_paths_are_text() -> None:
    data = {"ip": IPv4Address("10.0.0.1"), "path": PurePosixPath("/etc/hosts")}
    assert render('{{ .ip }} {{ eq .ip "10.0.0.1" }} {{ printf "%q" .ip }} {{ len .path }} {{ if .ip }}y{{ end }}', data) == (
        '10.0.0.1 true "10.0.0.1" 10 y'
    )
    assert render("{{ print .ip .ip .path .path }}", data) == "10.0.0.1 10.0.0.1/etc/hosts/etc/hosts"


@pytest.mark.parametrize(
    "problem", [TypeError("x"), ValueError("x"), KeyError("x"), ZeroDivisionError("x"), AttributeError("x")]
)
def test_what_a_function_raises_for_odd_values_is_an_error_of_the_template(problem: Exception) -> None:
    def odd(value: object) -> str:
        raise problem

    with pytest.raises(ExecError, match=r"t:1:3: executing \"t\" at <odd 1>: error calling odd: "):
        render("{{ odd 1 }}", odd=odd)


def test_number_of_arguments_of_an_undeclared_function_is_checked() -> None:
    with pytest.raises(ExecError, match="wrong number of args for pick: want 2 got 1"):
        render("{{ pick 1 }}", pick=lambda a, b: a)


def test_unknown_function_hints_at_the_closest() -> None:
    with pytest.raises(ParseError) as caught:
        render("{{ uper 1 }}")
    assert caught.value.hint == "did you mean upper?"
