import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import IPv4Address

import pytest

from bootsvc.cli.status import NodeStatus, Selection, fetch, lines, reasons
from bootsvc.config import Config
from bootsvc.http.settings import HttpConfig
from images.errors import Error


@contextmanager
def server(status: int, body: bytes) -> Iterator[Config]:
    """A server on loopback that gives one answer to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/status" else 500)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield Config(ipaddr=IPv4Address("127.0.0.1"), http=HttpConfig(port=http.server_port))
        http.shutdown()
        thread.join()


def test_fetch_and_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    nodes = {
        "n2": {"node name": "n2", "stage": "up", "sent": "", "ipaddr": "10.0.0.12", "last seen": 990},
        "n1": {"node name": "n1", "stage": "system", "sent": "__SYSTEM__.img", "ipaddr": "10.0.0.11", "last seen": 1000},
        "n3": {"node name": "n3", "stage": "", "sent": "", "ipaddr": "", "last seen": 0},
    }
    with server(200, json.dumps({"nodes": nodes}).encode()) as config:
        found = fetch(config)
    assert list(lines(found, Selection(), now=1003.9)) == [
        "NODENAME             STAGE                SENT                      LASTSEEN (s)",
        "=" * 80,
        "n1                   SYSTEM OVERLAY       __SYSTEM__.img            3",
        "n2                   UP                   --                        13",
        "n3                   --                   --                        --",
    ]


def test_why_nodes_do_not_get_on() -> None:
    nodes = {"n1": NodeStatus(sent="NOT_FOUND", why="image 'x' has not been built"), "n2": NodeStatus(sent="default.ipxe")}
    assert list(reasons(nodes, Selection())) == ["n1: image 'x' has not been built"]
    assert list(reasons(nodes, Selection(names=["n2"]))) == []


def test_only_the_named_ones(capsys: pytest.CaptureFixture[str]) -> None:
    nodes = {"n1": NodeStatus(), "n2": NodeStatus()}
    selection = Selection(names=["n2", "n9"])
    selection.check(nodes)
    assert [line.split()[0] for line in lines(nodes, selection)][2:] == ["n2"]
    assert capsys.readouterr().err == "wwctl: warning: the server knows no node 'n9'\n"
    with pytest.raises(Error, match="the server knows no node 'n22'") as caught:
        Selection(names=["n22"]).check(nodes)
    assert caught.value.hint == "did you mean 'n2'?"


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (404, b"", "answers 404 Not Found"),
        (200, b"<html>", "does not answer as bootsvc does"),
        (200, b"{}", "does not answer as bootsvc does"),
        (200, b"\xff", "does not answer as bootsvc does"),
    ],
)
def test_other_servers(status: int, body: bytes, message: str) -> None:
    with server(status, body) as config, pytest.raises(Error, match=message) as caught:
        fetch(config)
    assert caught.value.hint


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n",
    ],
)
def test_what_does_not_speak_http(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        config = Config(ipaddr=IPv4Address("127.0.0.1"), http=HttpConfig(port=listening.getsockname()[1]))
        with pytest.raises(Error, match="does not answer as bootsvc does"):
            fetch(config)
        thread.join()


def test_no_server() -> None:
    with socket.socket() as taken:
        # Bound but not listening: connections are refused, and nobody else can listen there.
        taken.bind(("127.0.0.1", 0))
        config = Config(ipaddr=IPv4Address("127.0.0.1"), http=HttpConfig(port=taken.getsockname()[1]))
        with pytest.raises(Error, match=r"no server answers at http://127\.0\.0\.1:\d+: Connection refused") as caught:
            fetch(config)
    assert "wwctl server" in str(caught.value.hint)
