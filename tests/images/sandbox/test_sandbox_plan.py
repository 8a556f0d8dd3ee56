from pathlib import Path, PurePosixPath

import pytest

from images.errors import Error
from images.sandbox.bind import Bind, BindMode, parse_bind
from images.sandbox.namespaces import Capability, MountFlag
from images.sandbox.operations import (
    BindMount,
    DropCapability,
    EnterRoot,
    Execute,
    LeaveHost,
    MakeDirectory,
    MakeFile,
    MakeMountPoint,
    Mount,
    Operation,
    SetHostname,
    to_wire,
)
from images.sandbox.plan import SandboxRequest, plan
from images.sandbox.view import SandboxView


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    for name in ("dev", "etc", "mnt", "proc", "run", "sys", "tmp"):
        (tmp_path / "rootfs" / name).mkdir(parents=True)
    (tmp_path / "rootfs/etc/resolv.conf").touch()
    return tmp_path / "rootfs"


def planned(rootfs: Path, *binds: Bind, readonly: bool = False, terminal: Path | None = None) -> list[Operation]:
    request = SandboxRequest(
        rootfs=rootfs, argv=("/bin/sh",), name="debian-12", lock=rootfs.parent / "lock", binds=binds, readonly=readonly
    )
    return plan(request, terminal=terminal)


@pytest.mark.parametrize(
    ("text", "bind"),
    [
        ("/home", Bind(source=Path("/home"), target=PurePosixPath("/home"))),
        ("/tmp:/mnt", Bind(source=Path("/tmp"), target=PurePosixPath("/mnt"))),
        ("/tmp:/mnt:ro", Bind(source=Path("/tmp"), target=PurePosixPath("/mnt"), mode=BindMode.RO)),
        ("/tmp:/mnt:rw", Bind(source=Path("/tmp"), target=PurePosixPath("/mnt"), mode=BindMode.RW)),
        ("/tmp:/mnt:copy", Bind(source=Path("/tmp"), target=PurePosixPath("/mnt"), mode=BindMode.COPY)),
        ("some/where:/mnt", Bind(source=Path.cwd() / "some/where", target=PurePosixPath("/mnt"))),
    ],
)
def test_parse_bind(text: str, bind: Bind) -> None:
    assert parse_bind(text) == bind


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "'' is not a bind"),
        (":/mnt", "':/mnt' is not a bind"),
        ("/a:", "'/a:' is not a bind"),
        ("/a:/b:ro:x", "'/a:/b:ro:x' is not a bind"),
        ("/a:b", "the target 'b' of the bind '/a:b' is not an absolute path"),
        ("/a:/b/../c", "the target '/b/../c' of the bind '/a:/b/../c' has a `..` in it"),
        ("/a:/", "the bind '/a:/' would hide the whole image"),
        ("/a:/b:cp", "'cp' in the bind '/a:/b:cp' is not a mode"),
    ],
)
def test_parse_bind_refuses(text: str, sentence: str) -> None:
    with pytest.raises(Error) as caught:
        parse_bind(text)
    assert caught.value.message == sentence
    assert caught.value.hint is not None


def test_the_frame_of_every_plan(rootfs: Path) -> None:
    operations = planned(rootfs)
    assert operations[:2] == [
        SetHostname(name="debian-12"),
        EnterRoot(rootfs=str(rootfs), readonly=False, extra=()),
    ]
    assert operations[2] == Mount(fstype="proc", target="/proc", flags=MountFlag.NO_SUID | MountFlag.NO_DEV | MountFlag.NO_EXEC)
    assert operations[-4:-1] == [
        LeaveHost(),
        DropCapability(capability=Capability.SYS_MODULE),
        DropCapability(capability=Capability.SYS_TIME),
    ]
    command = operations[-1]
    assert isinstance(command, Execute)
    assert (command.argv, command.workdir) == (("/bin/sh",), "/")
    assert command.environment["PS1"] == "[debian-12] Warewulf> "


def test_a_missing_target_becomes_a_mount_point_of_the_image(rootfs: Path) -> None:
    operations = planned(rootfs, Bind(source=Path("/usr"), target=PurePosixPath("/a/b/c")))
    assert operations[0] == MakeMountPoint(path="a/b/c", directory=True)
    assert BindMount(source="/usr", target="/a/b/c") in operations


def test_in_a_read_only_image_it_is_shown_by_the_overlay(rootfs: Path) -> None:
    operations = planned(rootfs, Bind(source=Path("/usr"), target=PurePosixPath("/a/b/c")), readonly=True)
    assert not [step for step in operations if isinstance(step, MakeMountPoint)]
    assert EnterRoot(rootfs=str(rootfs), readonly=True, extra=(("a/b/c", True, ""),)) in operations


