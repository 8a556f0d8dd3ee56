"""What survives a restart: leases and boot events, in one SQLite database (WAL) with a writer thread that commits in groups.

Everything is answered from memory; the event loop never waits for the disk.
"""

import asyncio
import contextlib
import errno
import logging
import os
import queue
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import NamedTuple

import msgspec

from bootsvc.dhcp.leases import MAX_LEASES, Lease, LeaseState
from bootsvc.errors import BadState, access_hint

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
MAX_MACHINES = 65536
"""Machines whose last event is kept, and MAX_LEASES of theirs: a flood of hardware addresses displaces the oldest."""
MAX_EVENTS = 500_000
"""Rows of the events table; the oldest go."""
MAX_QUEUED = 100_000
"""Writes that wait for a disk that hangs; events beyond are not kept there, so that memory stays flat."""
MAX_BATCH = 4096
"""Writes of one commit."""
GATHER_SECONDS = 0.004
"""How long a commit waits for company when the last one had some: fewer commits, where the load is high."""
_COMPANY = 1
_PRUNE_EVERY = 10_000
LEAST_ROOM = 1 << 20
"""Bytes that must be free on the file system."""
_ROOM_HINT = "make room on its file system"
RETRY_SECONDS = 10.0
"""How often a database that could not be opened is tried again."""
WITHOUT_LEASES = "machines without a reservation get no address until it can be written again"
_PERHAPS_NO_ROOM = frozenset(
    (
        *(sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMOPEN),
        *(sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_SHMMAP, sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_TRUNCATE),
    )
)

_SCHEMA = """
CREATE TABLE leases (
    address TEXT PRIMARY KEY, hwaddr TEXT NOT NULL, expires REAL NOT NULL, state TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE events (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, hwaddr TEXT NOT NULL, node TEXT, stage TEXT NOT NULL, detail TEXT NOT NULL,
    bytes INTEGER NOT NULL, ipaddr TEXT
);
CREATE TABLE machines (
    hwaddr TEXT PRIMARY KEY, at REAL NOT NULL, node TEXT, stage TEXT NOT NULL, detail TEXT NOT NULL, bytes INTEGER NOT NULL,
    ipaddr TEXT
) WITHOUT ROWID;
"""


# One statement for all rows of a commit: the interpreter's lock is free while it runs, and packets are answered meanwhile.
_ROWS = ", ".join(f"json_extract(value, '$[{column}]')" for column in range(7))
_LEASE_ROWS = ", ".join(f"json_extract(value, '$[{column}]')" for column in range(4))
_PUT_LEASES = f"INSERT OR REPLACE INTO leases SELECT {_LEASE_ROWS} FROM json_each(?)"
_ADD_EVENTS = f"INSERT INTO events (at, hwaddr, node, stage, detail, bytes, ipaddr) SELECT {_ROWS} FROM json_each(?)"
_PUT_MACHINES = (
    f"INSERT OR REPLACE INTO machines (at, hwaddr, node, stage, detail, bytes, ipaddr) SELECT {_ROWS} FROM json_each(?)"
)
_FORGET_MACHINES = "DELETE FROM machines WHERE hwaddr IN (SELECT value FROM json_each(?))"
_PRUNE_EVENTS = "DELETE FROM events WHERE id <= (SELECT max(id) FROM events) - ?"


class LastEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What was last heard of a machine; `when` in seconds since the epoch, `bytes` sent to it at that stage."""

    hwaddr: str
    node: str | None
    stage: str
    detail: str
    bytes: int
    when: float
    ipaddr: IPv4Address | None = None
    """The last address known, also from an earlier event."""


Saved = Callable[[BadState | None], None]
"""Told in the event loop that a lease is on disk, or why it is not."""


# An enum's `value`, and an IPv4Address as text, take longer than the rest of a row.
_STATES = {state: state.value for state in LeaseState}


def dotted(address: IPv4Address) -> str:
    return socket.inet_ntoa(int(address).to_bytes(4, "big"))


class _Write(NamedTuple):
    """What one caller wants kept: rows, and who waits for them."""

    lease: tuple[str, str, float, str] | None = None
    saved: tuple[asyncio.AbstractEventLoop, Saved] | None = None
    event: tuple[object, ...] | None = None
    forgotten: str | None = None
    """A machine whose last event goes, to make room."""
    prune: bool = False


class State:
    """The open database; one process at a time writes it."""

    def __init__(self, path: Path, connection: sqlite3.Connection | None, kept: "_Kept") -> None:
        """`kept` is what the database held; without a connection it is tried to be opened when something is to be written."""
        self._path = path
        self._connection = connection
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._leases, self._last = kept
        self._written = 0
        self._behind = False
        self._next_try = 0.0
        self._thread = threading.Thread(target=self._write_all, name="state", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, path: Path) -> "State":
        """Open or create; blocks for the disk. Raises BadState.

        A file system without room is no reason to raise: what the database holds is read, and it is tried again later.
        """
        try:
            return cls(path, *_open(path))
        except BadState as exc:
            if not exc.no_room:
                raise
            kept = _read_without_writing(path)
            log.error("%s; %s (%s)", exc.message, WITHOUT_LEASES, exc.hint)
            return cls(path, None, kept)

    def close(self) -> None:
        """Write what is queued, and close; blocks for it."""
        self._queue.put(None)
        self._thread.join()
        if self._connection is not None:
            self._connection.close()

    def load_leases(self) -> list[Lease]:
        """The leases that the database held when it was opened."""
        return list(self._leases)

    def save_lease(self, lease: Lease) -> "asyncio.Future[None]":
        """The future is done after the commit that holds the lease; it carries BadState when the commit failed."""
        future, saved = _promise()
        self.write_lease(lease, saved)
        return future

    def write_lease(self, lease: Lease, saved: Saved) -> None:
        """As `save_lease`, without a future: `saved` is called in the running loop after the commit."""
        row = (dotted(lease.address), lease.hwaddr, lease.expires, _STATES[lease.state])
        self._queue.put(_Write(row, (asyncio.get_running_loop(), saved)))

    def save_event(
        self,
        hwaddr: str,
        node: str | None,
        stage: str,
        detail: str,
        size: int,
        when: float,
        *,
        ipaddr: IPv4Address | None = None,
    ) -> None:
        """Record one event; it is on disk soon after, and in `last_events` at once."""
        known = self._last.pop(hwaddr, None)
        if ipaddr is None and known is not None:
            ipaddr = known.ipaddr
        if node is None and known is not None:
            node = known.node
        self._last[hwaddr] = LastEvent(
            hwaddr=hwaddr, node=node, stage=stage, detail=detail, bytes=size, when=when, ipaddr=ipaddr
        )
        row = (when, hwaddr, _text(node), _text(stage), _text(detail), size, None if ipaddr is None else dotted(ipaddr))
        oldest = None
        if len(self._last) > MAX_MACHINES:
            oldest = next(iter(self._last))
            del self._last[oldest]
        if self._queue.qsize() >= MAX_QUEUED:
            if not self._behind:
                log.error("the disk of %s does not keep up: boot records of now are not kept there", self._path)
            self._behind = True
            return
        self._behind = False
        self._written += 1
        self._queue.put(_Write(event=row, forgotten=oldest, prune=self._written % _PRUNE_EVERY == 0))

    def written(self) -> "asyncio.Future[None]":
        """The future is done when all that was given so far is on disk; it carries BadState when the last commit failed."""
        future, saved = _promise()
        self._queue.put(_Write(None, (asyncio.get_running_loop(), saved)))
        return future

    def last_event(self, hwaddr: str) -> LastEvent | None:
        """The last event of this hardware address; from memory."""
        return self._last.get(hwaddr)

    def last_events(self) -> dict[str, LastEvent]:
        """The last event of each hardware address, oldest first; from memory."""
        return dict(self._last)

    def _write_all(self) -> None:
        """The writer thread: everything that is queued goes into one commit; the log says when that begins and ends to fail."""
        failing, ended, company = self._connection is None, False, False
        while not ended and (first := self._queue.get()) is not None:
            if company:
                time.sleep(GATHER_SECONDS)
            batch = [first]
            while len(batch) < MAX_BATCH and not self._queue.empty():
                item = self._queue.get()
                if item is None:
                    ended = True
                    break
                batch.append(item)
            company = len(batch) > _COMPANY
            failure = self._commit(batch)
            if failure is not None and not failing:
                log.error("%s; %s", failure.message, WITHOUT_LEASES)
            elif failure is None and failing:
                log.info("the state database %s is written again", self._path)
            failing = failure is not None
            _tell([write.saved for write in batch if write.saved is not None], failure)

    def _commit(self, batch: Sequence[_Write]) -> BadState | None:
        connection = self._connection
        if connection is None:
            try:
                connection = self._connection = self._reopen()
            except BadState as exc:
                return exc
        try:
            connection.execute("BEGIN IMMEDIATE")
            for sql, rows in _statements(batch):
                connection.execute(sql, (rows,))
            connection.execute("COMMIT")
        except sqlite3.Error as exc:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            return BadState(self._path, str(exc))
        return None

    def _reopen(self) -> sqlite3.Connection:
        """Nobody else writes it, so that what it holds is known. Raises BadState; seldom tried, since it waits for the disk."""
        now = time.monotonic()
        if now < self._next_try:
            raise BadState(self._path, "there was no room for it")
        self._next_try = now + RETRY_SECONDS
        return _open(self._path)[0]


_Kept = tuple[list[Lease], dict[str, LastEvent]]
"""Leases, and the last event of each machine."""


def _open(path: Path) -> tuple[sqlite3.Connection, _Kept]:
    """Open or create. Raises BadState."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Who boots what, and when, is the administrator's to read.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=5)
    except OSError as exc:
        no_room = exc.errno in (errno.ENOSPC, errno.EDQUOT)
        raise BadState(
            path, exc.strerror or str(exc), hint=_ROOM_HINT if no_room else access_hint(exc), no_room=no_room
        ) from exc
    except sqlite3.Error as exc:
        raise _bad(path, exc) from exc
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # FULL: a commit is on disk when it returns, also when the power fails.
        connection.execute("PRAGMA synchronous = FULL")
        if _version(path, connection) == 0:
            connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        return connection, (_load_leases(connection), _load_last(connection))
    except (sqlite3.Error, ValueError) as exc:
        connection.close()
        raise _bad(path, exc) from exc
    except BadState:
        connection.close()
        raise


