import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest
from sandboxed import Image

from images import locks
from images.errors import Error
from images.sandbox import run as sandbox
from images.sandbox.run import Bind, BindMode, CommandNotStarted, run

pytestmark = pytest.mark.root

Capture = pytest.CaptureFixture[str]


def output(request: sandbox.SandboxRequest, capfd: Capture) -> str:
    status = run(request)
    captured = capfd.readouterr()
    assert (status, captured.err) == (0, "")
    return captured.out


def test_sees_only_itself(image: Image, capfd: Capture) -> None:
    # PID 1 is the sandbox's init, 2 the command, 3 ls, which the shell waits for.
    inside = output(image.request("sh", "-c", "echo $$; ls -d /proc/[0-9]*; true"), capfd).split()
    assert inside[:3] == ["2", "/proc/1", "/proc/2"]
    assert len(inside) <= 4


def test_namespaces_of_its_own(image: Image, capfd: Capture) -> None:
    inside = output(image.request("ls", "-l", "/proc/self/ns"), capfd)
    for kind in ("mnt", "pid", "uts", "ipc"):
        assert f"{kind}:[" in inside
        assert os.readlink(f"/proc/self/ns/{kind}") not in inside
    for kind in ("net", "user"):
        assert os.readlink(f"/proc/self/ns/{kind}") in inside


def test_hostname_is_the_images_and_the_hosts_stays(image: Image, capfd: Capture) -> None:
    host = socket.gethostname()
    assert output(image.request("hostname"), capfd).strip() == image.name[:64]
    assert socket.gethostname() == host != image.name


def test_mounts_are_those_planned_and_the_host_sees_none(image: Image, capfd: Capture) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    mounts = output(image.request("cat", "/proc/mounts"), capfd)
    targets = [line.split()[1] for line in mounts.splitlines()]
    assert targets[:5] == ["/", "/proc", "/proc/sys", *targets[3:5]]
    assert {"/sys", "/run", "/dev", "/dev/pts", "/dev/shm", "/dev/null", "/etc/resolv.conf"} < set(targets)
    assert str(image.rootfs) not in mounts
    assert Path("/proc/self/mountinfo").read_text() == before


def test_the_kernels_settings_are_read_only(image: Image, capfd: Capture) -> None:
    status = run(image.request("sh", "-c", "echo x > /proc/sys/kernel/domainname"))
    assert status == 1
    assert "Read-only file system" in capfd.readouterr().err
    assert run(image.request("mkdir", "/sys/x")) == 1


def test_cannot_load_modules_or_set_the_clock(image: Image, capfd: Capture) -> None:
    line = output(image.request("grep", "CapEff", "/proc/self/status"), capfd)
    assert int(line.split()[1], 16) & (1 << 16 | 1 << 25) == 0


def test_devices(image: Image, capfd: Capture) -> None:
    script = "echo x > /dev/null; head -c 3 /dev/zero | head -c 0; echo y > /dev/shm/f; ls /dev; stat -c %t:%T /dev/full"
    assert output(image.request("sh", "-c", script), capfd).split() == [
        *("fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero"),
        "1:7",
    ]


def test_changes_stay_in_the_image_and_run_does_not(image: Image) -> None:
    before = image.snapshot()
    assert run(image.request("sh", "-c", "echo hello > /root/marker; echo x > /run/gone")) == 0
    after = image.snapshot()
    changed = {path for path in after if after[path] != before.get(path)}
    assert changed == {f"{image.rootfs}/root", f"{image.rootfs}/root/marker"}
    assert (image.rootfs / "root/marker").read_text() == "hello\n"


def nothing(rootfs: Path) -> None:
    (rootfs / "etc/resolv.conf").unlink()


def no_etc(rootfs: Path) -> None:
    nothing(rootfs)
    (rootfs / "etc").rmdir()


def link(target: str) -> Callable[[Path], None]:
    def make(rootfs: Path) -> None:
        (rootfs / "etc/resolv.conf").unlink()
        (rootfs / "etc/resolv.conf").symlink_to(target)

    return make


