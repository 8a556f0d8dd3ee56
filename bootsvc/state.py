"""What survives a restart: leases and boot events, in one SQLite database (WAL) with a writer thread that commits in groups.

Everything is answered from memory; the event loop never waits for the disk.
"""

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address
from pathlib import Path

import msgspec

from bootsvc.database import (
    EVENT_COLUMNS,
    LEASE_COLUMNS,
    Insert,
    Kept,
    LastEvent,
    Row,
    Statement,
    open_database,
    read_without_writing,
    row_of_event,
    row_of_lease,
)
from bootsvc.dhcp.leases import Lease
from bootsvc.errors import BadState

log = logging.getLogger(__name__)

MAX_MACHINES = 65536
"""Machines whose last event is kept, and MAX_LEASES of theirs: a flood of hardware addresses displaces the oldest."""
MAX_EVENTS = 500_000
"""Rows of the events table; the oldest go."""
MAX_QUEUED = 100_000
"""Writes that wait for a disk that hangs; events beyond are not kept there, so that memory stays flat."""
MAX_BATCH = 4096
"""Writes of one commit."""
GATHER_SECONDS = 0.004
"""How long a commit that somebody waits for is put off when several waited for the last one: fewer commits under load."""
EVENT_SECONDS = 0.1
"""How long an event waits for others, since nobody waits for it: the more rows a commit has, the less each of them costs."""
_PRUNE_EVERY = 10_000
RETRY_SECONDS = 10.0
"""How often a database that could not be opened is tried again."""
WITHOUT_LEASES = "machines without a reservation get no address until it can be written again"
_PUT_LEASES = Insert("INSERT OR REPLACE INTO leases", LEASE_COLUMNS)
_ADD_EVENTS = Insert("INSERT INTO events", EVENT_COLUMNS)
_PUT_MACHINES = Insert("INSERT OR REPLACE INTO machines", EVENT_COLUMNS)
_FORGET_MACHINES = "DELETE FROM machines WHERE hwaddr IN (SELECT value FROM json_each(?))"
_PRUNE_EVENTS = "DELETE FROM events WHERE id <= (SELECT max(id) FROM events) - ?"
_SOON, _NOW, _END = 1, 2, 3
"""What the writer thread is called for; who is called for more need not be called for less."""
Saved = Callable[[BadState | None], None]
"""Told in the event loop that a lease is on disk, or why it is not."""


class _Write(msgspec.Struct, frozen=True, gc=False):
    """What one caller wants kept, and who waits for it."""

    lease: Lease | None = None
    saved: tuple[asyncio.AbstractEventLoop, Saved] | None = None
    event: LastEvent | None = None
    forgotten: str | None = None
    """A machine whose last event goes, to make room."""
    prune: bool = False


