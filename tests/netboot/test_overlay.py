"""Overlays: how they are read and laid one on the other, and what a bad one is told."""

import os
import stat
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from netboot.engine import RenderContext, Server
from netboot.errors import OverlayError, OverlayNotFound
from netboot.node import to_node
from netboot.overlay import Item, load, shipped
from netboot.overlay_library import Library
from netboot.overlay_render import render_items
from netboot.urls import Urls

ADDRESS = IPv4Address("10.0.0.100")
SERVER = Server(
    name="head",
    address=ADDRESS,
    network=IPv4Network("10.0.0.0/24"),
    domain="cluster",
    urls=Urls(address=ADDRESS, port=9873),
    dns=(IPv4Address("10.0.0.53"),),
    authorized_keys=("ssh-ed25519 AAAA root@head",),
)
NODE = to_node(
    "simple",
    {"network devices": {"default": {"hwaddr": "52:54:00:00:00:01", "ipaddr": "10.0.0.1", "netmask": "255.255.255.0"}}},
)


CONTEXT = RenderContext(node=NODE, nodes=[NODE], server=SERVER)


@pytest.fixture
def site(tmp_path: Path) -> Callable[..., Path]:
    """Make a site overlay `mine` of the given files."""

    def make(files: Mapping[str, str], toml: str | None = None) -> Path:
        for path, content in files.items():
            place = tmp_path / "mine/rootfs" / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(content)
        if toml is not None:
            (tmp_path / "mine/overlay.toml").write_text(toml)
        return tmp_path

    return make


def rendered(folder: Path) -> Mapping[bytes, Item]:
    return render_items([load("mine", [folder])], CONTEXT).items


def test_later_overlays_win(site: Callable[..., Path]) -> None:
    folder = site({"etc/hostname": "mine"})
    overlays = [load("hostname", [shipped()]), load("mine", [folder])]
    assert render_items(overlays, CONTEXT).items[b"etc/hostname"].content == b"mine"


def test_a_site_overlay_hides_the_shipped_one(tmp_path: Path) -> None:
    (tmp_path / "hosts/rootfs").mkdir(parents=True)
    assert load("hosts", [tmp_path, shipped()]).items == ()


@pytest.mark.parametrize("name", ["nothing", "", "..", "../hosts", ".hidden"])
def test_unknown_overlay(name: str, tmp_path: Path) -> None:
    with pytest.raises(OverlayNotFound):
        load(name, [tmp_path, shipped()])


def test_modes_and_owners_of_a_site_overlay_are_its_trees(site: Callable[..., Path]) -> None:
    folder = site({"etc/secret": "x"})
    (folder / "mine/rootfs/etc/secret").chmod(0o640)
    assert rendered(folder)[b"etc/secret"].mode & 0o7777 == 0o640


def test_overlay_toml_declares_what_a_wheel_spoils(site: Callable[..., Path]) -> None:
    toml = """
        description = "x"
        [files]
        "etc/secret" = {mode = "0600", uid = 3, gid = 4}
        [directories]
        "var/empty" = {mode = "0711"}
        [links]
        "etc/link" = "secret"
    """
    folder = site({"etc/secret.j2": "{{ node.id }}"}, toml)
    (folder / "mine/rootfs/etc/secret.j2").chmod(0o666)
    items = rendered(folder)
    secret = items[b"etc/secret"]
    assert (secret.mode & 0o7777, secret.uid, secret.gid, secret.content) == (0o600, 3, 4, b"simple")
    assert items[b"var/empty"].mode & 0o7777 == 0o711
    assert items[b"etc/link"].content == b"secret"


def test_a_template_error_names_file_line_and_node(site: Callable[..., Path]) -> None:
    folder = site({"etc/bad.j2": "one\ntwo {{ node.nonsense }}\n"})
    with pytest.raises(OverlayError, match=r"overlay mine, etc/bad\.j2:2: .*nonsense.* \(node simple\)"):
        rendered(folder)


def test_a_syntax_error_names_its_line(site: Callable[..., Path]) -> None:
    with pytest.raises(OverlayError, match=r"etc/bad\.j2:3: "):
        rendered(site({"etc/bad.j2": "one\ntwo\n{% if %}\n"}))


