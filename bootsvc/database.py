"""The SQLite database of what survives a restart: its tables, opening it, and reading it where nothing can be written."""

import contextlib
import errno
import os
import socket
import sqlite3
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address
from itertools import chain
from pathlib import Path

import msgspec

from bootsvc.dhcp.leases import MAX_LEASES, Lease, LeaseState
from bootsvc.errors import BadState, access_hint

SCHEMA_VERSION = 1
LEAST_ROOM = 1 << 20
"""Bytes that must be free on the file system."""
_ROOM_HINT = "make room on its file system"
_PERHAPS_NO_ROOM = frozenset(
    (
        *(sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMOPEN),
        *(sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_SHMMAP, sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_TRUNCATE),
    )
)
_ADD_SECONDS = "ALTER TABLE leases ADD COLUMN seconds REAL"
"""Earlier versions did not keep it, and do not mind it: the schema's number stays."""
_SCHEMA = """
CREATE TABLE leases (
    address TEXT PRIMARY KEY, hwaddr TEXT NOT NULL, expires REAL NOT NULL, state TEXT NOT NULL, seconds REAL
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


Row = tuple[object, ...]
Statement = tuple[str, Row]
"""SQL and the values of its parameters."""
_ROWS_AT_ONCE = (64, 8, 1)
"""Powers of eight, so that a few prepared statements do for any number of rows; old SQLite takes at most 999 parameters."""


LEASE_COLUMNS = ("address", "hwaddr", "expires", "state", "seconds")
EVENT_COLUMNS = ("at", "hwaddr", "node", "stage", "detail", "bytes", "ipaddr")
# An enum's `value`, and an IPv4Address as text, take longer than the rest of a row.
_STATES = {state: state.value for state in LeaseState}


def row_of_lease(lease: Lease) -> Row:
    """Of LEASE_COLUMNS."""
    return _dotted(lease.address), lease.hwaddr, lease.expires, _STATES[lease.state], lease.seconds


def row_of_event(event: LastEvent) -> Row:
    """Of EVENT_COLUMNS, for `events` and for `machines`."""
    ipaddr = None if event.ipaddr is None else _dotted(event.ipaddr)
    return event.when, event.hwaddr, _text(event.node), _text(event.stage), _text(event.detail), event.bytes, ipaddr


def _dotted(address: IPv4Address) -> str:
    return socket.inet_ntoa(int(address).to_bytes(4, "big"))


def _text(value: str | None) -> str | None:
    """Without halves of surrogate pairs, which some client may have sent and no encoding can hold."""
    return value if value is None or value.isascii() else value.encode("utf-8", "replace").decode()


class Insert:
    """Puts rows into a table, many with one statement: the interpreter's lock is free while it runs, and packets are answered.

    `executemany` takes the lock again after each row, and waits for it as long as the event loop has something to do.
    """

    def __init__(self, into: str, columns: Sequence[str]) -> None:
        row = f"({', '.join('?' * len(columns))})"
        head = f"{into} ({', '.join(columns)}) VALUES "
        self._sql = [(count, head + ", ".join([row] * count)) for count in _ROWS_AT_ONCE]

    def statements(self, rows: Sequence[Row]) -> Iterator[Statement]:
        at = 0
        for count, sql in self._sql:
            while len(rows) - at >= count:
                yield sql, tuple(chain.from_iterable(rows[at : at + count]))
                at += count


Kept = tuple[list[Lease], dict[str, LastEvent]]
"""Leases, and the last event of each machine."""


def open_database(path: Path) -> tuple[sqlite3.Connection, Kept]:
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
        elif not _has_seconds(connection):
            connection.execute(_ADD_SECONDS)
        return connection, (_load_leases(connection), _load_last(connection))
    except (sqlite3.Error, ValueError) as exc:
        connection.close()
        raise _bad(path, exc) from exc
    except BadState:
        connection.close()
        raise


def read_without_writing(path: Path) -> Kept:
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


def _load_leases(connection: sqlite3.Connection) -> list[Lease]:
    """Oldest first: of two rows of one machine, the later one is its present lease."""
    seconds = "seconds" if _has_seconds(connection) else "NULL"
    rows = connection.execute(
        f"SELECT address, hwaddr, expires, state, {seconds} FROM leases ORDER BY expires DESC LIMIT ?", (MAX_LEASES,)
    )
    leases = [
        Lease(address=IPv4Address(address), hwaddr=hwaddr, expires=expires, state=LeaseState(state), seconds=seconds)
        for address, hwaddr, expires, state, seconds in rows
    ]
    return leases[::-1]


def _has_seconds(connection: sqlite3.Connection) -> bool:
    return any(row[1] == "seconds" for row in connection.execute("PRAGMA table_info(leases)"))


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