class State:
    """The open database; one process at a time writes it."""

    def __init__(self, path: Path, connection: sqlite3.Connection | None, kept: Kept) -> None:
        """`kept` is what the database held; without a connection it is tried to be opened when something is to be written."""
        self._path = path
        self._connection = connection
        self._waiting: deque[_Write] = deque()
        self._calls: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._called = 0
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
            return cls(path, *open_database(path))
        except BadState as exc:
            if not exc.no_room:
                raise
            kept = read_without_writing(path)
            log.error("%s; %s (%s)", exc.message, WITHOUT_LEASES, exc.hint)
            return cls(path, None, kept)

    def close(self) -> None:
        """Write what is queued, and close; blocks for it."""
        self._calls.put(_END)
        self._thread.join()
        if self._connection is not None:
            self._connection.close()

    def load_leases(self) -> list[Lease]:
        """The leases that the database held when it was opened."""
        return list(self._leases)

    def write_lease(self, lease: Lease, saved: Saved) -> None:
        """`saved` is called in the running loop after the commit that holds the lease, with BadState when the commit failed."""
        self._put(_Write(lease, (asyncio.get_running_loop(), saved)), _NOW)

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
        event = LastEvent(hwaddr=hwaddr, node=node, stage=stage, detail=detail, bytes=size, when=when, ipaddr=ipaddr)
        self._last[hwaddr] = event
        oldest = None
        if len(self._last) > MAX_MACHINES:
            oldest = next(iter(self._last))
            del self._last[oldest]
        if len(self._waiting) >= MAX_QUEUED:
            if not self._behind:
                log.error("the disk of %s does not keep up: boot records of now are not kept there", self._path)
            self._behind = True
            return
        self._behind = False
        self._written += 1
        self._put(_Write(None, None, event, oldest, self._written % _PRUNE_EVERY == 0), _SOON)

    def written(self) -> "asyncio.Future[None]":
        """The future is done when all that was given so far is on disk; it carries BadState when the last commit failed."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def saved(failure: BadState | None) -> None:
            if future.done():
                return
            if failure is None:
                future.set_result(None)
            else:
                future.set_exception(failure)

        self._put(_Write(None, (asyncio.get_running_loop(), saved)), _NOW)
        return future

    def last_event(self, hwaddr: str) -> LastEvent | None:
        """The last event of this hardware address; from memory."""
        return self._last.get(hwaddr)

    def last_events(self) -> dict[str, LastEvent]:
        """The last event of each hardware address, oldest first; from memory."""
        return dict(self._last)

    def _put(self, write: _Write, call: int) -> None:
        self._waiting.append(write)
        # To wake a thread costs more than the rest, so it is called once for all that it will find.
        if call > self._called:
            self._called = call
            self._calls.put(call)

    def _write_all(self) -> None:
        """The writer thread: all that waits goes into one commit; the log says when that begins and ends to fail."""
        failing, ended, company = self._connection is None, False, False
        while not ended:
            ended = self._await_call(company=company)
            while batch := self._take():
                waiting = [write.saved for write in batch if write.saved is not None]
                company = len(waiting) > 1
                failure = self._commit(batch)
                if failure is not None and not failing:
                    log.error("%s; %s", failure.message, WITHOUT_LEASES)
                elif failure is None and failing:
                    log.info("the state database %s is written again", self._path)
                failing = failure is not None
                _tell(waiting, failure)
                if len(batch) < MAX_BATCH:
                    break

    def _await_call(self, *, company: bool) -> bool:
        """Wait until something is to be written, and long enough for others to come; whether that was the last call."""
        call = self._calls.get()
        if call == _SOON:
            with contextlib.suppress(queue.Empty):
                call = self._calls.get(timeout=EVENT_SECONDS)
        if call == _NOW and company:
            time.sleep(GATHER_SECONDS)
        # What is put after this calls again; what was put before is there.
        self._called = 0
        return call == _END

    def _take(self) -> Sequence[_Write]:
        return [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_BATCH))]

    def _commit(self, batch: Sequence[_Write]) -> BadState | None:
        connection = self._connection
        if connection is None:
            try:
                connection = self._connection = self._reopen()
            except BadState as exc:
                return exc
        try:
            connection.execute("BEGIN IMMEDIATE")
            for sql, values in _statements(batch):
                connection.execute(sql, values)
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
        return open_database(self._path)[0]


def _statements(batch: Sequence[_Write]) -> Iterator[Statement]:
    """Of two rows with one key the later one stands, as it would have been with two statements."""
    leases: dict[object, Row] = {}
    events: list[Row] = []
    machines: dict[str, Row] = {}
    forgotten: set[str] = set()
    for write in batch:
        if write.event is not None:
            row = row_of_event(write.event)
            events.append(row)
            machines[write.event.hwaddr] = row
        if write.lease is not None:
            row = row_of_lease(write.lease)
            leases[row[0]] = row
        if write.forgotten is not None:
            forgotten.add(write.forgotten)
            machines.pop(write.forgotten, None)
    yield from _PUT_LEASES.statements(list(leases.values()))
    yield from _ADD_EVENTS.statements(events)
    yield from _PUT_MACHINES.statements(list(machines.values()))
    forgotten.difference_update(machines)
    if forgotten:
        yield _FORGET_MACHINES, (msgspec.json.encode(forgotten).decode(),)
    if any(write.prune for write in batch):
        yield _PRUNE_EVENTS, (MAX_EVENTS,)


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
