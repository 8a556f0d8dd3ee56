"""Sprig's functions: against what sprig 3.3.0 itself gave for two thousand calls, and where this engine differs on purpose."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from netboot.gotemplate.errors import GoTemplateError
from netboot.gotemplate.sprig import LEFT_OUT, sprig_functions
from netboot.gotemplate.template import Template

CAPTURE = Path(__file__).parents[2] / "captures" / "sprig-3.3.0.jsonl"
"""One call a line, with Go's output, or what Go says is wrong."""
NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
FUNCTIONS = sprig_functions(NOW, UTC)


def execute(source: str, **data: object) -> str:
    return Template.parse("t", source, functions=FUNCTIONS).execute(data, FUNCTIONS)


def captured() -> Iterator[dict[str, str]]:
    with CAPTURE.open() as file:
        yield from map(json.loads, file)


def test_the_capture_as_go_gave_it() -> None:
    wrong = []
    for case in captured():
        data = {"a": 1.0, "s": "x", "l": [1.0, "b", None], "m": {"k": {"z": 1.0}}}
        try:
            output = execute(case["template"], **data)
        except GoTemplateError as exc:
            if "error" not in case:
                wrong.append(f"{case['template']}: {exc}, and Go gives {case['output']!r}")
            continue
        if output != case.get("output"):
            wrong.append(f"{case['template']}: {output!r}, and Go gives {case.get('output', case.get('error'))!r}")
    assert wrong == []


def test_the_capture_calls_every_function() -> None:
    text = CAPTURE.read_text()
    timeless = set(FUNCTIONS) - set(LEFT_OUT) - {"now", "ago", "hello"}
    assert [name for name in sorted(timeless) if f"{name} " not in text and f"must{name}" not in text and not _twin(name)] == []


def _twin(name: str) -> bool:
    """Whether the same function stands under another name, too, which the capture may call."""
    return sum(function is FUNCTIONS[name] for function in FUNCTIONS.values()) > 1


@pytest.mark.parametrize(
    ("source", "output"),
    [
        # Sprig takes characters apart into bytes here, and its result is no text.
        ('{{ nospace "dé jà" }}', "déjà"),
        ('{{ initials "élan vital" }}', "év"),
        # There is one kind of integer.
        ("{{ typeOf (add 1 1) }}", "int"),
        ('{{ repeat (add 1 1) "x" }}', "xx"),
        ("{{ duration 3661 }}", "1h1m1s"),
        # Dates begin with the year 1.
        ('{{ toDate "15:04" "12:13" }}', "0001-01-01 12:13:00 +0000 UTC"),
        # Chance has no part.
        ('{{ keys (dict "b" 1 "a" 2) }}{{ values (dict "b" 1 "a" 2) }}', "[a b][2 1]"),
    ],
)
def test_differences(source: str, output: str) -> None:
    assert execute(source) == output


def test_now_is_when_the_build_began() -> None:
    assert (
        execute('{{ now | date "2006-01-02 15:04" }} {{ now.Year }} {{ now | unixEpoch }}')
        == "2026-03-04 05:06 2026 1772600767"
    )
    assert execute('{{ ago (toDate "2006-01-02 15:04:05" "2026-03-04 05:05:00") }}') == "1m7s"
    assert execute('{{ durationRound (toDate "2006-01-02" "2026-03-01") }}') == "3d"


def test_dates_are_in_the_head_nodes_zone_with_its_summers() -> None:
    functions = sprig_functions(NOW, ZoneInfo("Europe/Berlin"))
    template = Template.parse("t", '{{ date "15:04 MST" 1752580800 }}', functions=functions)
    assert template.execute(None, functions) == "14:00 CEST"


@pytest.mark.parametrize("name", sorted(LEFT_OUT))
def test_what_is_left_out_says_why(name: str) -> None:
    with pytest.raises(GoTemplateError, match=f"{name} is left out: "):
        execute(f"{{{{ {name} }}}}")


@pytest.mark.parametrize(
    "source",
    [
        "{{ until 2000000000 }}",
        "{{ untilStep 0 9223372036854775807 1 }}",
        "{{ seq 1 1 999999999 }}",
        '{{ repeat 999999999 "xyz" }}',
        '{{ indent 2000000000 "a" }}',
        '{{ "a" | repeat 16000000 | replace "a" "bbbbbbbb" }}',
        '{{ wrapWith 1 (repeat 1000000 "x") (repeat 1000000 "y ") }}',
        '{{ regexReplaceAll "" (repeat 100000 "x") (repeat 1000 "y") }}',
        '{{ regexMatch (repeat 5000 "a") "a" }}{{ mustRegexMatch (repeat 5000 "a") "a" }}',
        '{{ regexFindAll "(((a{100}){100}){100})" "a" -1 }}',
        '{{ $d := dict "a" 1 }}{{ $_ := set $d "d" $d }}{{ toJson $d | len }}{{ mustToJson $d }}',
        '{{ $d := dict "a" 1 }}{{ $_ := set $d "d" $d }}{{ $e := deepCopy $d }}',
        '{{ $d := dict }}{{ $_ := set $d "d" $d }}{{ $e := dict }}{{ $_ := set $e "d" $e }}{{ merge $d $e }}',
        '{{ $d := dict }}{{ $_ := set $d "d" $d }}{{ $e := dict }}{{ $_ := set $e "d" $e }}{{ deepEqual $d $e }}',
        '{{ fromJson (repeat 100000 "[") | len }}{{ mustFromJson (repeat 100000 "[") }}',
        '{{ date "2006" 99999999999999999 }}',
        '{{ dateModify "2000000h" (toDate "2006" "9990") }}{{ dateModify "2000000h" (toDate "2006" "9990") }}',
        '{{ semverCompare (repeat 5000 ">1 ") "1" }}{{ semverCompare (repeat 5000 "x") "1" }}',
    ],
)
def test_hostile_calls_end_with_a_sentence(source: str) -> None:
    with pytest.raises(GoTemplateError):
        execute(source)


def test_a_regular_expression_takes_linear_time() -> None:
    """With backtracking this would not end in a lifetime."""
    assert execute('{{ regexMatch "^(a+)+$" (print (repeat 5000 "a") "b") }}') == "false"


@pytest.mark.parametrize("call", ['set .tags "a" "b"', 'merge .tags (dict "a" 1)', 'unset .tags "x"', 'hasKey .tags "x"'])
def test_tags_are_no_dict_as_in_go(call: str) -> None:
    from netboot.gotemplate.values import GoMap

    tags = GoMap({"x": "y"}, "string")
    with pytest.raises(GoTemplateError, match="expected map"):
        execute(f"{{{{ {call} }}}}", tags=tags)
    assert tags == {"x": "y"}


def test_the_documentation_names_every_function() -> None:
    text = (Path(__file__).parents[3] / "docs" / "templates.md").read_text().replace("\\_", "_")
    assert sorted(set(FUNCTIONS) - set(re.findall(r"\w+", text))) == []