def _read_without_writing(path: Path) -> _Kept:
    """What the database holds, on a file system without room for its index of shared memory. Raises BadState."""
    if not path.exists() or not path.stat().st_size:
        return [], {}
    left = path.with_name(f"{path.name}-wal").exists()
    # What a killed server left must be read, too: somebody has those leases. Alone with the file, SQLite keeps its index of
    # them in its own memory (https://sqlite.org/wal.html, "Use of WAL Without Shared-Memory").
    how = "mode=rw" if left else "mode=ro&immutable=1"
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, isolation_level=None)
        ) as connection:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            return (_load_leases(connection), _load_last(connection)) if _version(path, connection) else ([], {})
    except (sqlite3.Error, ValueError) as exc:
        raise _bad(path, exc) from exc


def look_at(path: Path) -> None:
    """Whether the database could be used, without touching it. Raises BadState."""
    try:
        if _room(path) < LEAST_ROOM:
            raise BadState(path, "its file system is full", hint=_ROOM_HINT, no_room=True)
        if path.exists() and not path.is_file():
            raise BadState(path, "it is no file", hint="move it aside")
        if not path.exists() or path.with_name(f"{path.name}-wal").exists():
            # What a server has open, or left behind when it was killed, cannot be read without writing.
            return
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
            if _version(path, connection):
                _load_leases(connection)
                _load_last(connection)
    except OSError as exc:
        raise BadState(path, exc.strerror or str(exc), hint=access_hint(exc)) from exc
    except (sqlite3.Error, ValueError) as exc:
        raise _bad(path, exc) from exc


