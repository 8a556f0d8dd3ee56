"""`wwctl container` as the seed page shows it, on a real registry; and bad input, which changes nothing."""

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import oci_image as oci
import pytest
from head_node import WWCTL, HeadNode
from oci_image import Image, Registry

pytestmark = pytest.mark.root


class Site(HeadNode):
    def state(self) -> dict[str, tuple[int, bytes]]:
        """Everything that matters on disk: what bad input must leave as it was."""
        return {
            str(path.relative_to(self.root)): (path.stat().st_mtime_ns, path.read_bytes())
            for folder in ("lib", "etc")
            for path in sorted((self.root / folder).rglob("*"))
            if path.is_file() and not path.is_symlink() and not path.name.endswith(".lock")
        }


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture(scope="module")
def layers(require_busybox: Path) -> list[bytes]:
    shells = [oci.symlink(f"bin/{name}", "busybox") for name in ("sh", "cat", "ls", "true", "false")]
    folders = [oci.directory(name) for name in ("bin", "etc", "mnt", "tmp", "boot", "root")]
    busybox = oci.Member(name="bin/busybox", data=require_busybox.read_bytes(), mode=0o755)
    release = oci.Member(name="etc/rocky-release", data=b"Rocky Linux release 8.4 (Green Obsidian)\n")
    kernel = oci.Member(name="boot/vmlinuz-6.1.0", data=b"kernel")
    return [oci.layer([*folders, busybox, *shells, kernel]), oci.layer([release, oci.Member(name="etc/.wh.gone")])]


@pytest.fixture(scope="session")
def require_busybox() -> Path:
    path = Path("/bin/busybox")
    if not path.exists():
        pytest.skip("/bin/busybox is missing (Debian package busybox-static)")
    return path


@pytest.fixture
def rocky(registry: Registry, layers: list[bytes]) -> Image:
    """docker://…/warewulf/rocky in the registry."""
    image = oci.build(layers)
    registry.push("warewulf/rocky", "latest", image)
    return image


@pytest.fixture
def imported(site: Site, registry: Registry, rocky: Image) -> Site:
    done = site.wwctl("container", "import", f"docker://{registry.host}/warewulf/rocky", "rocky-8")
    assert done.returncode == 0, done.stderr
    return site


def hexdigits(digest: str, length: int) -> str:
    return str(digest).removeprefix("sha256:")[:length]


def test_import_prints_what_the_seed_shows(site: Site, registry: Registry, rocky: Image) -> None:
    done = site.wwctl("container", "import", f"docker://{registry.host}/warewulf/rocky", "rocky-8")
    blobs = {f"Copying blob {hexdigits(digest, 12)} done  " for digest in rocky.layer_digests}
    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        "wwctl: warning: rocky-8: it has no /sbin/init, so nothing would start on a node",
        "wwctl: warning: rocky-8: it has no mount, without which a node cannot start its init",
        "wwctl: warning: rocky-8: kernel 6.1.0 has no modules: /lib/modules/6.1.0 is missing or empty",
        "(`wwctl container check rocky-8` shows 1 more, and what to do)",
    ]
    assert lines[0] == "Getting image source signatures"
    assert set(lines[1:3]) == blobs
    assert lines[3:] == [
        f"Copying config {hexdigits(rocky.config_digest, 10)} done  ",
        "Writing manifest to image destination",
        "Storing signatures",
        *(f"[LOG]       info unpack layer: {digest}" for digest in rocky.layer_digests),
        "Updating the container's /etc/resolv.conf",
        "Building container: rocky-8",
    ]
    assert (site.chroots / "rocky-8/rootfs/etc/resolv.conf").read_bytes() == Path("/etc/resolv.conf").read_bytes()


def test_a_second_import_downloads_nothing(imported: Site, registry: Registry) -> None:
    done = imported.wwctl("container", "import", f"docker://{registry.host}/warewulf/rocky", "other")
    assert done.returncode == 0
    assert done.stdout.count("skipped: already exists") == 2


def test_list_has_the_seeds_columns(imported: Site) -> None:
    imported.wwctl("node", "add", "n[1-2]", "--image", "rocky-8")
    (imported.chroots / "by-hand/rootfs").mkdir(parents=True)
    assert imported.wwctl("container", "list").stdout == (
        "CONTAINER NAME                      BUILT  NODES \n"
        "by-hand                             false  0     \n"
        "rocky-8                             true   2     \n"
    )
    assert imported.wwctl("image", "list").stdout == "IMAGE NAME\n----------\nby-hand\nrocky-8\n"


def test_exec_rebuilds_only_what_changed(imported: Site) -> None:
    seen = imported.wwctl("container", "exec", "rocky-8", "/bin/cat", "/etc/rocky-release")
    assert seen.stdout.splitlines() == [
        "Rocky Linux release 8.4 (Green Obsidian)",
        "Rebuilding container...",
        "[INFO]     Skipping (VNFS is current)",
    ]
    changed = imported.wwctl("container", "exec", "rocky-8", "--", "/bin/sh", "-c", "echo x > /etc/motd")
    assert (changed.stdout, changed.stderr) == ("Rebuilding container...\n", "")
    assert imported.wwctl("container", "build", "rocky-8").stdout.splitlines()[1:] == ["[INFO]     Skipping (VNFS is current)"]


