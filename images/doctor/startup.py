"""What a node would wait for in vain, or do without, once its init runs."""

from collections.abc import Iterator

from images.doctor.boot import masked
from images.doctor.subject import Finding, Subject, error, everywhere, listed, note, warning

_DISK = ("/dev/", "UUID=", "LABEL=", "PARTUUID=", "PARTLABEL=", "ID=")
_NO_DISK = ("/dev/shm", "/dev/pts", "/dev/hugepages", "/dev/mqueue")
_VENDOR_UNITS = ("usr/lib/systemd/system/", "lib/systemd/system/")
_UNITS = ("etc/systemd/system/", *_VENDOR_UNITS)
POINTLESS = {
    "cloud-init.service": "looks for a cloud",
    "cloud-init-local.service": "looks for a cloud",
    "cloud-init-main.service": "looks for a cloud",
    "lvm2-monitor.service": "watches disks",
    "mdmonitor.service": "watches disks",
    "multipathd.service": "watches disks",
    "smartd.service": "watches disks",
    "smartmontools.service": "watches disks",
    "fstrim.timer": "trims disks",
    "e2scrub_all.timer": "checks disks",
    "e2scrub_reap.service": "checks disks",
    "mdcheck_start.timer": "checks disks",
    "apt-daily.timer": "fetches packages",
    "apt-daily-upgrade.timer": "changes packages",
    "unattended-upgrades.service": "changes packages",
    "dnf-makecache.timer": "fetches packages",
    "dnf-automatic.timer": "changes packages",
    "kdump.service": "needs memory set aside at boot",
    "systemd-boot-update.service": "writes a boot loader",
}
"""Units that make sense on a machine with a disk of its own, and what they do."""
SLOW = frozenset({"looks for a cloud"})


def fstab(subject: Subject) -> Iterator[Finding]:
    """systemd waits 90 seconds for a disk, then gives up the boot, unless the entry says nofail or noauto."""
    fatal: list[str] = []
    swap: list[str] = []
    for line in (subject.text(b"etc/fstab") or "").splitlines():
        words = line.split()
        if len(words) < 3 or words[0].startswith("#") or not words[0].startswith(_DISK) or words[0].startswith(_NO_DISK):
            continue
        options = words[3].split(",") if len(words) > 3 else []
        if not {"noauto", "nofail"} & set(options):
            (swap if words[2] == "swap" else fatal).append(words[0] if words[2] == "swap" else words[1])
    fix = subject.shell(r"sed -i -E 's/^[ \t]*(\/dev|[A-Z]+=)/#&/' /etc/fstab")
    if fatal:
        yield error(f"/etc/fstab mounts disks on {listed(fatal)}: a node without them stops in emergency mode", fix)
    if swap:
        yield warning(f"/etc/fstab has swap on {listed(swap)}: a node without it waits 90 seconds", fix)


def units(subject: Subject) -> Iterator[Finding]:
    """Enabled services that need what a stateless node has not."""
    enabled = _enabled(subject)
    found = [unit for unit in POINTLESS if unit in enabled]
    if not found:
        return
    words = listed([f"{unit} ({POINTLESS[unit]})" for unit in found], 3)
    # What the distribution itself wants cannot be disabled.
    fix = subject.run("systemctl", "mask" if set(found) & _enabled(subject, _VENDOR_UNITS) else "disable", *found)
    if any(POINTLESS[unit] in SLOW for unit in found):
        yield warning(f"services would delay each boot: {words}", fix)
    else:
        yield note(f"services that a stateless node has no use for are enabled: {words}", fix)


def _enabled(subject: Subject, folders: tuple[str, ...] = _UNITS) -> set[str]:
    """Units that some target wants by a link in one of these folders, and that are not masked."""
    found = set()
    for entry in subject.view:
        if b".wants/" not in entry.path:
            continue
        path = entry.path.decode("utf-8", "replace")
        if path.startswith(folders):
            found.add(path.rpartition("/")[2])
    return {unit for unit in found if not masked(subject, unit)}


def network(subject: Subject) -> Iterator[Finding]:
    """Something must configure the network from what overlays bring."""
    tools = ("NetworkManager", "ifup", "wicked", "netplan", "dhclient", "dhcpcd", "udhcpc")
    networkd = any(subject.exists(folder + b"/systemd-networkd") for folder in (b"usr/lib/systemd", b"lib/systemd"))
    if not networkd and subject.program(*tools) is None:
        packages = {"debian": "ifupdown", "redhat": "NetworkManager", "suse": "wicked", "alpine": "ifupdown-ng"}
        yield warning(
            "nothing in it configures a network (NetworkManager, systemd-networkd, ifupdown, wicked)",
            subject.install("one of them", packages),
        )
    elif networkd and "systemd-networkd.service" not in _enabled(subject) and subject.program(*tools) is None:
        unit = "systemd-networkd.service"
        enable = subject.run("systemctl", "enable", unit)
        if masked(subject, unit):
            enable = subject.shell(f"systemctl unmask {unit} && systemctl enable {unit}")
        yield warning("systemd-networkd would configure the network, but it is not enabled", enable)


def name_resolution(subject: Subject) -> Iterator[Finding]:
    entry = subject.view.find(b"etc/resolv.conf")
    resolved = any(subject.exists(folder + b"/systemd-resolved") for folder in (b"usr/lib/systemd", b"lib/systemd"))
    if entry is not None and entry.is_symlink and b"systemd/resolve" in entry.target and not resolved:
        yield warning(
            "/etc/resolv.conf is left to systemd-resolved, which is not installed, so no name resolves",
            subject.shell("rm /etc/resolv.conf && touch /etc/resolv.conf"),
        )
    elif not resolved and "nameserver 127.0.0.53" in (subject.text(b"etc/resolv.conf") or ""):
        yield warning(
            "/etc/resolv.conf asks systemd-resolved, which is not installed, so no name resolves",
            # In the sandbox the head node's is mounted on it.
            f"remove it: rm $({subject.command} show {subject.name})/etc/resolv.conf; {subject.command} build {subject.name}",
        )


def console(subject: Subject) -> Iterator[Finding]:
    """systemd starts a getty on every console that the kernel names; it needs agetty(8)."""
    systemd = subject.exists(b"usr/lib/systemd/systemd") or subject.exists(b"lib/systemd/systemd")
    if systemd and subject.program("agetty") is None:
        yield warning(
            "it has no agetty, so there is no login on any console, serial or not",
            subject.install("agetty", everywhere("util-linux")),
        )
    inittab = subject.text(b"etc/inittab")
    if not systemd and inittab is not None and "ttyS" not in inittab and "console" not in inittab:
        yield note(
            "its /etc/inittab starts no login on a serial console",
            subject.shell("echo 'ttyS0::respawn:/sbin/getty -L ttyS0 115200 vt100' >>/etc/inittab"),
        )


def selinux(subject: Subject) -> Iterator[Finding]:
    config = (subject.text(b"etc/selinux/config") or "").splitlines()
    if "SELINUX=enforcing" not in [line.strip() for line in config]:
        return
    if not any(name == b"security.selinux" for entry in subject.view for name, _ in subject.xattrs(entry)):
        yield warning(
            "SELinux is enforcing, but no file carries a label: services would be refused their own files",
            subject.run("sed", "-i", "s/^SELINUX=enforcing/SELINUX=permissive/", "/etc/selinux/config"),
        )


def journal(subject: Subject) -> Iterator[Finding]:
    if subject.exists(b"var/log/journal"):
        yield note(
            "the journal is kept under /var/log, which on a node is memory, up to a tenth of it",
            subject.run("rm", "-r", "/var/log/journal"),
        )
