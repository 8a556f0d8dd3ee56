"""Views of an image that leave it as it is: copies of files, and entries shown on top of it."""

import os
import stat
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest
from sandboxed import Image

from images.errors import Error
from images.sandbox.bind import Bind, BindMode
from images.sandbox.operations import TopEntry
from images.sandbox.run import SandboxRequest, run

pytestmark = pytest.mark.root

Capture = pytest.CaptureFixture[str]


def output(request: SandboxRequest, capfd: Capture) -> str:
    status = run(request)
    captured = capfd.readouterr()
    assert (status, captured.err) == (0, "")
    return captured.out


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    source = tmp_path / "credentials"
    source.write_text("secret\n")
    source.chmod(0o600)
    return source


def copy_of(source: Path, target: str) -> tuple[Bind, ...]:
    return (Bind(source=source, target=PurePosixPath(target), mode=BindMode.COPY),)


@pytest.mark.parametrize("target", ["/etc/credentials", "/opt/a/credentials", "/run/credentials"])
@pytest.mark.parametrize("view", [{}, {"readonly": True}, {"on_top": ()}], ids=["image", "read-only", "on top"])
def test_a_copy_is_there_for_the_run(
    image: Image, credentials: Path, capfd: Capture, target: str, view: dict[str, object]
) -> None:
    before = image.snapshot()
    request = image.request("sh", "-c", f"cat {target}; stat -c %a {target}", binds=copy_of(credentials, target), **view)
    assert output(request, capfd) == "secret\n600\n"
    assert image.snapshot() == before


def test_a_copy_that_the_command_changes_stays_in_the_image(image: Image, credentials: Path) -> None:
    request = image.request("sh", "-c", "echo more >> /etc/credentials", binds=copy_of(credentials, "/etc/credentials"))
    assert run(request) == 0
    assert (image.rootfs / "etc/credentials").read_text() == "secret\nmore\n"
    assert credentials.read_text() == "secret\n"


@pytest.mark.parametrize("view", [{"readonly": True}, {"on_top": ()}], ids=["read-only", "on top"])
def test_a_changed_copy_does_not_reach_an_image_that_must_stay(
    image: Image, credentials: Path, capfd: Capture, view: dict[str, object]
) -> None:
    before = image.snapshot()
    script = "echo more >> /etc/credentials; cat /etc/credentials"
    assert output(image.request("sh", "-c", script, binds=copy_of(credentials, "/etc/credentials"), **view), capfd) == (
        "secret\nmore\n"
    )
    assert image.snapshot() == before
    assert credentials.read_text() == "secret\n"


def test_the_images_own_file_is_not_replaced_by_a_copy(image: Image, credentials: Path, capfd: Capture) -> None:
    (image.rootfs / "etc/credentials").write_text("the image's\n")
    before = image.snapshot()
    request = image.request("cat", "/etc/credentials", binds=copy_of(credentials, "/etc/credentials"))
    assert output(request, capfd) == "the image's\n"
    assert image.snapshot() == before


def test_what_cannot_be_copied(image: Image, credentials: Path, tmp_path: Path) -> None:
    before = image.snapshot()
    with pytest.raises(Error, match="for it is not a file") as caught:
        run(image.request("true", binds=copy_of(tmp_path, "/mnt/x")))
    assert caught.value.hint == "bind it with `ro` instead"
    with pytest.raises(Error, match="a file cannot be mounted on /mnt, which is a directory"):
        run(image.request("true", binds=copy_of(credentials, "/mnt")))
    assert image.snapshot() == before


def file(path: str, content: str, mode: int = 0o644, **rest: int) -> TopEntry:
    return TopEntry(path=path, mode=stat.S_IFREG | mode, content=content, **({"uid": 0, "gid": 0, "mtime": 7} | rest))


def folder(path: str, mode: int = 0o755) -> TopEntry:
    return TopEntry(path=path, mode=stat.S_IFDIR | mode, uid=3, gid=4, mtime=9)


