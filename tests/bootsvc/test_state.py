"""The state database: group commits, restarts, kill -9, and failures that reach who waits."""

import asyncio
import contextlib
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from msgspec.structs import replace

from bootsvc import state as state_module
from bootsvc.database import LastEvent, look_at
from bootsvc.dhcp.leases import Lease, LeaseState
from bootsvc.errors import BadState
from bootsvc.state import State

A, B = "52:54:00:00:00:0a", "52:54:00:00:00:0b"


def lease(number: int, hwaddr: str = A, expires: float = 100.5, state: LeaseState = LeaseState.BOUND) -> Lease:
    return Lease(address=IPv4Address(f"10.0.0.{number}"), hwaddr=hwaddr, expires=expires, state=state)


def saving(state: State, lease: Lease) -> "asyncio.Future[None]":
    """Done after the commit that holds the lease; it carries BadState when the commit failed."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    state.write_lease(lease, lambda failure: future.set_exception(failure) if failure else future.set_result(None))
    return future


async def test_leases_survive(tmp_path: Path) -> None:
    state = State.open(tmp_path / "deep" / "state.db")
    assert state.load_leases() == []
    await saving(state, lease(1))
    await saving(state, lease(2, B))
    await saving(state, lease(1, expires=200.0))
    await saving(state, lease(2, B, state=LeaseState.DECLINED))
    state.close()
    state = State.open(tmp_path / "deep" / "state.db")
    assert state.load_leases() == [lease(2, B, state=LeaseState.DECLINED), lease(1, expires=200.0)]
    state.close()
    assert (tmp_path / "deep" / "state.db").stat().st_mode & 0o777 == 0o600


async def test_how_long_a_lease_is_lent_survives_and_a_database_without_that_is_read(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    state = State.open(path)
    await saving(state, replace(lease(1), seconds=600.0))
    state.close()
    state = State.open(path)
    assert state.load_leases() == [replace(lease(1), seconds=600.0)]
    state.close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE leases DROP COLUMN seconds")
    look_at(path)
    state = State.open(path)
    assert state.load_leases() == [lease(1)]
    await saving(state, replace(lease(2), seconds=60.0))
    state.close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        # As an earlier version writes.
        connection.execute("INSERT INTO leases (address, hwaddr, expires, state) VALUES ('10.0.0.3', 'x', 300.0, 'bound')")
        connection.commit()
    state = State.open(path)
    assert {str(each.address): each.seconds for each in state.load_leases()} == {
        "10.0.0.1": None,
        "10.0.0.2": 60.0,
        "10.0.0.3": None,
    }
    state.close()


async def test_many_writers_share_commits(tmp_path: Path) -> None:
    state = State.open(tmp_path / "state.db")
    statements: list[str] = []
    assert state._connection is not None
    state._connection.set_trace_callback(statements.append)
    futures = [saving(state, lease(number % 250, f"hw{number}")) for number in range(2000)]
    async with asyncio.timeout(30):
        for future in futures:
            await future
    state.close()
    assert statements.count("COMMIT") < 500


async def test_events_wait_for_each_other_and_hold_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "EVENT_SECONDS", 3600.0)
    state = State.open(tmp_path / "state.db")
    statements: list[str] = []
    assert state._connection is not None
    state._connection.set_trace_callback(statements.append)
    for number in range(1000):
        state.save_event(f"hw{number}", None, "ipxe", "x", number, float(number))
        await asyncio.sleep(0)
    assert statements == []
    async with asyncio.timeout(30):
        await saving(state, lease(1))
    assert statements.count("COMMIT") == 1
    state.save_event(A, "n1", "ipxe", "x", 0, 2000.0)
    state.close()
    with sqlite3.connect(tmp_path / "state.db") as reader:
        events = reader.execute("SELECT hwaddr, bytes FROM events ORDER BY id").fetchall()
        assert events == [*((f"hw{number}", number) for number in range(1000)), (A, 0)]
        assert reader.execute("SELECT count(*) FROM machines").fetchone() == (1001,)
    reader.close()


async def test_the_loop_goes_on_while_the_disk_waits(tmp_path: Path) -> None:
    """Another process holds the write lock; the loop turns, and the future is done when the lock is gone."""
    state = State.open(tmp_path / "state.db")
    blocker = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    future = saving(state, lease(1))
    for _ in range(100):
        await asyncio.sleep(0)
    assert not future.done()
    blocker.execute("ROLLBACK")
    blocker.close()
    async with asyncio.timeout(20):
        await future
    state.close()


async def test_a_failed_commit_reaches_who_waits_and_the_next_works(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    path = tmp_path / "state.db"
    state = State.open(path)
    other = sqlite3.connect(path)
    other.execute("CREATE TRIGGER full BEFORE INSERT ON leases BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    other.commit()
    with pytest.raises(BadState, match="disk full"):
        await saving(state, lease(1))
    with pytest.raises(BadState, match="disk full"):
        await saving(state, lease(1))
    other.execute("DROP TRIGGER full")
    other.commit()
    other.close()
    await saving(state, lease(2))
    state.close()
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"], "said once, not for every packet"
    assert "disk full" in caplog.records[0].getMessage()
    state = State.open(path)
    assert state.load_leases() == [lease(2)]
    state.close()


async def test_last_events(tmp_path: Path) -> None:
    state = State.open(tmp_path / "state.db")
    state.save_event(A, "n1", "DHCP ACK", "snponly.efi", 0, 1.0, ipaddr=IPv4Address("10.0.0.1"))
    state.save_event(B, None, "DHCP OFFER", "", 0, 2.0)
    state.save_event(A, None, "TFTP", "snponly.efi", 173792, 3.0)
    expected = [
        LastEvent(hwaddr=B, node=None, stage="DHCP OFFER", detail="", bytes=0, when=2.0),
        LastEvent(
            hwaddr=A,
            node="n1",
            stage="TFTP",
            detail="snponly.efi",
            bytes=173792,
            when=3.0,
            ipaddr=IPv4Address("10.0.0.1"),
        ),
    ]
    assert list(state.last_events().values()) == expected
    state.close()
    state = State.open(tmp_path / "state.db")
    assert list(state.last_events().values()) == expected
    state.close()


async def test_what_was_given_is_on_disk_when_it_is_said_to_be(tmp_path: Path) -> None:
    state = State.open(tmp_path / "state.db")
    for number in range(500):
        state.save_event(f"hw{number}", "n1", "up", "", 0, float(number))
    async with asyncio.timeout(30):
        await state.written()
    reader = sqlite3.connect(tmp_path / "state.db")
    assert reader.execute("SELECT count(*) FROM machines WHERE stage = 'up'").fetchone() == (500,)
    reader.execute("CREATE TRIGGER full BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    state.save_event("hw", "n1", "up", "", 0, 1.0)
    with pytest.raises(BadState, match="disk full"):
        await state.written()
    reader.close()
    state.close()


async def test_machines_and_events_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "MAX_MACHINES", 3)
    monkeypatch.setattr(state_module, "MAX_EVENTS", 10)
    monkeypatch.setattr(state_module, "_PRUNE_EVERY", 5)
    state = State.open(tmp_path / "state.db")
    for number in range(50):
        state.save_event(f"hw{number}", None, "DHCP OFFER", "", 0, float(number))
    assert list(state.last_events()) == ["hw47", "hw48", "hw49"]
    state.close()
    reader = sqlite3.connect(tmp_path / "state.db")
    assert reader.execute("SELECT count(*) FROM machines").fetchone() == (3,)
    assert reader.execute("SELECT count(*) FROM events").fetchone() == (10,)
    reader.close()


CHILD = """
import asyncio, sys
from ipaddress import IPv4Address
from pathlib import Path
from bootsvc.dhcp.leases import Lease
from bootsvc.state import State
async def main():
    state = State.open(Path(sys.argv[1]))
    number = 0
    while True:
        number += 1
        done = asyncio.get_running_loop().create_future()
        state.write_lease(Lease(address=IPv4Address(number), hwaddr=f"hw{number}", expires=number), done.set_result)
        assert await done is None
        print(number, flush=True)