@pytest.mark.parametrize(
    "source", ["{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "{{" + "(" * 3000 + "1" + ")" * 3000 + "}}"]
)
def test_a_template_that_never_ends_is_a_sentence(site: Callable[..., Path], source: str) -> None:
    with pytest.raises(OverlayError, match=r"overlay mine, a\.j2:.*recursion.* \(node simple\)"):
        rendered(site({"a.j2": source}))


@pytest.mark.parametrize("toml", [b"\xff\xfe", b'description = "x"\n[directories.etc]\nmode = "9z"\n'])
def test_an_overlay_toml_of_nonsense_is_a_sentence(tmp_path: Path, toml: bytes) -> None:
    (tmp_path / "site/rootfs/etc").mkdir(parents=True)
    (tmp_path / "site/overlay.toml").write_bytes(toml)
    with pytest.raises(OverlayError, match=r"overlay\.toml"):
        load("site", [tmp_path])


def test_templates_are_sandboxed(site: Callable[..., Path]) -> None:
    with pytest.raises(OverlayError):
        rendered(site({"x.j2": "{{ node.__class__.__mro__[1].__subclasses__() }}"}))


@pytest.mark.parametrize("path", ["../../etc/passwd", "/../x", "init", ".bootsvc/generation", "a//b", ""])
def test_a_template_cannot_write_elsewhere(site: Callable[..., Path], path: str) -> None:
    folder = site({"x.j2": f"{{{{ file('{path}') }}}}\ntext"})
    with pytest.raises(OverlayError):
        rendered(folder)


def test_files_of_one_template(site: Callable[..., Path]) -> None:
    source = "dropped\n{{ file('etc/a') }}\nA\n{{ file('/etc/b') }}\nB\n{{ file('etc/empty') }}\n \n"
    items = rendered(site({"x.j2": source}))
    assert {path: item.content for path, item in items.items()} == {b"etc/a": b"A\n", b"etc/b": b"B\n"}


@pytest.mark.root
def test_what_cannot_be_read_is_a_sentence() -> None:
    # Not below tmp_path, which no other user can enter.
    with tempfile.TemporaryDirectory() as place:
        secret = Path(place) / "mine/rootfs/secret"
        secret.parent.mkdir(parents=True)
        for folder in (Path(place), *secret.parents[:2]):
            folder.chmod(0o755)
        secret.touch(0o600)
        os.seteuid(65534)
        try:
            with pytest.raises(OverlayError, match=r"overlay mine, .*/secret: only root can read it"):
                load("mine", [Path(place)])
        finally:
            os.seteuid(0)


def test_bad_overlay_toml_is_a_sentence(site: Callable[..., Path]) -> None:
    for toml in ("description = ", "wrong = 1", 'description = "x"\n[files."a"]\nmode = 644'):
        folder = site({"a": "x"}, toml)
        with pytest.raises(OverlayError, match=r"overlay\.toml"):
            load("mine", [folder])


def test_site_overlay_may_not_bring_devices(site: Callable[..., Path]) -> None:
    folder = site({"a": "x"})
    os.mkfifo(folder / "mine/rootfs/pipe")
    with pytest.raises(OverlayError, match="pipe"):
        load("mine", [folder])


def test_later_overlays_remove_and_bring_back(site: Callable[..., Path], tmp_path: Path) -> None:
    site({"etc/a/b": "x", "etc/c": "x"})
    (tmp_path / "less/rootfs/etc").mkdir(parents=True)
    (tmp_path / "less/overlay.toml").write_text('description = "x"\nremove = ["/etc/a/", "etc/d"]\n')
    (tmp_path / "less/rootfs/etc/.wh.c").touch()
    (tmp_path / "more/rootfs/etc").mkdir(parents=True)
    (tmp_path / "more/rootfs/etc/c").write_text("new")
    overlays = [load(name, [tmp_path]) for name in ("mine", "less", "more")]
    placed = render_items(overlays, CONTEXT)
    assert {path: item.content for path, item in placed.items.items() if stat.S_ISREG(item.mode)} == {b"etc/c": b"new"}
    assert set(placed.removals) == {b"etc/a", b"etc/d"}


@pytest.mark.parametrize("path", ["", "/", "..", "../x", "a/../b", "init", ".bootsvc/x"])
def test_what_cannot_be_removed(tmp_path: Path, path: str) -> None:
    (tmp_path / "bad/rootfs").mkdir(parents=True)
    (tmp_path / "bad/overlay.toml").write_text(f'description = "x"\nremove = ["{path}"]\n')
    with pytest.raises(OverlayError, match="overlay bad"):
        load("bad", [tmp_path])


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh..."])
def test_a_whiteout_without_a_name_takes_nothing_away(tmp_path: Path, name: str) -> None:
    (tmp_path / "bad/rootfs/etc").mkdir(parents=True)
    (tmp_path / "bad/rootfs/etc" / name).touch()
    with pytest.raises(OverlayError, match="overlay bad"):
        load("bad", [tmp_path])


def test_the_layout_of_older_warewulfs(tmp_path: Path) -> None:
    (tmp_path / "old/etc").mkdir(parents=True)
    (tmp_path / "old/etc/motd").write_text("x")
    assert [item.path for item in load("old", [tmp_path]).items] == [b"etc", b"etc/motd"]


def test_a_sites_wwinit_cannot_take_away_our_init(tmp_path: Path) -> None:
    (tmp_path / "wwinit/rootfs/warewulf").mkdir(parents=True)
    (tmp_path / "wwinit/rootfs/init").write_text("theirs")
    (tmp_path / "wwinit/rootfs/warewulf/config").write_text("x")
    placed = render_items([load("wwinit", [tmp_path])], CONTEXT)
    assert set(placed.items) == {b"warewulf", b"warewulf/config"}


def test_an_unknown_name_gets_the_closest(tmp_path: Path) -> None:
    with pytest.raises(OverlayNotFound) as caught:
        load("hostnames", [tmp_path, shipped()])
    assert caught.value.hint == "did you mean 'hostname'?"


def test_a_library_sees_every_change(site: Callable[..., Path]) -> None:
    library = Library([site({"etc/a": "1"})])
    first = library.load("mine")
    assert library.load("mine").fingerprint == first.fingerprint
    site({"etc/a": "2"})
    assert library.load("mine").fingerprint != first.fingerprint


def test_many_who_ask_at_once_see_what_was_there_when_they_asked(site: Callable[..., Path]) -> None:
    library = Library([site({"etc/a": "0"})])
    seen: dict[int, bytes] = {}

    def ask(number: int) -> bytes:
        return next(item.content for item in library.load("mine").items if item.path == b"etc/a")

    with ThreadPoolExecutor(16) as threads:
        for turn in range(1, 6):
            site({"etc/a": str(turn)})
            seen[turn] = b",".join(sorted(set(threads.map(ask, range(32)))))
    assert seen == {turn: str(turn).encode() for turn in range(1, 6)}
