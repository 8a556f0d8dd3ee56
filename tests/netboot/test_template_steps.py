"""A Jinja2 template that would go on for hours ends with its file and line; of any other the counting shows nowhere."""

from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network

import jinja2
import pytest

from netboot.engine import RenderContext, Server
from netboot.engines import render
from netboot.errors import OverlayError, TemplateError
from netboot.head_files import FileCache, NotedFiles
from netboot.node import to_node
from netboot.reads import COUNT, EACH, KIND, Trace
from netboot.template import Jinja
from netboot.template_steps import MAX_STEPS, Budget
from netboot.urls import Urls

ADDRESS = IPv4Address("10.0.0.100")
STEPS = 50_000
LONG = "{% set a = 'x' * 200000 %}"


def context(nodes: int) -> RenderContext:
    server = Server(
        name="head", address=ADDRESS, network=IPv4Network("10.0.0.0/24"), domain="", urls=Urls(address=ADDRESS, port=1)
    )
    all_ = [to_node(f"n{number}", {}) for number in range(nodes)]
    return RenderContext(node=all_[0], nodes=all_, server=server, overlay="mine", now=datetime(2026, 1, 1, tzinfo=UTC))


def rendered(source: str, *, nodes: int = 1, trace: Trace | None = None) -> str:
    made = render(source.encode(), context(nodes), trace or Trace(), NotedFiles(FileCache()), path="etc/x.j2")
    return "".join(output.text for output in made.outputs)


@pytest.mark.parametrize(
    ("line", "source"),
    [
        (2, LONG + "\n{% for i in a %}{% for j in a %}{% endfor %}{% endfor %}"),
        (2, LONG + "\n{% for i in a %}{% for j in a if j == 'y' %}{% endfor %}{% endfor %}"),
        (3, LONG + "\n{% for i in a %}\n{% if 'y' in (a | list) %}{% endif %}{% endfor %}"),
        (2, LONG + "\n{% for i in a %}{% set b = a | list | sort %}{% endfor %}"),
        (2, LONG + "\n{% for i in a %}{% set b = (a | list)[1:] %}{% endfor %}"),
        (2, "{% set a = 'xxxxxxxxxx' | list %}\n{% for i in a recursive %}{{ loop(a) if loop.depth < 9 }}{% endfor %}"),
        (1, "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}\n{{ f(60) }}"),
        (2, "{% macro f(x, n) %}\n{% if n %}{{ f(x ~ x, n - 1) }}{% endif %}{% endmacro %}\n{{ f('x', 60) }}"),
        (2, "{% macro f(x, n) %}\n{% if n %}{{ f(x + x, n - 1) }}{% endif %}{% endmacro %}\n{{ f([1], 60) }}"),
        (2, LONG + "\n{% set b %}{% for i in a %}" + "text" * 250 + "{% endfor %}{% endset %}"),
        (2, LONG + "\n{% filter upper %}{% for i in a %}{{ a }}{% endfor %}{% endfilter %}"),
        (3, "\n\n{% for i in nodes %}{% for j in nodes %}{% set x = nodes | first %}{% endfor %}{% endfor %}"),
        *((2, LONG + "\n{% set b = " + call + " %}") for call in (
            "a | replace('x', a)", "a.replace('x', a)", "a | list | join(a)", "a.join(a | list)",
            "([a] * 100000) | join | length",
            "'x' | center(9999999999)", "'x'.ljust(9999999999)", "'%9999999999d' % 1", "'%*d' % (9999999999, 1)",
            "'{:{}}'.format(1, 9999999999)", "'{:9999999999}'.format(1)", "'%9999999999d' | format(1)", "a | indent(a)",
            "[1] | batch(9999999999, 1) | list", "[1] | slice(9999999999) | list", "([[1] * 1000] * 1000) | sum(start=[])",
            "a | wordwrap(1, wrapstring=a)", "[1] | tojson(indent=9999999999)",
        )),
    ],
)  # fmt: skip
def test_what_takes_too_long_is_a_sentence_with_its_line(line: int, source: str) -> None:
    with pytest.raises(TemplateError, match=f"it takes more than {STEPS} steps") as found:
        Jinja(steps=STEPS).parse(source).render(context(200), "etc/x", Trace(), NotedFiles(FileCache()))
    assert found.value.line == line


def test_the_sentence_names_file_line_and_node() -> None:
    source = "\n{% set a = 'x' * 10000000 %}\n{% for i in a %}{% for j in a %}{% endfor %}{% endfor %}"
    with pytest.raises(OverlayError, match=rf"overlay mine, etc/x\.j2:3: .* {MAX_STEPS} steps.* \(node n0\)"):
        rendered(source)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{% for i in [3, 1, 2] | sort if i > 1 %}{{ loop.index }}:{{ i }} {% else %}none{% endfor %}", "1:2 2:3 "),
        ("{% for i in [] %}{% else %}none{% endfor %}", "none"),
        ("{% for i in [[1, [2]]] recursive %}{{ loop(i) if i is sequence else i }}{% endfor %}", "12"),
        ("{% macro f(x) %}<{{ caller(x) }}>{% endmacro %}{% call(y) f('a' ~ 1) %}{{ y }}{% endcall %}", "<a1>"),
        ("{% filter upper %}a{{ 'b' }}{% endfilter %}{% block c %}c{% endblock %}", "ABc"),
        (
            "{{ x | default(4294967296) }} {{ x is defined }} {{ '%d' % 4294967296 }} {{ 7 % 4 }}",
            "4294967296 False 4294967296 3",
        ),
        ("{{ '{:>4}'.format(3) }}{{ 'a' | center(5) }}{{ [1, 2] + [3] == [1, 2, 3] }}", "   3  a  True"),
        ("{{ 'b' in 'abc' }} {{ 2 not in [1] }} {{ 2 is in [2] }} {{ [1, 2, 3][1:] | join('-') }}", "True True True 2-3"),
    ],
)
def test_counting_changes_nothing(source: str, text: str) -> None:
    assert rendered(source) == text


def test_counting_reads_nothing() -> None:
    """What a template read decides when its result is made anew."""
    trace = Trace()
    rendered("{% for i in nodes | list %}{{ i.id }}{% endfor %}{{ nodes is defined }}", nodes=3, trace=trace)
    assert trace.paths == {("nodes", COUNT), ("nodes", EACH, KIND), ("nodes", EACH, "id")}


def test_ten_thousand_nodes_fit() -> None:
    source = (
        "{% for n in nodes %}{% for i in 'abcdef' %}{% if i == 'a' %}{{ n.id | upper }}\n{% endif %}{% endfor %}{% endfor %}"
    )
    assert rendered(source, nodes=10_000).count("\n") == 10_000


@pytest.mark.parametrize("name", ["budget", "step"])
def test_no_template_reaches_the_count(name: str) -> None:
    parse: Callable[[str], object] = Jinja().parse
    with pytest.raises(OverlayError, match="undefined"):
        rendered(f"{{{{ {name} }}}}")
    with pytest.raises(Exception, match="No filter"):
        parse(f"{{{{ 1 | {name} }}}}")
    assert " " + name not in jinja2.Environment().filters


def test_a_budget_ends_once_it_is_used_up() -> None:
    budget = Budget(3)
    budget.charge(3)
    with pytest.raises(ValueError, match="steps"):
        budget.charge(1)
