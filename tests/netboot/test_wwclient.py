"""The node's client: it tells the server that it is up, and brings the runtime overlay up to date, file by file."""

import gzip
import os
import signal
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from images.view import ImageView
from netboot.engine import RenderContext, Server
from netboot.node import to_node
from netboot.overlay import Item, load, shipped
from netboot.overlay_archive import archive
from netboot.overlay_render import Placed, render_items
from netboot.urls import Urls

pytestmark = pytest.mark.root

WWID = "52-54-00-00-00-01"


class HeadNode:
    """Answers as the boot server does; `seen` are the paths that were asked for, as they come."""

    def __init__(self) -> None:
        self.seen: Queue[str] = Queue()
        self.runtime: bytes | None = None
        head = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = b"ok\n" if self.path.startswith("/report") else head.runtime
                self.send_response(404 if body is None else 200)
                self.end_headers()
                self.wfile.write(body or b"")
                head.seen.put(self.path)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def serve(self, items: Mapping[bytes, Item]) -> None:
        self.runtime = gzip.compress(archive(Placed(items=items), ImageView([]), "runtime"))


@pytest.fixture
def head() -> Iterator[HeadNode]:
    head = HeadNode()
    thread = threading.Thread(target=head.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield head
    head.server.shutdown()
    head.server.server_close()
    thread.join()


Client = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def client(head: HeadNode, tmp_path: Path, require_tool: Callable[..., Path]) -> Client:
    """Start the rendered script; it writes below `tmp_path / "root"`."""
    require_tool("cpio")
    address = IPv4Address("127.0.0.1")
    server = Server(
        name="head",
        address=address,
        network=IPv4Network("127.0.0.0/8"),
        domain="",
        urls=Urls(address=address, port=head.server.server_address[1]),
        update_interval=3600,
    )
    node = to_node("n1", {})
    items = render_items([load("wwclient", [shipped()])], RenderContext(node=node, nodes=[node], server=server)).items
    script = tmp_path / "wwclient"
    script.write_bytes(items[b"warewulf/wwclient"].content)
    script.chmod(0o755)

    def start(*arguments: str, path: str = os.environ["PATH"]) -> "subprocess.Popen[str]":
        environment = {"PATH": path, "WW_ROOT": str(tmp_path / "root"), "WW_ID": WWID}
        return subprocess.Popen(
            ["/bin/sh", script, *arguments], env=environment, text=True, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
        )

    return start


def once(client: Client, **options: str) -> str:
    """What one look says."""
    process = client("--once", **options)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    return said


def file(content: bytes, mode: int = 0o644, *, uid: int = 0, gid: int = 0) -> Item:
    return Item(path=b"", mode=stat.S_IFREG | mode, content=content, uid=uid, gid=gid)


def test_it_reports_and_writes_what_is_new(head: HeadNode, client: Client, tmp_path: Path) -> None:
    head.serve(
        {
            b"etc/hosts": file(b"new\n"),
            b"etc/secret": file(b"x", 0o600, uid=3, gid=4),
            b"etc/same": file(b"same"),
            b"etc/link": Item(path=b"", mode=stat.S_IFLNK | 0o777, content=b"hosts"),
            b"etc/sub": Item(path=b"", mode=stat.S_IFDIR | 0o710),
            b"etc/sub/a b": file(b"deep"),
        }
    )
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/hosts").write_text("old\n")
    (root / "etc/other").write_text("kept")
    same = root / "etc/same"
    same.write_text("same")
    same.chmod(0o644)
    inode = same.stat().st_ino
    said = once(client)
    assert sorted(said.splitlines()) == [
        "wwclient: new: /etc/hosts",
        "wwclient: new: /etc/link",
        "wwclient: new: /etc/secret",
        "wwclient: new: /etc/sub",
        "wwclient: new: /etc/sub/a b",
    ]
    assert (root / "etc/hosts").read_text() == "new\n"
    assert (root / "etc/link").readlink() == Path("hosts")
    assert (root / "etc/sub/a b").read_text() == "deep"
    assert stat.S_IMODE((root / "etc/sub").stat().st_mode) == 0o710
    info = (root / "etc/secret").stat()
    assert (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid) == (0o600, 3, 4)
    assert (root / "etc/other").read_text() == "kept"
    assert same.stat().st_ino == inode
    assert [path.name for path in (root / "warewulf").iterdir()] == []
    assert once(client) == ""
    asked = [head.seen.get_nowait() for _ in range(head.seen.qsize())]
    assert asked[0].startswith(f"/report/{WWID}?event=up&")
    assert asked[1].startswith(f"/runtime/{WWID}?compress=gz&assetkey=")


def test_what_is_no_archive_changes_nothing(head: HeadNode, client: Client, tmp_path: Path) -> None:
    head.serve({b"etc/a": file(b"a" * 100_000)})
    assert head.runtime is not None
    for broken in (head.runtime[:-20], b"<html>", gzip.compress(b"no cpio")):
        head.runtime = broken
        assert once(client) == "wwclient: the runtime overlay did not arrive whole\n"
        assert not (tmp_path / "root/etc").exists()


def test_without_an_overlay_it_is_up_all_the_same(head: HeadNode, client: Client) -> None:
    assert once(client) == f"wwclient: 127.0.0.1:{head.server.server_address[1]} gave no runtime overlay\n"
    assert head.seen.get_nowait().startswith("/report/")


def test_a_signal_makes_it_look_now(head: HeadNode, client: Client, tmp_path: Path) -> None:
    head.serve({b"etc/a": file(b"1")})
    process = client()
    assert process.stderr is not None
    assert [process.stderr.readline() for _ in range(2)] == ["wwclient: new: /etc\n", "wwclient: new: /etc/a\n"]
    head.serve({b"etc/a": file(b"2")})
    while process.poll() is None and (tmp_path / "root/etc/a").read_text() != "2":
        process.send_signal(signal.SIGHUP)
        threading.Event().wait(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0


@pytest.mark.parametrize("program", ["curl", "wget", "bash", "busybox"])
def test_whatever_the_image_has(
    program: str, head: HeadNode, client: Client, tmp_path: Path, require_tool: Callable[..., Path]
) -> None:
    """Nothing else of the host is on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    tools = "tr sed tail head cat mktemp mkdir gzip cpio find cmp stat cp mv rm ln readlink chmod chown timeout sleep kill"
    busybox = require_tool("busybox", package="busybox-static") if program == "busybox" else None
    for tool in ("wget" if busybox else program, *tools.split()):
        (folder / tool).symlink_to(busybox or require_tool(tool))
    head.serve({b"etc/a": file(bytes(range(256)) * 40)})
    assert once(client, path=str(folder)) == "wwclient: new: /etc\nwwclient: new: /etc/a\n"
    assert (tmp_path / "root/etc/a").read_bytes() == bytes(range(256)) * 40


def test_an_image_without_cpio(head: HeadNode, client: Client, tmp_path: Path, require_tool: Callable[..., Path]) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("curl", "tr", "sed", "tail", "head", "cat", "gzip"):
        (folder / tool).symlink_to(require_tool(tool))
    assert once(client, path=str(folder)) == "wwclient: this image has no cpio: the runtime overlay stays as it was at boot\n"
