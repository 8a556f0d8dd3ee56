"""The Debian tree as an image of five gzip layers, made by GNU tar and umoci, and the docker-registry that serves it."""

import hashlib
import http.client
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import debian_tree
from places import CACHE

from images.errors import Error

NAME = "bench/debian:12"
PARTS = (
    ("./usr/lib/x86_64-linux-gnu",),
    ("./usr/lib/modules", "./boot"),
    ("./usr/share",),
)
"""What the second to fourth layer hold; the first holds the rest, the fifth changes a file and hides one."""
CHANGED = "etc/motd"
HIDDEN = "usr/share/doc/bash/README.gz"
LARGEST = "largest-layer"
START_SECONDS = 30.0


def storage() -> Path:
    """The folder of a registry that has the image; made once."""
    tar = debian_tree.debian_tar()
    recipe = hashlib.sha256(f"{tar.name} {PARTS} {CHANGED} {HIDDEN}".encode()).hexdigest()[:12]
    place = CACHE / "bench" / f"registry-{recipe}"
    if not place.exists():
        staged = place.with_name(f".{place.name}.part")
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
        _make(tar, staged)
        (staged / "registry").rename(place)
        shutil.rmtree(staged)
    return place


def _make(tar: Path, folder: Path) -> None:
    rootfs, layout = folder / "rootfs", folder / "layout"
    debian_tree.unpack(tar, rootfs)
    _run("umoci", "init", "--layout", str(layout))
    _run("umoci", "new", "--image", f"{layout}:12")
    largest = 0
    for number, members in enumerate(_layers(rootfs, folder)):
        layer = folder / f"layer-{number}.tar"
        _run("tar", "--create", "--file", str(layer), "--numeric-owner", "--xattrs", "--xattrs-include=*", *members)
        _run("umoci", "raw", "add-layer", "--image", f"{layout}:12", str(layer))
        largest = max(largest, layer.stat().st_size)
        layer.unlink()
    with serving(folder / "registry", log=folder / "registry.log") as address:
        target = f"docker://{address}/{NAME}"
        _run("skopeo", "copy", "--insecure-policy", "--dest-tls-verify=false", f"oci:{layout}:12", target)
    (folder / "registry" / LARGEST).write_text(str(largest))


def _layers(rootfs: Path, folder: Path) -> Iterator[list[str]]:
    """What tar is told to put into each layer, lowest first."""
    below = ["--directory", str(rootfs)]
    parts = [part for layer in PARTS for part in layer]
    yield [*below, "--anchored", *(f"--exclude={part}" for part in parts), "."]
    for part in PARTS:
        yield [*below, *part]
    last = folder / "last"
    for path, content in ((CHANGED, "A compute node.\n"), (_whiteout(HIDDEN), "")):
        (last / path).parent.mkdir(parents=True, exist_ok=True)
        (last / path).write_text(content)
    yield ["--directory", str(last), CHANGED, _whiteout(HIDDEN)]


def _whiteout(path: str) -> str:
    folder, _, name = path.rpartition("/")
    return f"{folder}/.wh.{name}"


def largest_layer() -> int:
    """Bytes of the largest layer, uncompressed."""
    return int((storage() / LARGEST).read_text())


@contextmanager
def serving(folder: Path, *, log: Path) -> Iterator[str]:
    """Debian's docker-registry on loopback with its data in `folder`; gives HOST:PORT once it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    conf = log.with_suffix(".yml")
    settings = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder)}},
        "http": {"addr": address},
    }
    conf.write_text(json.dumps(settings))
    with log.open("wb") as output:
        process = subprocess.Popen(["docker-registry", "serve", str(conf)], stdout=output, stderr=output)
        try:
            _wait(process, address, log)
            yield address
        finally:
            process.terminate()
            process.wait()


def _wait(process: "subprocess.Popen[bytes]", address: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        connection = http.client.HTTPConnection(address, timeout=5)
        try:
            connection.request("GET", "/v2/")
            connection.getresponse().read()
            return
        except OSError:
            time.sleep(0.02)
        finally:
            connection.close()
    raise Error(f"docker-registry does not answer at {address}", hint=log.read_text(errors="replace")[-1000:])


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise Error(f"{command[0]} ended with status {done.returncode}", hint=f"{' '.join(command)}\n{done.stderr[-1000:]}")