@pytest.mark.parametrize(
    "prepare",
    [
        lambda rootfs: None,
        nothing,
        no_etc,
        link("/run/systemd/resolve/stub-resolv.conf"),
        link("../run/resolvconf/resolv.conf"),
        link("/var/lib/dhcp/resolv.conf"),
        link("../../../../etc/real"),
    ],
    ids=["file", "missing", "no /etc", "into run", "relative into run", "dangling", "above the root"],
)
@pytest.mark.parametrize("readonly", [False, True])
def test_resolver_is_the_hosts_and_the_image_is_untouched(
    image: Image, capfd: Capture, prepare: Callable[[Path], None], readonly: bool
) -> None:
    prepare(image.rootfs)
    before = image.snapshot()
    assert output(image.request("cat", "/etc/resolv.conf", readonly=readonly), capfd) == Path("/etc/resolv.conf").read_text()
    assert image.snapshot() == before
    assert run(image.request("sh", "-c", "echo x > /etc/resolv.conf", readonly=readonly)) == 1
    assert image.snapshot() == before


def test_missing_directories_of_the_system(image: Image, capfd: Capture) -> None:
    for name in ("dev", "proc", "run", "sys"):
        (image.rootfs / name).rmdir()
    before = image.snapshot()
    assert output(image.request("sh", "-c", "cat /proc/self/comm; ls /sys/kernel /dev/null >/dev/null"), capfd) == "cat\n"
    assert image.snapshot() == before


@pytest.mark.parametrize("target", ["/mnt", "/srv", "/a/b/c/d", "/run/some/where", "/mnt/x"])
@pytest.mark.parametrize("readonly", [False, True])
def test_bind_with_and_without_a_target(image: Image, tmp_path: Path, target: str, readonly: bool) -> None:
    source = tmp_path / "source"
    source.mkdir()
    before = image.snapshot()
    request = image.request(
        "touch", f"{target}/from-inside", binds=(Bind(source=source, target=PurePosixPath(target)),), readonly=readonly
    )
    assert run(request) == 0
    assert os.listdir(source) == ["from-inside"]
    assert image.snapshot() == before


def test_bind_of_a_file_through_links_of_the_image(image: Image, tmp_path: Path, capfd: Capture) -> None:
    (image.rootfs / "opt").symlink_to("/usr/opt")
    source = tmp_path / "file"
    source.write_text("content")
    before = image.snapshot()
    bind = Bind(source=source, target=PurePosixPath("/opt/deep/file"))
    assert output(image.request("cat", "/usr/opt/deep/file", binds=(bind,)), capfd) == "content"
    assert image.snapshot() == before


def test_bind_is_recursive_also_when_read_only(image: Image, tmp_path: Path, capfd: Capture) -> None:
    submount = tmp_path / "source" / "sub"
    submount.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", submount], check=True)
    try:
        (submount / "there").touch()
        for mode, status in ((BindMode.RO, 1), (BindMode.RW, 0)):
            bind = Bind(source=submount.parent, target=PurePosixPath("/mnt"), mode=mode)
            assert run(image.request("sh", "-c", "ls /mnt/sub; echo x > /mnt/sub/new", binds=(bind,))) == status
            captured = capfd.readouterr()
            assert captured.out == "there\n"
        assert (submount / "new").exists()
    finally:
        subprocess.run(["umount", submount], check=True)


def test_what_the_command_puts_beside_a_missing_target_stays(image: Image, tmp_path: Path) -> None:
    bind = Bind(source=tmp_path, target=PurePosixPath("/a/b"))
    assert run(image.request("touch", "/a/kept", binds=(bind,))) == 0
    assert os.listdir(image.rootfs / "a") == ["kept"]


def test_cleaning_up_follows_no_link_that_the_command_made(image: Image, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "b").mkdir(parents=True)
    bind = Bind(source=tmp_path / "img", target=PurePosixPath("/mnt/a/b"))
    script = f"mv /mnt/a /mnt/moved; ln -s {'../' * 20}{str(outside).lstrip('/')} /mnt/a"
    assert run(image.request("sh", "-c", script, binds=(bind,))) == 0
    assert os.listdir(outside) == ["b"]


def test_read_only_image(image: Image, capfd: Capture) -> None:
    before = image.snapshot()
    assert run(image.request("touch", "/root/x", readonly=True)) == 1
    assert "Read-only file system" in capfd.readouterr().err
    assert output(image.request("sh", "-c", "echo x > /tmp/x; cat /tmp/x", readonly=True), capfd) == "x\n"
    assert image.snapshot() == before


