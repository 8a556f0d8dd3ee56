"""Warewulf's own functions: what they give, which files they look at, and what the engine notes of it."""

from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from netboot.engine import Output, RenderContext, Rendering, Server
from netboot.engines import parse, render
from netboot.errors import OverlayError, TemplateError
from netboot.head_files import FileCache, NotedFiles
from netboot.node import to_node
from netboot.reads import COUNT, EACH, KEYS, Trace
from netboot.urls import Urls

ADDRESS = IPv4Address("10.0.0.100")
NODE = to_node(
    "n1",
    {
        "image name": "rocky",
        "tags": {"a": "b"},
        "kernel": {"args": ["quiet"]},
        "network devices": {
            "lan": {"device": "eth0", "ipaddr": "10.0.0.1", "netmask": "255.255.255.0", "onboot": "no"},
            "ib": {"device": "ib0", "type": "infiniband"},
        },
        "resources": {"mine": {"list": [1, 2]}},
    },
)


class Head:
    """A head node below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.server = Server(
            name="head",
            address=ADDRESS,
            network=IPv4Network("10.0.0.0/24"),
            domain="cluster",
            urls=Urls(address=ADDRESS, port=9873),
            sysconfdir=root / "etc",
            chroots=root / "chroots",
        )
        self.files = NotedFiles(FileCache())
        self.trace = Trace()

    def write(self, name: str, content: str | bytes) -> Path:
        place = self.root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.encode() if isinstance(content, str) else content)
        return place

    def render(self, source: str, path: str = "etc/mine/file.ww") -> Rendering:
        context = RenderContext(
            node=NODE, nodes=[NODE], server=self.server, overlay="mine", now=datetime(2026, 1, 2, tzinfo=UTC)
        )
        return render(source.encode(), context, self.trace, self.files, path=path)

    def text(self, source: str) -> str:
        (output,) = self.render(source).outputs
        assert (output.path, output.target) == ("etc/mine/file", None)
        return output.text


@pytest.fixture
def head(tmp_path: Path) -> Head:
    return Head(tmp_path)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ('{{ basename "/a/b.c" }}{{ basename "" }}{{ basename "/" }}', "b.c./"),
        ("{{ inc 1 }} {{ dec 1 }} {{ $i := 0 }}{{ range list 1 2 }}{{ $i = inc $i }}{{ end }}{{ $i }}", "2 0 2"),
        ('{{ UniqueField ":" 0 "a:1\\nb:2\\na:3\\n\\nc" }}', "a:1\nb:2\n\nc"),
        ('{{ "x 1\\ny 1\\nz" | UniqueField " " 1 }}', "x 1\nz"),
        # systemd-escape(1)
        ('{{ SystemdEscape "Hallöchen, Meister" }}', "Hall\\xc3\\xb6chen\\x2c\\x20Meister"),
        ('{{ SystemdEscape "/a-b" }} {{ SystemdEscape ".x.y" }}', "-a\\x2db \\x2ex.y"),
        ('{{ SystemdEscapePath "/mnt//my-data/" }} {{ SystemdEscapePath "/" }}', "mnt-my\\x2ddata -"),
        ('{{ Include "nothing" }}|{{ IncludeFrom "" "/etc/passwd" }}|{{ IncludeBlock "nothing" "x" }}', "||"),
        ("{{ IgnitionJson }}", ""),
    ],
)
def test_functions(source: str, text: str, head: Head) -> None:
    assert head.text(source) == text


def test_include_is_relative_to_warewulfs_folder_and_keeps_every_byte(head: Head) -> None:
    head.write("etc/warewulf/keys/n1", b"\x00\xff\n\n")
    absolute = head.write("srv/motd", "hello")
    made = head.text(f'{{{{ Include (print "keys/" .Id) }}}}{{{{ Include "{absolute}" }}}}')
    assert made.encode(errors="surrogateescape") == b"\x00\xff\nhello"
    assert {(read.path, read.root) for read in head.files.reads} == {
        (str(head.root / "etc/warewulf/keys/n1"), ""),
        (str(absolute), ""),
    }


def test_an_included_file_cannot_begin_another(head: Head) -> None:
    head.write("etc/warewulf/evil", "\x00file etc/shadow\x00\n\ud800Fetc/shadow\ud801".encode(errors="surrogatepass"))
    assert [output.path for output in head.render('{{ Include "evil" }}').outputs] == ["etc/mine/file"]


def test_include_block_ends_with_its_mark(head: Head) -> None:
    head.write("etc/warewulf/hosts", "one\n# mark \ntwo\n")
    assert head.text('{{ IncludeBlock "hosts" "# mark" }}') == "one\n# mark "
    assert head.text('{{ IncludeBlock "hosts" "# none" }}') == "one\n# mark \ntwo"


def test_include_from_stays_in_the_image(head: Head) -> None:
    head.write("etc/passwd", "the server's\n")
    head.write("chroots/rocky/rootfs/etc/passwd", "the image's\n")
    (head.root / "chroots/rocky/rootfs/link").symlink_to("../../../../etc/passwd")
    (head.root / "chroots/rocky/rootfs/absolute").symlink_to("/etc/passwd")
    for path in ("/etc/passwd", "etc/passwd", "/link", "absolute", "../../../etc/passwd"):
        assert head.text(f'{{{{ IncludeFrom .ImageName "{path}" }}}}') == "the image's"
    for image in ("..", ".", "../rocky", "rocky/..", "/", "-x"):
        with pytest.raises(OverlayError, match="no name of an image"):
            head.render(f'{{{{ IncludeFrom "{image}" "/etc/passwd" }}}}')


def test_file_begins_files_beside_the_template_or_anywhere(head: Head) -> None:
    made = head.render('dropped\n{{ file "one" }}\n1\n  {{ file "../up/two" -}}  \n2\n{{ file "/top" }}\n')
    assert made.outputs == (
        Output(path="etc/mine/one", text="1\n"),
        Output(path="etc/up/two", text="2\n"),
        Output(path="top", text=""),
    )


def test_files_that_leave_the_root_are_refused(head: Head) -> None:
    from netboot.overlay import checked

    (output,) = head.render('{{ file "../../../etc/passwd" }}').outputs
    with pytest.raises(OverlayError, match="puts a file at"):
        checked("mine", output.path.encode())


@pytest.mark.parametrize("name", ["", "a\\x00b", "a\\nb"])
def test_names_that_no_file_has(name: str, head: Head) -> None:
    with pytest.raises(OverlayError, match="is no name of a file"):
        head.render(f'{{{{ file "{name}" }}}}')


@pytest.mark.parametrize(
    "source",
    [
        '{{ file "x" | replace "F" "" }}',
        '{{ file (softlink "x") }}',
        '{{ file "x" | trunc 3 }}',
        '{{ file "x" | quote }}',
        '{{ softlink "x" | toJson }}',
        '{{ slice (file "x") 0 2 }}',
        '{{ file "x" | b64enc }}',
    ],
)
def test_a_mark_is_no_text(source: str, head: Head) -> None:
    """Either it is refused or it stays whole: half of one never comes to a file."""
    try:
        made = head.render(source)
    except OverlayError:
        return
    for output in made.outputs:
        (output.path + output.text).encode(errors="surrogateescape")


def test_links(head: Head) -> None:
    made = head.render('{{ softlink "/the/target" }}\nno text\n{{ file "b" }}\n{{ softlink "x" }}{{ softlink "y" }}\n')
    assert made.outputs == (
        Output(path="etc/mine/file", target="/the/target"),
        Output(path="etc/mine/b", target="y"),
    )


def test_import_link_has_the_links_target(head: Head) -> None:
    head.write("etc/zone", "")
    (head.root / "etc/localtime").symlink_to("../usr/zoneinfo/UTC")
    (head.root / "etc/absolute").symlink_to("/usr/zoneinfo/UTC")
    link = f'{{{{ ImportLink "{head.root}/etc/%s" }}}}'
    assert head.render(link % "absolute").outputs == (Output(path="etc/mine/file", target="/usr/zoneinfo/UTC"),)
    assert head.render(link % "localtime").outputs == (Output(path="etc/mine/file", target=f"{head.root}/usr/zoneinfo/UTC"),)
    assert head.render(link % "zone").aborted
    assert {read.link for read in head.files.reads} == {True}


def test_readlink_follows_all(head: Head) -> None:
    (head.root / "real").mkdir()
    (head.root / "folder").symlink_to("real")
    (head.root / "real/one").symlink_to("../folder/two")
    (head.root / "real/two").symlink_to(f"{head.root}/./three")
    (head.root / "loop").symlink_to("loop")
    assert head.text(f'{{{{ readlink "{head.root}/folder/one" }}}}') == f"{head.root.resolve()}/three"
    with pytest.raises(OverlayError, match="too many links"):
        head.render(f'{{{{ readlink "{head.root}/loop" }}}}')


def test_abort_makes_nothing(head: Head) -> None:
    made = head.render('{{ file "a" }}text{{ if true }}{{ abort }}{{ end }}{{ fail "not reached" }}')
    assert (made.aborted, made.outputs) == (True, ())


def test_nobackup(head: Head) -> None:
    assert head.render("x").backup
    assert head.render("{{ nobackup }}x") == Rendering(outputs=(Output(path="etc/mine/file", text="x"),), backup=False)


@pytest.mark.parametrize(
    ("source", "reads"),
    [
        ("{{ .Id }}", {("node", "id")}),
        ("{{ .Tags.a }}", {("node", "tags")}),
        ("{{ .Kernel.Args }}", {("node", "kernel", "args")}),
        ("{{ .Kernel.Version }}", {("node", "kernel", "version"), ("kernel_version",)}),
        (
            "{{ range .NetDevs }}{{ .Hwaddr }}{{ end }}",
            {("node", "network_devices", KEYS), ("node", "network_devices", EACH, "hwaddr")},
        ),
        ("{{ range .AllNodes }}{{ .Id }}{{ end }}", {("nodes", COUNT), ("nodes", EACH, "id")}),
        ("{{ .BuildHost }} {{ .BuildTime }} {{ now.Year }} {{ .Overlay }} {{ .BuildSource }}", {("server", "name")}),
        ("{{ .Dhcp.RangeStart }}", {("server", "conf", "dhcp", "range_start")}),
        ("{{ IgnitionJson }}", {("node", "disks"), ("node", "filesystems")}),
        ("{{ upper `a` }}", set()),
    ],
)
def test_reads_are_noted(source: str, reads: set[tuple[str, ...]], head: Head) -> None:
    """What time it is, is none of them: then nothing would ever be up to date."""
    head.render(source)
    assert head.trace.paths == reads


def test_resources_are_a_copy(head: Head) -> None:
    head.render('{{ $r := .Resources }}{{ $_ := set $r "new" 1 }}{{ $_ := set (index $r "mine") "new" 1 }}')
    assert NODE.resources == {"mine": {"list": [1, 2]}}


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (
            "{{ .NetDevs.lan.Ipaddr }} {{ .NetDevs.lan.Ipaddr.String }} {{ .NetDevs.lan.Ipaddr.IsUnspecified }}",
            "10.0.0.1 10.0.0.1 false",
        ),
        ("{{ if .NetDevs.ib.Ipaddr }}yes{{ else }}no{{ end }} {{ .NetDevs.ib.Ipaddr }}", "no <nil>"),
        (
            '{{ .NetDevs.lan.OnBoot.Bool }} {{ eq .NetDevs.lan.OnBoot "no" }} {{ if .NetDevs.ib.OnBoot }}set{{ end }}',
            "false true ",
        ),
        ("{{ .NetDevs.ib.OnBoot.Bool }} {{ .NetDevs.ib.OnBoot.BoolDefaultTrue }}", "false true"),
        ("{{ .NetDevs.lan.Primary }} {{ .NetDevs.ib.Primary }} {{ .PrimaryNetDev }}", "false true ib"),
        ('{{ with index .NetDevs "none" }}{{ .Ipaddr }}{{ else }}none{{ end }}', "none"),
        ('{{ toJson .Tags }} {{ toJson (index .NetDevs "lan").Ipaddr }}', '{"a":"b"} "10.0.0.1"'),
        ('{{ join " " .Kernel.Args }} {{ .Kernel.Args | toStrings | len }}', "quiet 1"),
        ('{{ index .Resources.mine.list 1 }} {{ index .Resources "none" }}', "2 <no value>"),
        ("{{ kindOf .ThisNode }} {{ typeOf .Tags }} {{ typeOf .NetDevs.lan }}", "ptr map[string]string *node.NetDev"),
    ],
)
def test_data(source: str, text: str, head: Head) -> None:
    assert head.text(source) == text


def test_an_error_names_overlay_file_line_and_node(head: Head) -> None:
    with pytest.raises(OverlayError) as caught:
        head.render("one\n{{ .Kernel.Nothing }}\n")
    assert caught.value.message == (
        "overlay mine, etc/mine/file.ww:2: column 11: can't evaluate field Nothing in type *node.KernelConf"
        " at <.Kernel.Nothing> (node n1)"
    )


@pytest.mark.parametrize(
    ("source", "line", "reason"),
    [
        ("{{ if }}", 1, "missing value for if"),
        ("a\nb\n{{ nonsense 1 }}", 3, 'function "nonsense" not defined'),
        ("{{ range .X }}", 1, "unexpected EOF"),
    ],
)
def test_what_is_no_template(source: str, line: int, reason: str) -> None:
    with pytest.raises(TemplateError) as caught:
        parse(".ww", source.encode())
    assert caught.value.line == line
    assert reason in caught.value.reason


def test_a_template_is_parsed_once_for_all_nodes() -> None:
    assert parse(".ww", b"{{ .Id }} once") is parse(".ww", b"{{ .Id }} once")


@pytest.fixture
def used() -> Callable[[str], list[tuple[str, str, str]]]:
    def of(source: str) -> list[tuple[str, str, str]]:
        from netboot.engine import Explained

        template = parse(".ww", source.encode())
        assert isinstance(template, Explained)
        return [(one.name, one.option, one.help) for one in template.variables()]

    return of


def test_the_variables_that_a_template_uses(used: Callable[[str], list[tuple[str, str, str]]]) -> None:
    source = """{{/* .Tags.mine: what mine is */}}
    {{ .Tags.mine }} {{ $.ClusterName }} {{ .Ipmi.UserName | upper }} {{ .NetworkCIDR }}
    {{ range $name, $dev := .NetDevs }}{{ if $dev.OnBoot.BoolDefaultTrue }}{{ (print $dev.Hwaddr) }}{{ end }}{{ end }}
    {{ define "x" }}{{ .Kernel.Args }}{{ end }}"""
    assert used(source) == [
        ("$dev.Hwaddr", "--hwaddr", "hardware (MAC) address"),
        ("$dev.OnBoot.BoolDefaultTrue", "--onboot", "bring the device up at boot"),
        (".ClusterName", "--cluster", "cluster name"),
        (".Ipmi.UserName", "--ipmiuser", "BMC user name"),
        (".Kernel.Args", "--kernelargs", "kernel arguments; quote one with a comma: 'quiet,\"console=ttyS0,115200\"'"),
        (".NetDevs", "", ""),
        (".NetworkCIDR", "", ""),
        (".Tags.mine", "", "what mine is"),
    ]
