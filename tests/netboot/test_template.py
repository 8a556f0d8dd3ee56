"""The Jinja2 engine: several files, links, an end without a file, head node files; and what it notes as read."""

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from netboot.engine import Output, RenderContext, Rendering, Server
from netboot.engines import parse, render
from netboot.errors import OverlayError, TemplateError
from netboot.head_files import FileCache, FileRead, NotedFiles
from netboot.node import Node, to_node
from netboot.reads import COUNT, EACH, KEYS, KIND, ReadPath, Trace, digest
from netboot.urls import Urls

LOOPS = "{{% set a = '0123456789' | list %}}" + "{{% {0} %}}" * 8 + "0123456789" + "{{% endfor %}}" * 8
ADDRESS = IPv4Address("10.0.0.100")


def node(name: str, comment: str = "", **tags: str) -> Node:
    device = {"hwaddr": "52:54:00:00:00:01", "ipaddr": "10.0.0.1", "netmask": "255.255.255.0", "tags": tags}
    return to_node(name, {"comment": comment, "network devices": {"default": device}})


def context(*nodes: Node, sysconfdir: Path = Path("/nowhere")) -> RenderContext:
    nodes = nodes or (node("n1"),)
    server = Server(
        name="head", address=ADDRESS, network=IPv4Network("10.0.0.0/24"), domain="", urls=Urls(address=ADDRESS, port=1),
        sysconfdir=sysconfdir,
    )  # fmt: skip
    return RenderContext(node=nodes[0], nodes=nodes, server=server, overlay="mine")


def rendered(source: str, *nodes: Node) -> Rendering:
    return render(source.encode(), context(*nodes), Trace(), NotedFiles(FileCache()), path="etc/x.j2")


def reads(source: str, *nodes: Node) -> set[ReadPath]:
    trace = Trace()
    render(source.encode(), context(*nodes), trace, NotedFiles(FileCache()), path="etc/x.j2")
    return trace.paths


@pytest.mark.parametrize(
    ("source", "outputs"),
    [
        ("text", [Output(path="etc/x", text="text")]),
        (" \n", []),
        ("dropped{{ file('a') }}\nA{{ file('b') }}\nB", [Output(path="a", text="A"), Output(path="b", text="B")]),
        ("{{ softlink('../t') }}", [Output(path="etc/x", target="../t")]),
        ("{{ softlink('t') }}{{ file('b') }}B", [Output(path="etc/x", target="t"), Output(path="b", text="B")]),
        (
            "{{ file('a') }}{{ softlink('t') }}{{ file('b') }}{{ softlink('u') }}",
            [Output(path="a", target="t"), Output(path="b", target="u")],
        ),
    ],
)
def test_outputs(source: str, outputs: list[Output]) -> None:
    assert list(rendered(source).outputs) == outputs


def test_abort_keeps_what_was_made_up_to_there() -> None:
    found = rendered("one{{ abort() }}two")
    assert found.aborted
    assert list(found.outputs) == [Output(path="etc/x", text="one")]


def test_nobackup_is_noted() -> None:
    assert rendered("x").backup
    assert not rendered("x{{ nobackup() }}").backup


def test_a_template_is_parsed_once_for_each_content() -> None:
    assert parse(".j2", b"a {{ node.id }}") is parse(".j2", b"a {{ node.id }}")


@pytest.mark.parametrize(("source", "line"), [(b"a\n{% if %}", 2), (b"a\nb\n\xff", 3)])
def test_what_cannot_be_parsed_has_a_line(source: bytes, line: int) -> None:
    with pytest.raises(TemplateError) as caught:
        parse(".j2", source)
    assert caught.value.line == line


@pytest.mark.parametrize("source", ["{{ file('a\x00b') }}", "{{ softlink('a\x00b') }}", "{{ node.id.nothing }}", "{{ 1 / 0 }}"])
def test_what_cannot_be_rendered_is_a_sentence(source: str) -> None:
    with pytest.raises(OverlayError, match=r"overlay mine, etc/x\.j2:1: .* \(node n1\)"):
        rendered(source)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ '\\ud800' }}", "no text"),
        ("{{ '\\udc41' }}", "surrogates not allowed"),
        ("{{ file('a') | upper | replace('\\ud801', '') }}", "no text"),
        ("{{ abort() if nodes | length > 1 }}{{ '\\ud800' }}", "no text"),
        ("{{ 'x' * 3000000000 }}", "a text or list of 3000000000 is longer"),
        ("{{ 3000000000 * [1] }}", "a text or list of 3000000000 is longer"),
        ("{{ 10 ** (10 ** 8) }}", "too large"),
        (LOOPS.format("for i in a"), "the output is longer than 16777216 characters"),
    ],
)
def test_what_would_not_end_or_is_no_text_is_a_sentence(source: str, reason: str) -> None:
    with pytest.raises(OverlayError, match=rf"overlay mine, etc/x\.j2:.*{reason}.* \(node n1\)"):
        rendered(source)


def test_what_a_file_or_nodes_conf_holds_is_never_a_mark(tmp_path: Path) -> None:
    (tmp_path / "nul").write_bytes(b"a\x00file etc/shadow\x00evil \xed\xa0\x80F/etc/shadow\xed\xa0\x81")
    files = NotedFiles(FileCache())
    source = f"{{{{ node.comment }}}} {{{{ include_file('{tmp_path}/nul') }}}}".encode()
    made = render(source, context(node("n1", comment="\x00file b\x00")), Trace(), files, path="etc/x.j2")
    assert [output.path for output in made.outputs] == ["etc/x"]
    assert made.outputs[0].text.startswith("\x00file b\x00 a\x00file etc/shadow\x00evil")