asyncio.run(main())
"""


def test_what_was_promised_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    promised = 0
    deadline = time.monotonic() + 30
    while promised < 50 and time.monotonic() < deadline:
        promised = int(child.stdout.readline())
    child.kill()
    rest, _ = child.communicate()
    promised = int(rest.split("\n")[-2]) if rest.count("\n") else promised
    state = State.open(path)
    saved = {int(each.address) for each in state.load_leases()}
    state.close()
    assert promised >= 50
    assert set(range(1, promised + 1)) <= saved


@pytest.mark.parametrize("content", [b"this is no database" * 100, None])
def test_unusable(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "state.db"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(BadState, match=r"cannot use the state database .*state\.db") as caught:
        State.open(path)
    assert caught.value.hint


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    State.open(path).close()
    other = sqlite3.connect(path)
    other.execute("PRAGMA user_version = 99")
    other.close()
    with pytest.raises(BadState, match="schema 99 is of a newer bootsvc"):
        State.open(path)


async def test_a_disk_that_hangs_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(state_module, "MAX_QUEUED", 10)
    state = State.open(tmp_path / "state.db")
    blocker = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    for number in range(500):
        state.save_event(f"hw{number}", None, "ipxe", "x", 0, float(number))
    assert len(state.last_events()) == 500, "memory knows them all the same"
    assert len(state._waiting) <= 10
    # The writer takes what is queued once before it is held up, and may do so after the queue was full.
    assert [record.levelname for record in caplog.records] in (["ERROR"], ["ERROR", "ERROR"])
    blocker.execute("ROLLBACK")
    await saving(state, lease(1))
    state.close()


def test_look_at(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    look_at(path)
    assert not path.exists()
    State.open(path).close()
    before = path.read_bytes()
    look_at(path)
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (before, [path])
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(BadState, match="its schema 99 is of a newer bootsvc"):
        look_at(path)
    path.write_bytes(before[: len(before) // 2])
    with pytest.raises(BadState, match="malformed"):
        look_at(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(BadState, match="it is no file"):
        look_at(path)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Down to the last page."""
    with (folder / "fill").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    assert os.statvfs(folder).f_bavail == 0


