"""Templates that mean harm, or that grow by mistake, end with one sentence."""

import pytest

from netboot.gotemplate.errors import ExecError, GoTemplateError, ParseError
from netboot.gotemplate.limits import MAX_NESTING, Limits
from netboot.gotemplate.template import Template
from netboot.gotemplate.values import Value

SMALL = Limits(output=1000, steps=500, range_length=200, items=10, made=5000, width=100)


def failure(text: str, data: Value = None, limits: Limits = SMALL) -> str:
    functions = {"list": lambda *items: list(items), "join": lambda a, b: [*a, *b], "repeat": lambda n, s: s * n}
    with pytest.raises(GoTemplateError) as caught:
        Template.parse("t", text, functions=functions).execute(data, functions, limits=limits)
    assert type(caught.value) in (ExecError, ParseError)
    return caught.value.message


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{{define "x"}}{{template "x"}}{{end}}{{template "x"}}', "exceeded maximum template depth (100)"),
        ('{{define "x"}}{{template "y"}}{{end}}{{define "y"}}{{template "x"}}{{end}}{{template "x"}}', "exceeded maximum"),
        ("{{range 1000000000}}{{end}}", "range over 1000000000 exceeds the limit of 200"),
        ("{{range 100}}{{range 100}}{{end}}{{end}}", "the template takes more than 500 steps"),
        ("{{range 200}}0123456789{{end}}", "the output is longer than 1000 characters"),
        ('{{printf "%9999999d" 1}}', "printf width 9999999 exceeds the limit of 100"),
        ('{{printf "%*d" 101 1}}', "printf width 101 exceeds the limit of 100"),
        ('{{printf "%.101f" 1.0}}', "printf width 101 exceeds the limit of 100"),
        ('{{printf "' + "%100d" * 11 + '"' + " 1" * 11 + "}}", "printf makes a text longer than"),
        ("{{$x := `x`}}{{range 40}}{{$x = print $x $x}}{{end}}", "a function returned a text of more than 1000 characters"),
        ("{{$x := list 1}}{{range 40}}{{$x = join $x $x}}{{end}}", "a function returned more than 10 items"),
        ("{{$x := list 1}}{{range 40}}{{$x = list $x $x}}{{end}}{{$x}}", "a text is longer than the limit of an output"),
        ("{{$x := 1}}{{range 150}}{{$x = list $x}}{{end}}{{$x}}", "a value is nested more than 100 deep"),
        ("{{$x := 1}}{{range 150}}{{$x = list $x}}{{end}}{{printf `%q` $x}}", "a value is nested more than 100 deep"),
        ("{{$x := list}}{{range 150}}{{$x = list $x}}{{end}}{{eq $x $x}}", "error calling eq: a value is nested more than 100"),
        (
            "{{$x := list}}{{range 150}}{{$x = list $x}}{{end}}{{eq $x $x $x}}",
            "error calling eq: a value is nested more than 100",
        ),
        ("{{repeat 2000 `x`}}", "a function returned a text of more than 1000 characters"),
    ],
)
def test_is_stopped(text: str, reason: str) -> None:
    assert reason in failure(text)


def test_large_results_are_counted_since_variables_keep_them() -> None:
    limits = Limits(output=10_000, made=50_000)
    assert "functions made more than 50000" in failure("{{range 40}}{{$x := repeat 2000 `x`}}{{end}}", limits=limits)


@pytest.mark.parametrize(
    ("opening", "closing", "depth"),
    [("(", ")", MAX_NESTING + 1), ("(", ")", 100_000), ("print (", ")", 1000), ("(1 | print (", "))", 1000)],
    ids=["just", "hostile", "calls", "pipes"],
)
def test_deep_parentheses_are_refused(opening: str, closing: str, depth: int) -> None:
    assert f"parentheses are nested more than {MAX_NESTING} deep" in failure(
        "{{" + opening * depth + "1" + closing * depth + "}}"
    )


@pytest.mark.parametrize("head", ["if 1", "with 1", "range 1", 'block "x" 1', "if 1}}{{else"])
def test_deep_blocks_are_refused(head: str) -> None:
    assert "nested more than" in failure("{{" + f"{head}}}}}{{{{" * 5_000 + "1}}" + "{{end}}" * 5_000)


def test_what_is_just_allowed_runs() -> None:
    depth = MAX_NESTING
    assert Template.parse("t", "{{" + "(" * depth + "1" + ")" * depth + "}}").execute(None) == "1"
    text = "".join(f"{{{{if (eq {n} {n})}}}}" for n in range(depth - 1)) + "x" + "{{end}}" * (depth - 1)
    assert Template.parse("t", text).execute(None) == "x"


def test_long_chains_need_no_depth() -> None:
    chain = "{{if 0}}" + "{{else if 0}}" * 5_000 + "{{else}}x{{end}}"
    assert Template.parse("t", chain).execute(None) == "x"
    assert "nests too deeply" in failure("{{1" + " | print" * 5_000 + "}}")
    assert Template.parse("t", "{{$" + ".a" * 5_000 + "}}").execute({}) == "<no value>"


def test_many_variables_take_time_in_proportion() -> None:
    text = "".join(f"{{{{$v{n} := {n}}}}}" for n in range(10_000)) + "{{$v9999}}{{$v0}}"
    assert Template.parse("t", text).execute(None) == "99990"
