"""All checks, in the order in which they are told; `docs/images.md` lists them."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from images.attributes import hint_for
from images.catalog import Catalog
from images.doctor import boot, cost, drift, identity, startup
from images.doctor.subject import Check, Finding, Host, Severity, Subject
from images.elf import architecture
from images.errors import Error
from images.excludes import Excludes, read_excludes
from images.kernel_scan import scan_kernels
from images.scan import read_xattrs, scan
from images.view import ImageView

CHECKS: Mapping[str, Check] = {
    "kernel": boot.kernel,
    "init": boot.init,
    "own-init": boot.own_init,
    "systemd": boot.systemd,
    "network-drivers": boot.network_drivers,
    "architecture": boot.architecture,
    "merged-usr": boot.merged_usr,
    "fstab": startup.fstab,
    "large-files": cost.large_files,
    "extended-attributes": boot.extended_attributes,
    "root-login": identity.root_login,
    "machine-id": identity.machine_id,
    "host-keys": identity.host_keys,
    "private-keys": identity.private_keys,
    "secrets": identity.secrets,
    "password-hashes": identity.password_hashes,
    "uid-drift": drift.uid_drift,
    "network": startup.network,
    "name-resolution": startup.name_resolution,
    "console": startup.console,
    "selinux": startup.selinux,
    "units": startup.units,
    "ssh-server": identity.ssh_server,
    "journal": startup.journal,
    "memory": cost.memory,
    "boot-files": cost.boot_files,
    "caches": cost.caches,
    "documentation": cost.documentation,
    "sparse-logs": cost.sparse_logs,
    "stage1-tools": boot.stage1_tools,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A finding and the check that made it."""

    check: str
    finding: Finding


def examine(subject: Subject) -> list[Named]:
    """What every check finds, the worst first."""
    found = [Named(check=name, finding=finding) for name, check in CHECKS.items() for finding in check(subject)]
    order = list(Severity)
    return sorted(found, key=lambda named: order.index(named.finding.severity))


def subject_of(catalog: Catalog, name: str, host: Host, *, command: str = "wwctl image") -> Subject:
    """The image's tree as it is now, without what it excludes from builds. Raises ImageNotFound, or Error when unreadable."""
    rootfs = catalog.get(name)
    try:
        view = ImageView(scan(rootfs, excludes=Excludes(read_excludes(rootfs)), xattrs=False))
    except OSError as exc:
        raise Error(f"cannot read image {name!r}: {exc.strerror}: {exc.filename}", hint=hint_for(exc)) from exc
    generation = catalog.current(name)
    return Subject(
        name=name,
        view=view,
        read=_Reader(rootfs, view).read,
        xattrs=lambda entry: read_xattrs(os.path.join(os.fsencode(rootfs), entry.path)),
        architecture=architecture(rootfs, view),
        host=host,
        kernels=scan_kernels(rootfs),
        command=command,
        compressed=None if generation is None else generation.image_size,
    )


class _Reader:
    def __init__(self, rootfs: Path, view: ImageView) -> None:
        self._rootfs = rootfs
        self._view = view

    def read(self, path: bytes, limit: int) -> bytes | None:
        entry = self._view.find_file(path)
        if entry is None:
            return None
        try:
            descriptor = os.open(
                os.path.join(os.fsencode(self._rootfs), entry.path), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            )
        except OSError:
            # It has vanished since the scan.
            return None
        with os.fdopen(descriptor, "rb") as file:
            return file.read(limit)


def worst(found: list[Named]) -> Iterator[Named]:
    """Errors and warnings: what is told without being asked."""
    return (named for named in found if named.finding.severity is not Severity.NOTE)
