"""nodes.conf: load, lock, change, save. The only writer of that file.

A change runs under a lock, on the file as it is then; it rewrites only the entries that differ, is verified by reading
the new text again, and appears by rename: a reader, also after kill -9, sees the old file or the new one.
"""

import fcntl
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from yaml.nodes import MappingNode

from bootsvc.yamlfile import YamlError, compose, items, paused_gc, read_text, value
from bootsvc.yamlpatch import patch
from images.errors import Error

log = logging.getLogger(__name__)

Entry = Mapping[str, Any]
"""A node or profile as the file says it: text, lists and mappings; only `resources` holds numbers and booleans."""

PROFILES, NODES = "nodeprofiles", "nodes"

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What nodes.conf says at one moment; `identity` is None when there is no file."""

    nodes: Mapping[str, Entry] = field(default_factory=dict)
    profiles: Mapping[str, Entry] = field(default_factory=dict)
    identity: Identity | None = None

    def with_node(self, name: str, entry: Entry) -> "Snapshot":
        """A copy in which the node `name` says `entry`; a new node comes last."""
        return replace(self, nodes={**self.nodes, name: entry})

    def without_nodes(self, names: frozenset[str]) -> "Snapshot":
        """A copy that lacks these nodes."""
        return replace(self, nodes={name: entry for name, entry in self.nodes.items() if name not in names})


class Store:
    """One nodes.conf; a symbolic link is followed, so that the file it names is the one replaced."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def identity(self) -> Identity | None:
        """The file's identity now, or None when it is missing; the daemon polls this."""
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return None
        return Identity(inode=stat.st_ino, size=stat.st_size, mtime_ns=stat.st_mtime_ns, ctime_ns=stat.st_ctime_ns)

    def load(self) -> Snapshot:
        """Read the file; raises YamlError with line and column, or Error when it cannot be read."""
        return self._read()[2]

    def edit(self, change: Callable[[Snapshot], Snapshot]) -> Snapshot:
        """Apply `change` to the file as it is under the lock, and save; returns what the file says then.

        What `change` raises leaves the file as it was, and so does a result equal to its argument.
        """
        with self._locked():
            text, document, before = self._read()
            after = change(before)
            if after.nodes == before.nodes and after.profiles == before.profiles:
                return before
            self._write(_render(text, document, before, after, self.path))
            return replace(after, identity=self.identity())

    def _read(self) -> tuple[str, MappingNode | None, Snapshot]:
        try:
            # Before the text: a change in between is then seen as one.
            identity = self.identity()
            text = read_text(self.path) if identity else ""
        except OSError as exc:
            raise Error(f"cannot read {self.path}: {exc.strerror}", hint="wwctl is meant to run as root") from exc
        if identity is None:
            return "", None, Snapshot(profiles={"default": DEFAULT_PROFILE})
        document, snapshot = parse(text, self.path)
        return text, document, replace(snapshot, identity=identity)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        target = Path(os.path.realpath(self.path))
        lock = target.with_name(target.name + ".lock")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise Error(f"cannot lock {target}: {exc.strerror}: {lock}", hint="wwctl is meant to run as root") from exc
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.info("waiting for another command that changes %s", target)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _write(self, text: str) -> None:
        target = Path(os.path.realpath(self.path))
        try:
            _replace_file(target, text.encode())
        except OSError as exc:
            raise Error(f"cannot write {target}: {exc.strerror}", hint="the file is as it was before") from exc


def parse(text: str, source: Path) -> tuple[MappingNode | None, Snapshot]:
    """The document and what it says of nodes and profiles; raises YamlError."""
    with paused_gc():
        document = compose(text, source)
        sections: dict[str, Mapping[str, Entry]] = {NODES: {}, PROFILES: {}}
        for section in items(document, source) if document else []:
            if section.key in sections:
                sections[section.key] = {
                    entry.key: {
                        member.key: value(member.value, source, typed=member.key == "resources")
                        for member in items(entry.value, source, f"{section.key}.{entry.key}")
                    }
                    for entry in items(section.value, source, section.key)
                }
    return document, Snapshot(nodes=sections[NODES], profiles=sections[PROFILES])


def _render(text: str, document: MappingNode | None, before: Snapshot, after: Snapshot, source: Path) -> str:
    """The new text, verified: it means exactly what `after` says. The second try gives up comments inside the entry."""
    # Where there is no file, what was read is the built-in profile, which must be written too.
    old: dict[str, Any] = {PROFILES: before.profiles, NODES: before.nodes} if before.identity else {}
    new: dict[str, Any] = {PROFILES: after.profiles, NODES: after.nodes}
    written = {item.key for item in items(document, source)} if document else set()
    # Sections that are not ours stay what they are.
    others = dict.fromkeys(written - {PROFILES, NODES})
    old = {**old, **others}
    new = {**{key: section for key, section in new.items() if section or key in written}, **others}
    for depth in (None, 2):
        try:
            changed = patch(text, document, old, new, source, depth=depth)
            _, result = parse(changed, source)
        except (YamlError, ValueError) as exc:
            log.debug("patching %s to depth %s: %s", source, depth, exc)
            continue
        if result.nodes == after.nodes and result.profiles == after.profiles:
            return changed
    raise Error(
        f"{source} is written in a way that cannot be changed entry by entry (anchors and aliases?)",
        hint="write out what the aliases stand for, or edit the file by hand",
    )


def _replace_file(target: Path, data: bytes) -> None:
    """Put `data` in the place of `target` at once, on disk; mode and owner stay (new: 0644)."""
    for leftover in target.parent.glob(f".{target.name}.*.tmp"):
        # Only a killed writer leaves one, and the lock is ours.
        leftover.unlink(missing_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            try:
                stat = target.stat()
                os.fchown(descriptor, stat.st_uid, stat.st_gid)
                os.fchmod(descriptor, stat.st_mode & 0o7777)
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