@pytest.mark.parametrize(
    ("source", "paths"),
    [
        ("x", set()),
        ("{{ node.id }}", {("node", "id")}),
        ("{{ node.kernel.version }}", {("node", "kernel", KIND), ("node", "kernel", "version")}),
        (
            "{% for other in nodes %}{{ other.id }}{% endfor %}",
            {("nodes", COUNT), ("nodes", EACH, KIND), ("nodes", EACH, "id")},
        ),
        (
            "{% for key, value in node.primary.tags | dictsort %}{{ value }}{% endfor %}",
            {
                ("node", "primary", KIND),
                ("node", "primary", "tags", KIND),
                ("node", "primary", "tags", KEYS),
                ("node", "primary", "tags", EACH),
            },
        ),
        (
            "{% if node.tags.a is defined %}x{% endif %}",
            {("node", "tags", KIND), ("node", "tags", "a")},
        ),
        ("{{ node.tags == {} }}", {("node", "tags", KIND), ("node", "tags")}),
        ("{{ node.tags | tojson }}", {("node", "tags", KIND), ("node", "tags")}),
        ("{{ server.urls.port }}", {("server", "urls", KIND), ("server", "urls", "port")}),
        ("{% if node.primary %}x{% endif %}", {("node", "primary", KIND)}),
        ("{{ nodes | length }}", {("nodes", COUNT)}),
        ("{{ nodes | map(attribute='id') | join }}", {("nodes", COUNT), ("nodes", EACH, KIND), ("nodes", EACH, "id")}),
    ],
)
def test_reads(source: str, paths: set[ReadPath]) -> None:
    assert reads(source, node("n1", a="1")) == paths


@pytest.mark.parametrize(
    "source",
    [
        "{% for other in nodes %}{{ other.id }} {{ other.primary.tags.a | default('none') }}{% endfor %}",
        "{% for n in nodes %}{% for k, d in n.network_devices.items() %}{{ d.tags.values() | list }}{% endfor %}{% endfor %}",
        "{% for n in nodes %}{{ 'a' in n.primary.tags }}{{ n.primary.tags | length }}{{ n.primary.tags.a }}{% endfor %}",
        "{{ nodes[1].primary.tags }}",
        "{{ nodes[1:] }}",
        "{{ nodes | tojson }}",
    ],
)
def test_what_a_template_reads_decides(source: str) -> None:
    one, other = (node("n1", a="1"), node("n2", a="2")), (node("n1", a="1"), node("n2", a="3"))
    paths = reads(source, *one)
    assert rendered(source, *one) != rendered(source, *other)
    assert digest(paths, context(*one)) != digest(paths, context(*other))
    assert digest(paths, context(*one)) == digest(paths, context(*one))


def test_what_it_does_not_read_changes_nothing() -> None:
    paths = reads("{% for other in nodes %}{{ other.id }}{{ other.primary.ipaddr }}{% endfor %}", node("n1"), node("n2"))
    assert digest(paths, context(node("n1"), node("n2"))) == digest(paths, context(node("n1"), node("n2", "changed", x="y")))


def test_groups_of_values_are_not_confused() -> None:
    paths = {("nodes", EACH, "primary", "tags", EACH)}
    one, other = (node("n1", a="1", b="2"), node("n2")), (node("n1", a="1"), node("n2", b="2"))
    assert digest(paths, context(*one)) != digest(paths, context(*other))


def test_an_included_file_is_noted_with_its_digest(tmp_path: Path) -> None:
    (tmp_path / "warewulf").mkdir()
    (tmp_path / "warewulf/motd").write_text("hello\n\n")
    files = NotedFiles(FileCache())
    made = render(
        b"[{{ include_file('motd') }}{{ include_file('/no/such') }}]", context(sysconfdir=tmp_path), Trace(), files, path="x.j2"
    )
    assert [output.text for output in made.outputs] == ["[hello\n]"]
    assert {(read.path, read.digest is None) for read in files.reads} == {
        (f"{tmp_path}/warewulf/motd", False),
        ("/no/such", True),
    }


def test_a_file_of_an_image_is_found_as_in_a_chroot(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("the head node's")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "secret").write_text("the image's")
    (root / "etc/link").symlink_to("/secret")
    (root / "etc/up").symlink_to("../../../secret")
    (root / "etc/loop").symlink_to("loop")
    files = NotedFiles(FileCache())
    found = [files.read(Path(path), root) for path in ("etc/link", "/etc/up", "../secret", "etc/loop", "etc", "no/such")]
    assert found == [b"the image's", b"the image's", b"the image's", None, None, None]


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    path, cache = tmp_path / "f", FileCache()
    asked = FileRead(path=str(path))
    path.write_text("1")
    assert cache.look(asked)[0] == b"1"
    path.write_text("2")
    assert cache.look(asked)[0] == b"2"
    path.unlink()
    assert cache.look(asked) == (None, None)


def test_a_field_that_has_no_value_any_more_is_a_change() -> None:
    paths = reads("{{ node.primary.interface }}")
    bad = to_node("n1", {"network devices": {"default": {"ipaddr": "10.0.0.1", "netmask": "255.0.255.0"}}})
    assert digest(paths, context(bad)) != digest(paths, context())
