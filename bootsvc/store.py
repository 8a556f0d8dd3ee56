"""nodes.conf: load, lock, change, save. The only writer of that file.

A change runs under a lock, on the file as it is then; it rewrites only the entries that differ, is verified by reading
it again, and appears by rename: a reader, also after kill -9, sees the old file or the new one.
"""

import fcntl
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from yaml.nodes import MappingNode

from bootsvc import nodescache
from bootsvc.entries import NODES as NODES
from bootsvc.entries import PROFILES as PROFILES
from bootsvc.entries import Entry as Entry
from bootsvc.entries import Parsed, parse, splice
from bootsvc.errors import access_hint
from bootsvc.yamlfile import YamlError, compose, decode, items, read_bytes
from bootsvc.yamlpatch import patch
from images.errors import Error

log = logging.getLogger(__name__)

MIN_CACHED = 32_768
"""Bytes of a file worth a cache; below, parsing takes less than 20 ms."""

DEFAULT_PROFILE: Entry = {
    "comment": "This profile is automatically included for each node",
    "runtime overlay": ["hosts", "ssh.authorized_keys"],
    "system overlay": [
        "wwclient",
        "hostname",
        "hosts",
        "systemd.networkd",
        "ifupdown",
        "NetworkManager",
        "resolv",
    ],
    "kernel": {"args": ["quiet", "crashkernel=no", "net.ifnames=1"]},
    "init": "/sbin/init",
    "root": "initramfs",
}
"""The profile `default` where there is no nodes.conf yet; the first change writes it out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Tells one version of a file from another without reading it."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, info: os.stat_result) -> "Identity":
        return cls(inode=info.st_ino, size=info.st_size, mtime_ns=info.st_mtime_ns, ctime_ns=info.st_ctime_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What nodes.conf says at one moment; `identity` is None when there is no file."""

    nodes: Mapping[str, Entry] = field(default_factory=dict)
    profiles: Mapping[str, Entry] = field(default_factory=dict)
    identity: Identity | None = None

    def entries(self, section: str) -> Mapping[str, Entry]:
        """The entries of NODES or PROFILES."""
        return self.nodes if section == NODES else self.profiles

    def with_entries(self, section: str, entries: Mapping[str, Entry]) -> "Snapshot":
        """A copy that says `entries` in NODES or PROFILES."""
        return replace(self, nodes=entries) if section == NODES else replace(self, profiles=entries)


class _Read(NamedTuple):
    """The file at one moment: its bytes, their text, and what that says; `document` when the text was composed for it."""

    data: bytes
    text: str
    document: MappingNode | None
    parsed: Parsed
    identity: Identity | None

    def snapshot(self) -> Snapshot:
        return Snapshot(nodes=self.parsed.nodes, profiles=self.parsed.profiles, identity=self.identity)