def _version(path: Path, connection: sqlite3.Connection) -> int:
    """Of the schema; 0 for an empty file. Raises BadState for a newer one."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise BadState(path, f"its schema {version} is of a newer bootsvc, this one knows {SCHEMA_VERSION}")
    return version


def _bad(path: Path, exc: Exception) -> BadState:
    """SQLite says "full", or for its shared memory only that something failed."""
    code = getattr(exc, "sqlite_errorcode", None)
    no_room = code == sqlite3.SQLITE_FULL or (code in _PERHAPS_NO_ROOM and _room(path) < LEAST_ROOM)
    return BadState(path, str(exc), hint=_ROOM_HINT if no_room else None, no_room=no_room)


def _room(path: Path) -> int:
    """Bytes that are free on the path's file system."""
    room = os.statvfs(next(each for each in (path, *path.parents) if each.exists()))
    return room.f_bavail * room.f_frsize


def _statements(batch: Sequence[_Write]) -> Iterable[tuple[str, str | int]]:
    """Of two rows with one key the later one stands, as it would have been with two statements."""
    leases: dict[str, object] = {}
    events: list[object] = []
    machines: dict[object, object] = {}
    forgotten: dict[object, None] = {}
    for write in batch:
        if write.lease is not None:
            leases[write.lease[0]] = write.lease
        if write.event is not None:
            events.append(write.event)
            machines[write.event[1]] = write.event
            forgotten.pop(write.event[1], None)
        if write.forgotten is not None:
            forgotten[write.forgotten] = None
            machines.pop(write.forgotten, None)
    if leases:
        yield _PUT_LEASES, _json(list(leases.values()))
    if events:
        yield _ADD_EVENTS, _json(events)
        yield _PUT_MACHINES, _json(list(machines.values()))
    if forgotten:
        yield _FORGET_MACHINES, _json(list(forgotten))
    if any(write.prune for write in batch):
        yield _PRUNE_EVENTS, MAX_EVENTS


def _json(rows: Sequence[object]) -> str:
    return msgspec.json.encode(rows).decode()


def _text(value: str | None) -> str | None:
    """Without halves of surrogate pairs, which some client may have sent and no encoding can hold."""
    return value if value is None or value.isascii() else value.encode("utf-8", "replace").decode()


def _promise() -> tuple["asyncio.Future[None]", Saved]:
    """A future of the running loop, and what ends it."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def saved(failure: BadState | None) -> None:
        if future.done():
            return
        if failure is None:
            future.set_result(None)
        else:
            future.set_exception(failure)

    return future, saved


def _tell(waiting: Sequence[tuple[asyncio.AbstractEventLoop, Saved]], failure: BadState | None) -> None:
    """One wake-up of the loop for all."""
    if waiting:
        # RuntimeError: the loop is closed, so nobody waits any more.
        with contextlib.suppress(RuntimeError):
            waiting[0][0].call_soon_threadsafe(_call, [saved for _, saved in waiting], failure)


def _call(waiting: Sequence[Saved], failure: BadState | None) -> None:
    for saved in waiting:
        try:
            saved(failure)
        except Exception:
            log.exception("after a commit")


def _load_leases(connection: sqlite3.Connection) -> list[Lease]:
    """Oldest first: of two rows of one machine, the later one is its present lease."""
    rows = connection.execute("SELECT address, hwaddr, expires, state FROM leases ORDER BY expires DESC LIMIT ?", (MAX_LEASES,))
    leases = [
        Lease(address=IPv4Address(address), hwaddr=hwaddr, expires=expires, state=LeaseState(state))
        for address, hwaddr, expires, state in rows
    ]
    return leases[::-1]


def _load_last(connection: sqlite3.Connection) -> dict[str, LastEvent]:
    rows = connection.execute("SELECT hwaddr, at, node, stage, detail, bytes, ipaddr FROM machines ORDER BY at")
    return {
        hwaddr: LastEvent(
            hwaddr=hwaddr,
            node=node,
            stage=stage,
            detail=detail,
            bytes=size,
            when=at,
            ipaddr=None if ipaddr is None else IPv4Address(ipaddr),
        )
        for hwaddr, at, node, stage, detail, size, ipaddr in rows
    }
