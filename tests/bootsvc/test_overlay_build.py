"""Overlay builds: skipped exactly when the result would be the same, shared between nodes, and safe beside other builds."""

import gzip
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from bootsvc.overlay_build import SHARED, Builder, Built, Target
from images import cpio
from images.view import ImageView
from netboot.engine import Server
from netboot.errors import OverlayError
from netboot.node import Node, to_node
from netboot.overlay_library import Library
from netboot.overlay_render import Renderer, Results
from netboot.seen_server import Place
from netboot.urls import Stage, Urls

ADDRESS = IPv4Address("10.0.0.100")
HOSTS = "{% for other in nodes %}{{ other.primary.ipaddr }} {{ other.id }}\n{% endfor %}"


def node(name: str, address: str = "10.0.0.1", comment: str = "", overlays: tuple[str, ...] = ("base", "own")) -> Node:
    devices = {"default": {"hwaddr": "52:54:00:00:00:01", "ipaddr": address, "netmask": "255.255.255.0"}}
    entry = {"comment": comment, "network devices": devices, "system overlay": list(overlays)}
    return to_node(name, entry)


class Site:
    """A site's overlays, and a builder that starts anew for each build, as a command does."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.overlays = root / "overlays"
        self.built = root / "provision" / "overlays"
        self.write("base/rootfs/etc/hosts.j2", HOSTS)
        self.write("base/rootfs/etc/motd.j2", "{{ include_file('motd') }}!")
        self.write("base/rootfs/etc/static", "static")
        self.write("own/rootfs/etc/hostname.j2", "{{ node.id }}")
        self.write("etc/warewulf/motd", "hello", self.root)

    def write(self, path: str, text: str, below: Path | None = None) -> Path:
        place = (below or self.overlays) / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        return place

    def builder(self) -> Builder:
        return Builder(self.built, Library([self.overlays]), lambda _: None)

    def renderer(self, *nodes: Node, results: Results | None = None) -> Renderer:
        server = Server(
            name="head", address=ADDRESS, network=IPv4Network("10.0.0.0/24"), domain="", urls=Urls(address=ADDRESS, port=1),
            sysconfdir=self.root / "etc",
        )  # fmt: skip
        return Renderer(nodes, server, results=results)

    def build(self, *nodes: Node, generation: str = "g1", kernel_version: str = "") -> Built:
        """Build the first of the nodes."""
        target = Target(
            node=nodes[0], stage=Stage.SYSTEM, generation=generation, view=lambda: ImageView([]), kernel_version=kernel_version
        )
        return self.builder().build(target, self.renderer(*nodes))


def content(built: Built) -> dict[str, bytes]:
    data = gzip.decompress(b"".join(path.read_bytes() for path, _ in built.parts))
    return {entry.path.decode(): bytes(text) for entry, text in cpio.parse(data) if stat.S_ISREG(entry.mode)}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


N1, N2 = node("n1"), node("n2", "10.0.0.2")


def test_what_a_node_gets(site: Site) -> None:
    assert content(site.build(N1, N2)) == {
        "etc/hosts": b"10.0.0.1 n1\n10.0.0.2 n2\n",
        "etc/motd": b"hello!",
        "etc/static": b"static",
        "etc/hostname": b"n1",
    }


def test_nothing_changed(site: Site) -> None:
    first = site.build(N1, N2)
    again = site.build(N1, N2)
    assert (first.fresh, again.fresh) == (True, False)
    assert (again.parts, again.digest) == (first.parts, first.digest)


@pytest.mark.parametrize("nodes", [(N1, node("n2", "10.0.0.2", comment="x")), (node("n1", comment="x"), N2)])
def test_fields_that_no_template_read_change_nothing(site: Site, nodes: tuple[Node, ...]) -> None:
    site.build(N1, N2)
    assert not site.build(*nodes, kernel_version="7").fresh


def test_files_that_are_not_its_own_change_nothing(site: Site) -> None:
    site.build(N1, N2)
    site.write("third/rootfs/x", "")
    site.write("etc/warewulf/issue", "", site.root)
    assert not site.build(N1, N2).fresh


def test_a_file_with_a_new_time_and_old_content_was_only_included(site: Site) -> None:
    site.build(N1)
    os.utime(site.root / "etc/warewulf/motd", (1, 1))
    assert not site.build(N1).fresh


CHANGES: dict[str, Callable[[Site], object]] = {
    "content": lambda site: site.write("base/rootfs/etc/static", "STATIC"),
    "template": lambda site: site.write("own/rootfs/etc/hostname.j2", "{{ node.id }}."),
    "mode": lambda site: (site.overlays / "base/rootfs/etc/static").chmod(0o600),
    "new file": lambda site: site.write("base/rootfs/etc/new", ""),
    "lost file": lambda site: (site.overlays / "base/rootfs/etc/static").unlink(),
    "overlay.toml": lambda site: site.write("base/overlay.toml", 'description = "x"\n[files."etc/static"]\nmode = "0600"'),
    "included file": lambda site: site.write("etc/warewulf/motd", "HELLO", site.root),
    "lost included file": lambda site: (site.root / "etc/warewulf/motd").unlink(),
    "lost record": lambda site: (site.built / "n1/system.record").unlink(),
    "damaged record": lambda site: (site.built / "n1/system.record").write_bytes(b"\xc1"),
    "lost part": lambda site: next((site.built / "n1").glob("*.img")).unlink(),
    "damaged part": lambda site: next((site.built / "n1").glob("*.img")).write_bytes(b""),
    "lost shared part": lambda site: next((site.built / SHARED).iterdir()).unlink(),
    "damaged shared part": lambda site: next((site.built / SHARED).iterdir()).write_bytes(b"x"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_a_build_depended_on_is_built_anew(site: Site, what: str) -> None:
    site.build(N1, N2)
    CHANGES[what](site)
    built = site.build(N1, N2)
    assert built.fresh
    assert len(content(built)) >= 3
    assert not site.build(N1, N2).fresh


@pytest.mark.parametrize(
    "nodes",
    [
        (N1, node("n2", "10.0.0.3")),
        (N1,),
        (N2, N1),
        (node("n1", overlays=("base",)), N2),
        (node("n1", overlays=("own", "base")), N2),
    ],
)
def test_nodes_that_say_something_else(site: Site, nodes: tuple[Node, ...]) -> None:
    site.build(N1, N2)
    assert site.build(*nodes).fresh


def test_another_generation_of_the_image_is_built_anew(site: Site) -> None:
    site.build(N1)
    assert site.build(N1, generation="g2").fresh


def test_an_overlay_that_did_not_exist(site: Site) -> None:
    n1 = node("n1", overlays=("base", "later"))
    site.build(n1)
    assert not site.build(n1).fresh
    site.write("later/rootfs/etc/later", "")
    assert site.build(n1).fresh


def test_nodes_share_what_does_not_depend_on_them(site: Site) -> None:
    one, other = site.build(N1, N2), site.build(N2, N1)
    assert one.parts[0] != other.parts[0]  # the hosts file in another order
    other = site.builder().build(
        Target(node=N2, stage=Stage.SYSTEM, generation="g1", view=lambda: ImageView([])), site.renderer(N1, N2)
    )
    assert (one.parts[0], one.parts[1] == other.parts[1]) == (other.parts[0], False)
    assert set(content(one)) == set(content(other))


def test_a_file_of_all_nodes_is_rendered_once(site: Site) -> None:
    nodes = [node(f"n{number}", f"10.0.0.{number}", overlays=("base",)) for number in range(1, 6)]
    seen = []

    class Watched(Results):
        def keep(self, *given: object) -> None:
            seen.append(given)

            super().keep(*given)  # type: ignore[arg-type]

    builder, renderer = site.builder(), site.renderer(*nodes, results=Watched())
    for one in nodes:
        builder.build(Target(node=one, stage=Stage.SYSTEM, generation="g", view=lambda: ImageView([])), renderer)
    assert len(seen) == 2  # etc/hosts and etc/motd


def test_nodes_on_other_networks_are_told_the_address_there_at_no_cost_to_the_others(site: Site) -> None:
    site.write("base/rootfs/etc/hosts.j2", "{{ server.address }} head\n" + HOSTS)
    places = [
        Place(network=IPv4Network(f"10.{number}.0.0/24"), address=IPv4Address(f"10.{number}.0.254")) for number in range(1, 6)
    ]
    # In turn, so that what is remembered of one network must outlive the others.
    nodes = [
        node(f"n{last}-{number}", f"10.{number}.0.{last}", overlays=("base",)) for last in range(1, 4) for number in range(6)
    ]
    kept: list[object] = []

    class Watched(Results):
        def keep(self, *given: object) -> None:
            kept.append(given)
            super().keep(*given)  # type: ignore[arg-type]

    server = site.renderer().seen.boot
    renderer = Renderer(nodes, server, places=places, results=Watched())
    targets = [Target(node=one, stage=Stage.SYSTEM, generation="g", view=lambda: ImageView([])) for one in nodes]
    built = [site.builder().build(target, renderer) for target in targets]
    first = [content(each)["etc/hosts"].decode().partition(" ")[0] for each in built]
    assert first == [str(ADDRESS), *(f"10.{number}.0.254" for number in range(1, 6))] * 3
    assert len(kept) == 7, "the hosts file once for each network, and what says nothing of the head node once for all"
    assert len({each.parts[0] for each in built}) == 6
    again = Renderer(nodes, server, places=places)
    assert [site.builder().is_current(target, again) for target in targets] == [True] * len(targets)
    moved = [replace(place, address=IPv4Address(f"10.{number}.0.253")) for number, place in enumerate(places, 1)]
    changed = Renderer(nodes, server, places=moved)
    assert [site.builder().is_current(target, changed) for target in targets[:6]] == [True] + [False] * 5


def test_a_cluster_that_boots_at_once_renders_it_once(site: Site) -> None:
    nodes = [node(f"n{number}", f"10.0.0.{number}", overlays=("base",)) for number in range(1, 17)]
    kept: list[object] = []

    class Watched(Results):
        def keep(self, *given: object) -> None:
            kept.append(given)
            super().keep(*given)  # type: ignore[arg-type]

    builder, renderer = site.builder(), site.renderer(*nodes, results=Watched())
    targets = [Target(node=one, stage=Stage.SYSTEM, generation="g", view=lambda: ImageView([])) for one in nodes]
    with ThreadPoolExecutor(len(nodes)) as threads:
        built = list(threads.map(lambda target: builder.build(target, renderer), targets))
    assert len(kept) == 2
    assert len({one.parts[0] for one in built}) == 1


def test_it_is_roots_alone(site: Site) -> None:
    umask = os.umask(0)
    try:
        (site.built / "n1").mkdir(parents=True)
        (site.built / "n1").chmod(0o755)
        site.build(N1)
    finally:
        os.umask(umask)
    found = {stat.S_IMODE(path.stat().st_mode) for path in site.built.rglob("*") if path.is_file()}
    folders = {stat.S_IMODE(path.stat().st_mode) for path in (site.built, *site.built.iterdir())}
    assert (found, folders) == ({0o600}, {0o700})


def test_a_replaced_part_stays_for_whoever_is_sending_it(site: Site) -> None:
    old = site.build(N1).parts[-1][0]
    site.write("own/rootfs/etc/hostname.j2", "new {{ node.id }}")
    new = site.build(N1).parts[-1][0]
    assert old.exists()
    os.utime(old, (1, 1))
    site.write("own/rootfs/etc/hostname.j2", "newer {{ node.id }}")
    site.build(N1)
    assert (old.exists(), new.exists()) == (False, True)


def test_shared_parts_that_nobody_uses_go(site: Site) -> None:
    built = site.build(N1)
    part = built.parts[0][0]
    other = part.with_name("0" * 64)
    other.write_bytes(b"")
    os.utime(other, (1, 1))
    site.builder().remove_unused()
    assert (part.exists(), other.exists()) == (True, False)


def test_a_part_that_is_used_does_not_count_as_unused(site: Site) -> None:
    part = site.build(N1).parts[0][0]
    os.utime(part, (1, 1))
    site.build(N1)
    site.builder().remove_unused()
    assert part.exists()


def test_a_mistake_leaves_what_was_built(site: Site) -> None:
    built = site.build(N1)
    site.write("own/rootfs/etc/hostname.j2", "{{ nonsense }}")
    with pytest.raises(OverlayError, match=r"overlay own, etc/hostname\.j2:1: .*nonsense.* \(node n1\)"):
        site.build(N1)
    assert all(path.exists() for path, _ in built.parts)
    site.write("own/rootfs/etc/hostname.j2", "{{ node.id }}")
    assert content(site.build(N1))["etc/hostname"] == b"n1"


PROGRAM = """
import sys
from pathlib import Path
from test_overlay_build import Site, node
site = Site.__new__(Site)
site.root = Path(sys.argv[1])
site.overlays, site.built = site.root / "overlays", site.root / "provision/overlays"
print("ready", flush=True)
sys.stdin.readline()
for turn in range(int(sys.argv[3])):
    built = site.build(node("n1", comment=sys.argv[2] + str(turn)))
    print(*(path for path, _ in built.parts), flush=True)