def test_a_missing_target_below_a_fresh_file_system_is_made_there(rootfs: Path) -> None:
    operations = planned(rootfs, Bind(source=Path("/usr"), target=PurePosixPath("/run/a/b")))
    assert not [step for step in operations if isinstance(step, MakeMountPoint)]
    place = operations.index(BindMount(source="/usr", target="/run/a/b"))
    assert operations[place - 2 : place] == [MakeDirectory(path="/run/a"), MakeDirectory(path="/run/a/b")]


def test_a_missing_target_below_a_bind_is_the_hosts_to_create(rootfs: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    binds = (
        Bind(source=tmp_path / "home", target=PurePosixPath("/home")),
        Bind(source=Path("/usr"), target=PurePosixPath("/home/new/usr")),
    )
    with pytest.raises(Error, match="/home/new/usr does not exist in what is bound to /home") as caught:
        planned(rootfs, *binds)
    assert caught.value.hint == f"create {tmp_path}/home/new/usr first"
    (tmp_path / "home/new/usr").mkdir(parents=True)
    assert planned(rootfs, *binds)[-5] == BindMount(source="/usr", target="/home/new/usr")


def test_a_second_bind_may_go_into_the_mount_point_of_the_first(rootfs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    binds = (
        Bind(source=tmp_path / "file", target=PurePosixPath("/a/one")),
        Bind(source=tmp_path / "file", target=PurePosixPath("/a/two")),
    )
    assert planned(rootfs, *binds)[:2] == [
        MakeMountPoint(path="a/one", directory=False),
        MakeMountPoint(path="a/two", directory=False),
    ]


def test_the_terminal_is_the_console(rootfs: Path) -> None:
    operations = planned(rootfs, terminal=Path("/dev/zero"))
    place = operations.index(BindMount(source="/dev/zero", target="/dev/console"))
    assert operations[place - 1] == MakeFile(path="/dev/console")
    assert BindMount(source="/dev/zero", target="/dev/console") not in planned(rootfs)


def test_on_the_wire_an_operation_is_its_name_and_fields() -> None:
    assert to_wire(MakeMountPoint(path="a", directory=True)) == (
        "MakeMountPoint",
        {"path": "a", "directory": True, "source": ""},
    )


@pytest.mark.parametrize(
    ("path", "resolved", "exists"),
    [
        ("/etc/resolv.conf", "/etc/resolv.conf", True),
        ("/absolute/resolv.conf", "/etc/resolv.conf", True),
        ("/etc/relative", "/mnt", True),
        ("/above", "/etc", True),
        ("/dangling/x", "/gone/away/x", False),
        ("/mnt/none", "/mnt/none", False),
        ("/", "/", True),
    ],
)
def test_links_stay_in_the_image(rootfs: Path, path: str, resolved: str, exists: bool) -> None:
    (rootfs / "absolute").symlink_to("/etc")
    (rootfs / "etc/relative").symlink_to("../mnt/./")
    (rootfs / "above").symlink_to("../../../etc")
    (rootfs / "dangling").symlink_to("/gone/here/../away")
    found = SandboxView(rootfs).locate(PurePosixPath(path))
    assert (str(found.path), found.exists) == (resolved, exists)


def test_links_that_lead_nowhere(rootfs: Path) -> None:
    (rootfs / "loop").symlink_to("loop")
    with pytest.raises(Error, match="more than 40 symbolic links"):
        SandboxView(rootfs).locate(PurePosixPath("/loop/x"))
    with pytest.raises(Error, match=r"/etc/resolv.conf in the image is not a directory"):
        SandboxView(rootfs).locate(PurePosixPath("/etc/resolv.conf/x"))


def test_what_is_mounted_hides_what_was_there(rootfs: Path, tmp_path: Path) -> None:
    (tmp_path / "source/inner").mkdir(parents=True)
    (tmp_path / "source/link").symlink_to("/etc")
    view = SandboxView(rootfs)
    view.mount(PurePosixPath("/mnt"), tmp_path / "source")
    assert view.locate(PurePosixPath("/mnt/inner")).backing == tmp_path / "source/inner"
    assert view.locate(PurePosixPath("/mnt/link")).path == PurePosixPath("/etc")
    view.mount(PurePosixPath("/mnt"), None)
    assert not view.locate(PurePosixPath("/mnt/inner")).exists
    view.make(PurePosixPath("/mnt/inner/deep"), directory=False)
    assert view.locate(PurePosixPath("/mnt/inner")).is_directory
    assert view.locate(PurePosixPath("/mnt/inner/deep")).exists