def test_services_are_not_started_in_debian(image: Image, capfd: Capture) -> None:
    (image.rootfs / "usr/sbin").mkdir(parents=True)
    (image.rootfs / "usr/sbin/invoke-rc.d").touch()
    before = image.snapshot()
    assert output(image.request("sh", "-c", "/usr/sbin/policy-rc.d; echo $?; echo $SYSTEMD_OFFLINE"), capfd) == "101\n1\n"
    assert image.snapshot() == before
    (image.rootfs / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 7\n")
    (image.rootfs / "usr/sbin/policy-rc.d").chmod(0o755)
    assert run(image.request("/usr/sbin/policy-rc.d")) == 7


def test_environment(image: Image, capfd: Capture) -> None:
    caller = {"TERM": "vt100", "LC_ALL": "C.UTF-8", "http_proxy": "http://192.0.2.7/", "LD_PRELOAD": "/x", "SECRET": "s"}
    lines = output(image.request("env", environment=caller), capfd).splitlines()
    assert {"TERM=vt100", "LC_ALL=C.UTF-8", "http_proxy=http://192.0.2.7/", "HOME=/root", "HISTFILE=/dev/null"} < set(lines)
    assert {f"WW_CONTAINER_SHELL={image.name}", f"WW_IMAGE_SHELL={image.name}"} < set(lines)
    assert not [line for line in lines if line.startswith(("LD_", "SECRET"))]
    lines = output(image.request("env", environment={"WW_HISTFILE": "/root/.hist"}), capfd).splitlines()
    assert "HISTFILE=/root/.hist" in lines


def test_workdir_and_umask(image: Image, capfd: Capture) -> None:
    old = os.umask(0o077)
    try:
        assert output(image.request("sh", "-c", "pwd; umask", workdir=PurePosixPath("/mnt")), capfd) == "/mnt\n0022\n"
    finally:
        os.umask(old)


def test_no_descriptor_of_ours_is_left_open(image: Image, capfd: Capture) -> None:
    # 3 is the directory that ls itself reads.
    assert output(image.request("ls", "/proc/self/fd"), capfd).split() == ["0", "1", "2", "3"]


def test_signals_are_as_a_shell_expects_them(image: Image, capfd: Capture) -> None:
    lines = output(image.request("grep", "Sig", "/proc/self/status"), capfd).splitlines()
    ignored = {line.split()[0]: int(line.split()[1], 16) for line in lines if "SigQ" not in line}["SigIgn:"]
    # glibc keeps 32 and 33 for itself: whoever started the tests may ignore them, and nobody can set them back.
    assert ignored & ~(0b11 << 31) == 0
    assert {line.split()[0]: int(line.split()[1], 16) for line in lines if "SigQ" not in line}["SigBlk:"] == 0


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 0", 0), ("exit 42", 42), ("kill -TERM $$", 128 + signal.SIGTERM), ("kill -KILL $$", 128 + signal.SIGKILL)],
)
def test_exit_status(image: Image, script: str, status: int) -> None:
    assert run(image.request("sh", "-c", script)) == status


def script(rootfs: Path, content: bytes, mode: int = 0o755) -> None:
    (rootfs / "root/it").write_bytes(content)
    (rootfs / "root/it").chmod(mode)


@pytest.mark.parametrize(
    ("argv", "content", "mode", "status", "sentence"),
    [
        ("nope", b"", 0o755, 127, "command not found in the image: nope"),
        ("/nope", b"", 0o755, 127, "command not found in the image: /nope"),
        ("/root/it/x", b"", 0o755, 127, "command not found in the image: /root/it/x"),
        ("/root/it", b"#!/bin/sh\n", 0o644, 126, "/root/it in the image is not an executable file"),
        ("/root", b"", 0o755, 126, "/root in the image is not an executable file"),
        ("/root/it", b"#!/nope\n", 0o755, 127, "the interpreter or loader that it names is missing"),
        ("/root/it", b"\x7fELF\x02\x02\x01" + bytes(57), 0o755, 126, "a program for another kind of machine"),
    ],
)
def test_command_that_cannot_start(
    image: Image, argv: str, content: bytes, mode: int, status: int, sentence: str, capfd: Capture
) -> None:
    script(image.rootfs, content, mode)
    with pytest.raises(CommandNotStarted, match=sentence) as caught:
        run(image.request(argv))
    assert caught.value.exit_status == status
    assert capfd.readouterr().err == ""


def test_a_script_without_interpreter_is_the_shells(image: Image, capfd: Capture) -> None:
    script(image.rootfs, b"echo $1\n")
    assert output(image.request("/root/it", "word"), capfd) == "word\n"