def test_image_speaks_the_newer_words(imported: Site) -> None:
    done = imported.wwctl("image", "exec", "rocky-8", "/bin/true")
    assert done.stdout.splitlines() == ["Building image: rocky-8", "Skipping (Image is current)"]


def test_exec_passes_the_status_on_and_does_not_build(imported: Site) -> None:
    done = imported.wwctl("container", "exec", "rocky-8", "/bin/sh", "-c", "echo x > /etc/half; exit 7")
    assert (done.returncode, done.stdout) == (7, "")
    assert "rocky-8 is not built" in done.stderr
    assert imported.wwctl("container", "exec", "rocky-8", "nonsense").returncode == 127


def test_bind(imported: Site, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/file").write_text("from outside")
    bind = f"{tmp_path}/shared:/mnt"
    done = imported.wwctl("container", "exec", "--bind", bind, "rocky-8", "/bin/cat", "/mnt/file")
    assert done.stdout.startswith("from outside")


@pytest.fixture
def terminal(imported: Site) -> Iterator[Callable[..., "Terminal"]]:
    opened: list[Terminal] = []

    def open_(*args: str) -> Terminal:
        opened.append(Terminal(imported, args))
        return opened[-1]

    yield open_
    for each in opened:
        each.close()


class Terminal:
    """wwctl on a terminal of its own."""

    def __init__(self, site: Site, args: tuple[str, ...]) -> None:
        self.pid, self._descriptor = pty.fork()
        if self.pid == 0:
            os.execve(WWCTL, [str(WWCTL), *args], site.environment)
        self.text = ""

    def expect(self, pattern: str, seconds: float = 30) -> None:
        """Read until the pattern is there."""
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.text):
            ready, _, _ = select.select([self._descriptor], [], [], max(deadline - time.monotonic(), 0))
            assert ready, f"{pattern!r} did not come: {self.text!r}"
            try:
                # busybox asks the terminal where its cursor is.
                self.text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.text + os.read(self._descriptor, 4096).decode())
            except OSError:
                pytest.fail(f"{pattern!r} did not come before the end: {self.text!r}")

    def type(self, line: str) -> None:
        self.text = ""
        os.write(self._descriptor, line.encode() + b"\n")

    def status(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def close(self) -> None:
        os.close(self._descriptor)
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


def test_the_seeds_session(terminal: Callable[..., Terminal]) -> None:
    session = terminal("container", "exec", "rocky-8", "/bin/sh")
    session.expect(r"\[rocky-8\] Warewulf> $")
    session.type("cat /etc/rocky-release")
    session.expect(r"Rocky Linux release 8\.4 \(Green Obsidian\)\r\n\[rocky-8\] Warewulf> $")
    session.type("exit")
    session.expect(r"Rebuilding container\.\.\.\r\n\[INFO\]     Skipping \(VNFS is current\)\r\n$")
    assert session.status() == 0


def test_a_second_admin_is_refused(terminal: Callable[..., Terminal], imported: Site) -> None:
    session = terminal("container", "shell", "rocky-8")
    session.expect(r"Warewulf> $")
    for verb in (["exec", "rocky-8", "/bin/true"], ["build", "rocky-8"], ["delete", "-y", "rocky-8"]):
        done = imported.wwctl("container", *verb)
        assert (done.returncode, done.stdout.replace("Building container: rocky-8\n", "")) == (1, "")
        assert re.search(rf"`exec rocky-8` \(process {session.pid}\)", done.stderr)
    session.type("exit")
    assert session.status() == 0


@pytest.mark.parametrize(
    ("command", "status", "words"),
    [
        ("import docker://unknown.invalid/x y", 1, "unknown.invalid"),
        ("import docker://127.0.0.1:1/x y", 1, "127.0.0.1:1"),
        ("import docker://{host}/warewulf/rocky:nosuchtag y", 1, "nosuchtag"),
        ("import docker://{host}/no/such y", 1, "no/such"),
        ("import docker://{host}/warewulf/rocky@sha256:" + "0" * 64 + " y", 1, "0" * 64),
        ("import docker://{host}/warewulf/rocky rocky-8", 1, "'rocky-8' exists already"),
        ("import docker://{host}/warewulf/rocky a/b", 1, "'a/b' cannot be an image's name"),
        ("import docker://{host}/UPPER y", 1, "UPPER"),
        ("import /no/such/folder y", 1, "/no/such/folder"),
        ("import {root}/etc y", 1, "not a root file system"),
        ("import --username me docker://{host}/warewulf/rocky y", 2, "--password is missing"),
        ("exec nosuch /bin/true", 1, "no image 'nosuch'"),
        ("exec rocky", 2, "COMMAND"),
        ("exec --bind /no/such:/mnt rocky-8 /bin/true", 1, "/no/such"),
        ("build", 2, "no container is named"),
        ("build rocky-9", 1, "did you mean 'rocky-8'?"),
        ("delete -y rocky-9", 1, "no image 'rocky-9'"),
        ("delet rocky-8", 2, "did you mean `wwctl container delete`?"),
        ("list --nonsense", 2, "--nonsense"),
    ],
)
def test_bad_input_is_a_sentence_and_changes_nothing(
    imported: Site, registry: Registry, command: str, status: int, words: str
) -> None:
    (imported.root / "etc").mkdir(exist_ok=True)
    before = imported.state()
    done = imported.wwctl("container", *command.format(host=registry.host, root=imported.root).split())
    lines = done.stderr.splitlines()
    assert done.returncode == status, done.stderr
    assert words in done.stderr
    assert lines[0].startswith("wwctl: ")
    assert len(lines) == 2, "one sentence, one hint"
    assert re.fullmatch(r"\(.+\)", lines[1])
    assert imported.state() == before
    assert [path.name for path in imported.chroots.iterdir() if path.name.startswith(".staging")] == []


def test_delete_asks_and_is_refused_while_in_use(imported: Site) -> None:
    imported.wwctl("node", "add", "n1", "--image", "rocky-8")
    refused = imported.wwctl("container", "delete", "-y", "rocky-8")
    assert (refused.returncode, "used by n1" in refused.stderr) == (1, True)
    imported.wwctl("node", "delete", "-y", "n1")
    asked = imported.wwctl("container", "delete", "rocky-8")
    assert (asked.returncode, asked.stdout.strip()) == (0, "Are you sure you want to delete container [rocky-8]? [y/N]")
    assert imported.wwctl("container", "delete", "-y", "rocky-8").stdout == "Deleted container: rocky-8\n"
    assert imported.wwctl("container", "list").stdout == "CONTAINER NAME                      BUILT  NODES \n"


def test_force_replaces_and_keeps_nothing_of_the_old(imported: Site, registry: Registry, layers: list[bytes]) -> None:
    (imported.chroots / "rocky-8/rootfs/etc/old").touch()
    registry.push("warewulf/rocky", "9", oci.build([*layers, oci.layer([oci.Member(name="etc/new")])]))
    done = imported.wwctl("container", "import", "--force", f"docker://{registry.host}/warewulf/rocky:9", "rocky-8")
    assert done.returncode == 0, done.stderr
    etc = imported.chroots / "rocky-8/rootfs/etc"
    assert (etc / "new").exists()
    assert not (etc / "old").exists()


def test_a_long_build_has_a_bar_with_bytes_and_rate(site: Site) -> None:
    folder = site.chroots / "img/rootfs/usr"
    folder.mkdir(parents=True)
    for number in range(9):
        (folder / f"{number}").write_bytes(os.urandom(8 << 20))
    parent, child = pty.openpty()
    with os.fdopen(child, "wb") as terminal:
        command = ["/bin/sh", "-c", f"stty cols 100; {WWCTL} image build img"]
        environment = site.environment | {"TERM": "xterm", "NO_COLOR": "1"}
        done = subprocess.Popen(command, env=environment, stdin=terminal, stdout=terminal, stderr=terminal)
    shown = bytearray()
    with contextlib.suppress(OSError):  # EIO: nobody has the terminal any more
        while chunk := os.read(parent, 65536):
            shown += chunk
    os.close(parent)
    assert done.wait(60) == 0, shown.decode()
    assert re.search(r"compressing .* 75\.5/75\.5 MB [\d.]+ [MG]B/s", shown.decode()), shown.decode()


@pytest.mark.parametrize("to_file", [True, False])
def test_a_bar_leaves_the_lines_on_standard_output_whole(site: Site, registry: Registry, rocky: Image, to_file: bool) -> None:
    place = site.root / "out"
    command = f"stty cols 40; {WWCTL} container import docker://{registry.host}/warewulf/rocky rocky-8"
    parent, child = pty.openpty()
    with os.fdopen(child, "wb") as terminal, place.open("wb") as file:
        done = subprocess.Popen(
            ["/bin/sh", "-c", command],
            env=site.environment | {"TERM": "xterm"},
            stdin=terminal,
            stdout=file if to_file else terminal,
            stderr=terminal,
        )
    shown = bytearray()
    with contextlib.suppress(OSError):  # EIO: nobody has the terminal any more
        while chunk := os.read(parent, 65536):
            shown += chunk
    os.close(parent)
    assert done.wait(60) == 0, shown.decode()
    text = place.read_text() if to_file else shown.decode().replace("\r\n", "\n")
    for digest in rocky.layer_digests:
        assert f"[LOG]       info unpack layer: {digest}\n" in text
        assert f"Copying blob {hexdigits(digest, 12)} done  \n" in text
    if to_file:
        assert text.startswith("Getting image source signatures\n")
        assert "\x1b" not in text