def test_what_is_on_top_hides_the_images_own(image: Image, capfd: Capture) -> None:
    (image.rootfs / "etc/motd").write_text("the image's\n")
    (image.rootfs / "etc/keep").write_text("kept\n")
    os.chown(image.rootfs / "etc", 11, 12)
    (image.rootfs / "etc").chmod(0o751)
    before = image.snapshot()
    on_top = (
        file("etc/motd", "the node's\n", 0o600, uid=5, gid=6),
        file("srv/deep/umlaut", "\xe4\n"),
        folder("var/own", 0o700),
        TopEntry(path="etc/link", mode=stat.S_IFLNK | 0o777, uid=0, gid=0, mtime=7, content="motd"),
    )
    script = (
        "cat /etc/motd /etc/link /etc/keep /srv/deep/umlaut; "
        "stat -c '%n %a %u:%g %Y' /etc/motd /var/own; stat -c '%n %a %u:%g' / /etc /var /srv/deep"
    )
    capfd.readouterr()
    assert run(image.request("sh", "-c", script, on_top=on_top)) == 0
    root = (image.rootfs).stat()
    assert capfd.readouterr().out.splitlines() == [
        *("the node's", "the node's", "kept", "\ufffd"),
        *("/etc/motd 600 5:6 7", "/var/own 700 3:4 9"),
        f"/ {stat.S_IMODE(root.st_mode):o} 0:0",
        *("/etc 751 11:12", "/var 755 0:0", "/srv/deep 755 0:0"),
    ]
    assert image.snapshot() == before


def test_what_is_written_below_what_is_on_top_is_thrown_away(image: Image, capfd: Capture) -> None:
    (image.rootfs / "etc/motd").write_text("the image's\n")
    before = image.snapshot()
    script = "echo new > /root/x; echo more >> /etc/motd; echo y > /mnt/y; cat /etc/motd /root/x; mv /bin/tty /bin/moved"
    request = image.request("sh", "-c", script, on_top=(file("etc/hostname", "n1\n"),))
    assert output(request, capfd) == "the image's\nmore\nnew\n"
    assert image.snapshot() == before


def test_a_resolv_conf_on_top_is_shown(image: Image, capfd: Capture) -> None:
    request = image.request("cat", "/etc/resolv.conf", on_top=(file("etc/resolv.conf", "nameserver 192.0.2.9\n"),))
    assert output(request, capfd) == "nameserver 192.0.2.9\n"
    assert output(image.request("cat", "/etc/resolv.conf", on_top=()), capfd) == Path("/etc/resolv.conf").read_text()


def test_binds_lie_above_what_is_on_top(image: Image, tmp_path: Path, capfd: Capture) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/x").write_text("bound\n")
    before = image.snapshot()
    binds = (Bind(source=tmp_path / "shared", target=PurePosixPath("/a/b")),)
    request = image.request("sh", "-c", "cat /a/b/x /a/own", binds=binds, on_top=(file("a/own", "own\n"),))
    assert output(request, capfd) == "bound\nown\n"
    assert image.snapshot() == before


def test_the_prompt_is_the_callers_choice(image: Image, capfd: Capture) -> None:
    lines = output(image.request("env", prompt=r"[warewulf:x] \w\$ "), capfd).splitlines()
    assert {r"PS1=[warewulf:x] \w\$ ", r"PROMPT_COMMAND=PS1='[warewulf:x] \w\$ '"} <= set(lines)


def test_on_top_of_an_image_whose_name_overlayfs_would_misread(
    image: Image, tmp_path: Path, capfd: Capture, add_program: Callable[[str, str], None]
) -> None:
    odd = tmp_path / "a:b,c=d\\e"
    image.rootfs.rename(odd)
    request = image.request("cat", "/etc/x", on_top=(file("etc/x", "here\n"),))
    try:
        assert output(
            type(request)(**{name: getattr(request, name) for name in request.__slots__} | {"rootfs": odd}), capfd
        ) == ("here\n")
    finally:
        odd.rename(image.rootfs)