def test_setup_that_fails_is_one_sentence(image: Image) -> None:
    with pytest.raises(CommandNotStarted, match=r"^cannot make the directory /sys/nope in the sandbox: Read-only") as caught:
        run(image.request("true", binds=(Bind(source=image.rootfs, target=PurePosixPath("/sys/nope")),)))
    assert caught.value.exit_status == 1


def test_orphans_are_reaped(image: Image) -> None:
    script = (
        "mkfifo /run/go; (sh -c 'echo $$ > /run/pid; read x < /run/go' &); until [ -s /run/pid ]; do :; done; "
        "pid=$(cat /run/pid); until grep -q 'PPid:.1$' /proc/$pid/status; do :; done; "
        "echo > /run/go; while [ -d /proc/$pid ]; do :; done"
    )
    done = subprocess.run(image.program("sh", "-c", script), timeout=20, check=False)
    assert done.returncode == 0


def test_what_runs_on_ends_with_the_command(image: Image) -> None:
    assert run(image.request("sh", "-c", "sleep 1000 & sleep 1000 &")) == 0
    assert image.processes() == []


def test_nobody_inside_can_signal_the_command_through_init(image: Image) -> None:
    assert run(image.request("sh", "-c", "kill -TERM 1; kill -KILL 1; exit 3")) == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT])
def test_signals_are_passed_on(image: Image, number: signal.Signals) -> None:
    script = f"trap 'echo got; exit 5' {number.value}; echo ready; while :; do read x; done"
    with subprocess.Popen(
        image.program("sh", "-c", script), stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.stdout.read() == b"got\n"
        assert process.wait(20) == 5


def test_an_ignored_hangup_stays_ignored(image: Image) -> None:
    old = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run(image.request("sh", "-c", "kill -HUP $$; exit 6")) == 6
    finally:
        signal.signal(signal.SIGHUP, old)


async def test_from_a_thread(image: Image) -> None:
    first, second = image, image.request("sh", "-c", "exit 8")
    assert await asyncio.to_thread(run, second) == 8
    assert first.processes() == []


IN_A_CHROOT = """
mount -t tmpfs stage "$1" && mkdir "$1/root" || exit 99
for place in /*; do
    if [ -L "$place" ]; then cp -a "$place" "$1/root/"
    elif [ -d "$place" ]; then mkdir -p "$1/root$place" && mount --rbind "$place" "$1/root$place"
    fi
done
stage=$1; shift
exec chroot "$stage/root" "$@"
"""


def test_in_a_chroot_whose_root_is_no_mount_point(image: Image, tmp_path: Path) -> None:
    (tmp_path / "stage").mkdir()
    before = image.snapshot()
    program = image.program("sh", "-c", "ls -d /*/; cat /etc/resolv.conf", binds=(f"{tmp_path}:/srv",))
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", IN_A_CHROOT, "sh", tmp_path / "stage", *program],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        done.stdout
        == "".join(f"/{name}/\n" for name in ("bin", "dev", "etc", "mnt", "proc", "root", "run", "srv", "sys", "tmp"))
        + Path("/etc/resolv.conf").read_text()
    )
    assert image.snapshot() == before


def test_a_second_command_is_refused(image: Image) -> None:
    with locks.exclusive(image.lock, holder="exec debian-12"), pytest.raises(locks.Locked, match="`exec debian-12`"):
        run(image.request("true"))
    with locks.exclusive(image.lock, holder="exec debian-12") as lock:
        assert sandbox.run_locked(image.request("true"), lock) == 0
    assert run(image.request("true")) == 0


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"rootfs": Path("/nowhere/rootfs")}, "the image's root '/nowhere/rootfs' is not a directory"),
        (
            {"binds": (Bind(source=Path("/nowhere"), target=PurePosixPath("/mnt")),)},
            "the bind source '/nowhere' does not exist",
        ),
        ({"binds": (Bind(source=Path("/"), target=PurePosixPath("/bin/sh")),)}, "a directory cannot be mounted on /bin/sh"),
        ({"argv": ()}, "no command to run"),
        ({"workdir": PurePosixPath("/nowhere")}, "cannot change to /nowhere in the image: No such file or directory"),
    ],
)
def test_requests_that_cannot_be_met(image: Image, fields: dict[str, object], sentence: str) -> None:
    before = image.snapshot()
    with pytest.raises(Error, match=sentence):
        run(image.request("true", **fields) if "argv" not in fields else image.request(**fields))
    assert image.snapshot() == before


def test_not_root(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Error, match="only root can run a command") as caught:
        run(image.request("true"))
    assert caught.value.hint == "use sudo"
    assert not image.lock.exists()
