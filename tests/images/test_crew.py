"""The processes that read layers: what they tell, how they fail, and that they never outlive who started them."""

import asyncio
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import oci_image as oci
import pytest

from images.crew import Crew, MalformedBlob, WorkerDied
from images.errors import Error
from images.layer_reader import Job, decode
from images.layers import Layer, Link, Move, Operation, Put, Whiteout
from images.progress import Event, LayerAdvanced
from images.rootfs import UnsafePath
from images.source.unpacking import unpack_layers

pytestmark = pytest.mark.root

DOOMED = """\
import asyncio, os, signal, sys
from pathlib import Path
from images.crew import Crew
from images.layer_reader import Job

async def main():
    with Crew(Path(sys.argv[1]), 2) as crew:
        crew.give(Job(number=0, path=sys.argv[2].encode(), algorithm="sha256"))
        async for _ in crew.batches(0):
            break
        print(*(worker.pid for worker in crew._workers), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@pytest.fixture
def large(tmp_path: Path) -> Layer:
    """More than anybody reads before something has happened."""
    data = oci.layer([oci.Member(f"f{number}", bytes(1 << 20)) for number in range(200)])
    (tmp_path / "blob").write_bytes(data)
    (tmp_path / "stage/root").mkdir(parents=True)
    return Layer(digest=oci.digest(data), diff_id=oci.digest(data), path=tmp_path / "blob")


def _children() -> set[int]:
    return {int(pid) for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()}


async def _operations(crew: Crew, number: int) -> list[list[Operation]]:
    return [decode(data).operations async for data in crew.batches(number)]


async def test_tells_what_is_left_to_do(tmp_path: Path) -> None:
    members = [oci.directory("d"), oci.Member("d/f", b"text", mode=0o4755), oci.hardlink("l", "d/f"), oci.Member("d/.wh.x")]
    (tmp_path / "blob").write_bytes(data := oci.layer(members))
    with Crew(tmp_path / "root", 1) as crew:
        crew.give(Job(number=7, path=os.fsencode(tmp_path / "blob"), algorithm="sha256"))
        (operations,) = await _operations(crew, 7)
        assert [type(operation) for operation in operations] == [Put, Move, Link, Whiteout]
        move = operations[1]
        assert isinstance(move, Move)
        staged = Path(f"/proc/self/fd/{crew.contents}") / os.fsdecode(move.staged)
        assert staged.read_bytes() == b"text"
        assert staged.stat().st_mode & 0o7777 == 0o4755
        assert crew.digest(7) == oci.digest(data)
    assert os.listdir(tmp_path) == ["blob"]


async def test_large_attributes_come_in_small_batches(tmp_path: Path) -> None:
    members = [oci.Member(f"d{number}", type=b"5", xattrs={"user.x": "x" * 50_000}) for number in range(40)]
    (tmp_path / "blob").write_bytes(oci.layer(members))
    with Crew(tmp_path / "root", 1) as crew:
        crew.give(Job(number=0, path=os.fsencode(tmp_path / "blob"), algorithm=None))
        batches = await _operations(crew, 0)
    assert sum(map(len, batches)) == 40
    assert max(map(len, batches)) < 8


async def test_one_broken_blob_does_not_hurt_another(tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(b"no tar" * 1000)
    (tmp_path / "good").write_bytes(oci.layer([oci.Member("f")]))
    with Crew(tmp_path / "root", 1) as crew:
        for number, name in enumerate(("bad", "missing", "good")):
            crew.give(Job(number=number, path=os.fsencode(tmp_path / name), algorithm=None))
        assert len(await _operations(crew, 2)) == 1
        with pytest.raises(FileNotFoundError, match="missing"):
            await _operations(crew, 1)
        with pytest.raises(MalformedBlob, match="no header"):
            await _operations(crew, 0)


@pytest.mark.parametrize(
    ("name", "error"), [("n" * 900_000, UnsafePath), ("\N{SNOWMAN}" * 300_000, UnsafePath), ("n/" * 400_000 + "..", UnsafePath)]
)
async def test_an_error_about_a_huge_name_arrives(tmp_path: Path, name: str, error: type[Error]) -> None:
    (tmp_path / "blob").write_bytes(oci.layer([oci.Member("before"), oci.Member(name)]))
    with Crew(tmp_path / "root", 1) as crew:
        crew.give(Job(number=0, path=os.fsencode(tmp_path / "blob"), algorithm=None))
        with pytest.raises(error) as caught:
            await _operations(crew, 0)
    assert len(caught.value.message) < 1000


async def test_a_name_that_is_no_text_can_hold_a_blob(tmp_path: Path) -> None:
    place = os.fsencode(tmp_path) + b"/blob-\xff"
    Path(os.fsdecode(place)).write_bytes(oci.layer([oci.Member("f")]))
    with Crew(tmp_path / "root", 1) as crew:
        crew.give(Job(number=0, path=place, algorithm=None))
        assert len(await _operations(crew, 0)) == 1


async def test_more_jobs_than_a_socket_holds(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(oci.layer([oci.Member("f")]))
    with Crew(tmp_path / "root", 2) as crew:
        for number in range(1000):
            crew.give(Job(number=number, path=os.fsencode(tmp_path / "blob"), algorithm=None))
        for number in (999, 0, 500):
            assert len(await _operations(crew, number)) == 1


async def test_ends_when_cancelled_and_leaves_no_process(large: Layer, tmp_path: Path) -> None:
    advanced, before = asyncio.Event(), _children()

    def progress(event: Event) -> None:
        if isinstance(event, LayerAdvanced):
            advanced.set()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(unpack_layers([large, large], tmp_path / "stage/root", progress))
        await advanced.wait()
        assert _children() - before
        task.cancel()
    assert task.cancelled()
    assert _children() == before
    assert os.listdir(tmp_path / "stage") == ["root"]


async def test_a_worker_that_is_killed_is_an_error(large: Layer, tmp_path: Path) -> None:
    # What other tests started, such as a registry, is none of ours.
    before = _children()

    def progress(event: Event) -> None:
        for pid in _children() - before if isinstance(event, LayerAdvanced) else ():
            os.kill(pid, signal.SIGKILL)

    with pytest.raises(WorkerDied):
        await unpack_layers([large], tmp_path / "stage/root", progress)
    assert _children() == before
    assert os.listdir(tmp_path / "stage") == ["root"]


def test_workers_end_with_a_parent_that_is_killed(large: Layer, tmp_path: Path) -> None:
    command = [sys.executable, "-c", DOOMED, str(tmp_path / "stage/root"), str(large.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as doomed:
        assert doomed.stdout is not None
        # Its workers hold no end of this pipe for longer than they live.
        pids = [int(pid) for pid in doomed.stdout.read().split()]
    assert doomed.returncode == -signal.SIGKILL
    assert pids
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        with os.fdopen(descriptor) as process:
            assert select.select([process], [], [], 20)[0], f"worker {pid} is still there"