"""


def start(site: Site, name: str, turns: int) -> "subprocess.Popen[str]":
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(site.root), name, str(turns)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True,
    )  # fmt: skip
    assert program.stdout
    assert program.stdout.readline() == "ready\n"
    return program


def test_two_processes_build_one_node_with_different_content(site: Site) -> None:
    """Each gets files that hold what it built, whatever the other one does."""
    site.write("own/rootfs/etc/hostname.j2", "{{ node.comment }}")
    programs = {name: start(site, name, 30) for name in ("a", "b")}
    outputs = {name: program.communicate("\n", timeout=60)[0].splitlines() for name, program in programs.items()}
    for name, lines in outputs.items():
        assert len(lines) == 30
        for turn, line in enumerate(lines):
            built = Built(parts=[(Path(path), 0) for path in line.split()], digest="", fresh=True)
            assert content(built)["etc/hostname"] == f"{name}{turn}".encode()


def test_kill_9_at_any_moment_leaves_a_build_that_can_go_on(site: Site) -> None:
    site.write("own/rootfs/etc/hostname.j2", "{{ node.comment }}")
    chance = random.Random(4711)
    for turn in range(8):
        program = start(site, f"k{turn}-", 10_000)
        assert program.stdin
        assert program.stdout
        program.stdin.write("\n")
        program.stdin.flush()
        lines = [program.stdout.readline() for _ in range(chance.randrange(1, 20))]
        time.sleep(chance.random() / 500)
        program.send_signal(signal.SIGKILL)
        program.communicate(timeout=20)
        assert lines
        built = site.build(node("n1", comment=f"after {turn}"))
        assert content(built)["etc/hostname"] == f"after {turn}".encode()
    for path in (site.built / "n1").iterdir():
        os.utime(path, (1, 1))
    built = site.build(node("n1", comment="end"))
    assert {path.name for path in (site.built / "n1").iterdir()} == {"system.record", built.parts[-1][0].name}


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "small", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.root
def test_a_full_disk_leaves_what_was_built(site: Site, small: Path) -> None:
    site.built = small / "overlays"
    before = site.build(N1)
    old = content(before)
    site.write("own/rootfs/etc/big.j2", "{{ node.id }}").with_name("noise").write_bytes(random.Random(1).randbytes(400_000))
    with pytest.raises(OSError, match="No space left"):
        site.build(N1)
    assert content(before) == old
    assert not list(site.built.rglob(".new-*"))
    shutil.rmtree(site.overlays / "own")
    assert "etc/hosts" in content(site.build(N1))


def test_removed_paths_arrive_as_whiteouts_and_a_list(site: Site) -> None:
    site.write("own/rootfs/etc/.wh.motd", "")
    site.write("own/rootfs/etc/.wh.issue", "")
    data = gzip.decompress(b"".join(path.read_bytes() for path, _ in site.build(N1).parts))
    found = {entry.path.decode(): (stat.S_IFMT(entry.mode), bytes(text)) for entry, text in cpio.parse(data)}
    assert "etc/motd" not in found  # of an earlier overlay, and in no image
    assert found[".bootsvc/removals/system"] == (stat.S_IFREG, b"etc/issue\netc/motd\n")