LEASE = Lease(address=IPv4Address("10.0.0.9"), hwaddr="52:54:00:00:00:09", expires=5.0)
KILLED = """
import asyncio, os, sys
from ipaddress import IPv4Address
from pathlib import Path
from bootsvc.dhcp.leases import Lease
from bootsvc.state import State
async def main():
    state = State.open(Path(sys.argv[1]))
    state.write_lease(Lease(address=IPv4Address("10.0.0.9"), hwaddr="52:54:00:00:00:09", expires=5.0), lambda _: None)
    await state.written()
    os._exit(0)
asyncio.run(main())
"""


@pytest.mark.root
@pytest.mark.parametrize("before", ["nothing", "stopped", "killed"])
async def test_a_full_disk_keeps_nobody_from_starting(
    small: Path, before: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bootsvc.state.RETRY_SECONDS", 0.0)
    caplog.set_level("INFO")
    path = small / "state.db"
    if before != "nothing":
        await asyncio.to_thread(subprocess.run, [sys.executable, "-c", KILLED, str(path)], check=True)
        assert path.with_name("state.db-wal").stat().st_size, "what was written last lies beside the database"
    if before == "stopped":
        State.open(path).close()
        assert not path.with_name("state.db-wal").exists()
    path.with_name("state.db-shm").unlink(missing_ok=True)
    fill(small)
    with pytest.raises(BadState, match="its file system is full") as caught:
        look_at(path)
    assert (caught.value.hint, caught.value.no_room) == ("make room on its file system", True)
    state = State.open(path)
    try:
        assert state.load_leases() == ([] if before == "nothing" else [LEASE])
        assert "machines without a reservation get no address until it can be written again (make room" in caplog.text
        for _ in range(2):
            with pytest.raises(BadState, match="cannot use the state database"):
                await saving(state, replace(LEASE, hwaddr="52:54:00:00:00:0a"))
        assert caplog.text.count("machines without a reservation") == 1, "said once"
        state.save_event("52:54:00:00:00:01", "n1", "up", "", 0, 7.0)
        assert state.last_events().keys() == {"52:54:00:00:00:01"}, "boots go on in memory"
        (small / "fill").unlink()
        await saving(state, replace(LEASE, address=IPv4Address("10.0.0.10"), hwaddr="52:54:00:00:00:0a"))
        assert "is written again" in caplog.text
    finally:
        state.close()
    again = State.open(path)
    try:
        assert {str(lease.address) for lease in again.load_leases()} == (
            {"10.0.0.10"} | ({"10.0.0.9"} if before != "nothing" else set())
        )
    finally:
        again.close()


@pytest.mark.root
def test_a_damaged_database_on_a_full_disk_is_not_worked_without(small: Path) -> None:
    """Its leases are somebody's: whoever forgets them gives their addresses away."""
    path = small / "state.db"
    path.write_bytes(b"no database " * 100)
    fill(small)
    with pytest.raises(BadState, match="not a database"):
        State.open(path)