class Store:
    """One nodes.conf; a symbolic link is followed, so that the file it names is the one replaced.

    `cache` is where what was parsed is kept for the next process that reads the same text.
    """

    def __init__(self, path: Path, cache: Path | None = None) -> None:
        self.path = path
        self.cache = cache
        self._last: tuple[bytes, Parsed] | None = None

    def identity(self) -> Identity | None:
        """The file's identity now, or None when it is missing; the daemon polls this."""
        try:
            return Identity.of(self.path.stat())
        except FileNotFoundError:
            return None

    def load(self, *, packed: bytes = b"") -> Snapshot:
        """Read the file; raises YamlError with line and column, or Error when it cannot be read.

        `packed` is what another Store that read the same text has as `packed()`.
        """
        return self._read(packed).snapshot()

    def must_parse(self) -> bool:
        """Whether `load` would have to parse a large file, because the cache is of another text."""
        try:
            if self.path.stat().st_size < MIN_CACHED:
                return False
            data = read_bytes(self.path)
        except (OSError, Error):
            return False
        return not nodescache.is_of(nodescache.read(self.cache) if self.cache else b"", data)

    def packed(self) -> bytes:
        """What was read last, for another process; empty when it cannot be packed."""
        try:
            return nodescache.pack(*self._last) if self._last else b""
        except ValueError:
            return b""

    def forget(self) -> None:
        """Free what was read last."""
        self._last = None

    def edit(self, change: Callable[[Snapshot], Snapshot]) -> Snapshot:
        """Apply `change` to the file as it is under the lock, and save; returns what the file says then.

        What `change` raises leaves the file as it was, and so does a result equal to its argument.
        """
        with self.locked():
            was = self._read()
            before = was.snapshot()
            after = change(before)
            if after.nodes == before.nodes and after.profiles == before.profiles:
                return before
            text, parsed = _render(was, after, self.path)
            data = text.encode()
            self._write(data)
            self._keep(data, parsed)
            return replace(after, identity=self.identity())

    def _read(self, packed: bytes = b"") -> _Read:
        try:
            # Before the text: a change in between is then seen as one.
            identity = self.identity()
            data = read_bytes(self.path) if identity else b""
        except OSError as exc:
            raise Error(f"cannot read {self.path}: {exc.strerror}", hint=access_hint(exc)) from exc
        if identity is None:
            return _Read(b"", "", None, Parsed(profiles={"default": DEFAULT_PROFILE}), None)
        text = decode(data, self.path)
        if self._last and self._last[0] == data:
            return _Read(data, text, None, self._last[1], identity)
        document = None
        parsed = nodescache.unpack(packed, data)
        if parsed is None and self.cache:
            parsed = nodescache.unpack(nodescache.read(self.cache), data)
        if parsed is None:
            document, parsed = parse(text, self.path)
            self._keep(data, parsed)
        self._last = data, parsed
        return _Read(data, text, document, parsed, identity)

    def _keep(self, data: bytes, parsed: Parsed) -> None:
        """Spare the next process the parsing."""
        self._last = data, parsed
        if self.cache is None or len(data) < MIN_CACHED:
            return
        try:
            nodescache.write(self.cache, nodescache.pack(data, parsed))
        except ValueError as exc:
            log.debug("%s cannot be cached: %s", self.path, exc)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other writers waiting."""
        target = Path(os.path.realpath(self.path))
        lock = target.with_name(target.name + ".lock")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise Error(f"cannot lock {target}: {exc.strerror}: {lock}", hint=access_hint(exc)) from exc
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.info("waiting for another command that changes %s", target)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _write(self, data: bytes) -> None:
        target = Path(os.path.realpath(self.path))
        try:
            replace_file(target, data, like=target)
        except OSError as exc:
            raise Error(f"cannot write {target}: {exc.strerror}", hint="the file is as it was before") from exc


def _render(was: _Read, after: Snapshot, source: Path) -> tuple[str, Parsed]:
    """The new text, verified: it means exactly what `after` says. The last try gives up comments inside the entry."""
    if was.identity:
        spliced = splice(was.text, was.parsed, {PROFILES: after.profiles, NODES: after.nodes}, source)
        if spliced is not None:
            return spliced
    document = was.document or compose(was.text, source)
    # Where there is no file, what was read is the built-in profile, which must be written too.
    old: dict[str, Any] = {PROFILES: was.parsed.profiles, NODES: was.parsed.nodes} if was.identity else {}
    new: dict[str, Any] = {PROFILES: after.profiles, NODES: after.nodes}
    written = {item.key for item in items(document, source)} if document else set()
    # Sections that are not ours stay what they are.
    others = dict.fromkeys(written - {PROFILES, NODES})
    old = {**old, **others}
    new = {**{key: section for key, section in new.items() if section or key in written}, **others}
    for depth in (None, 2):
        try:
            changed = patch(was.text, document, old, new, source, depth=depth)
            _, result = parse(changed, source)
        except (YamlError, ValueError) as exc:
            log.debug("patching %s to depth %s: %s", source, depth, exc)
            continue
        if result.nodes == after.nodes and result.profiles == after.profiles:
            return changed, result
    raise Error(
        f"{source} is written in a way that cannot be changed entry by entry (anchors and aliases?)",
        hint="write out what the aliases stand for, or edit the file by hand",
    )


def replace_file(target: Path, data: bytes, *, like: Path) -> None:
    """Put `data` in the place of `target` at once, on disk, with mode and owner of `like` (missing: 0644). Raises OSError."""
    for leftover in target.parent.glob(f".{target.name}.*.tmp"):
        # Only a killed writer leaves one, and the lock is ours.
        leftover.unlink(missing_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            try:
                stat = like.stat()
                # In this order: the server may give files away, but not change those of others.
                os.fchmod(descriptor, stat.st_mode & 0o7777)
                os.fchown(descriptor, stat.st_uid, stat.st_gid)
            except FileNotFoundError:
                os.fchmod(descriptor, 0o644)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
