"""What is one machine's own and does not belong into an image that many boot and anybody on the boot network can read."""

import re
import shlex
from collections.abc import Iterator

from images.doctor.subject import Finding, Subject, everywhere, listed, note, shown, warning
from images.index import Entry
from images.passwd import passwords

_HOST_KEY = re.compile(rb"etc/ssh/ssh_host_\w+_key")
_KEY_NAME = re.compile(rb"(.*/)?([^/]*\.(key|pem|p12|pfx)|id_[a-z0-9_]+|[^/]*_key)")
_KEY_PLACES = (b"etc/", b"root/", b"home/", b"opt/", b"srv/", b"var/lib/")
_PRIVATE = b"PRIVATE KEY-----"
KEY_SIZE = 1 << 16
"""Bytes; nothing larger is a key."""
_SECRETS = re.compile(
    rb"etc/munge/munge\.key|etc/krb5\.keytab|etc/NetworkManager/system-connections/.+|etc/wireguard/.+\.conf"
    rb"|(root|home/[^/]+)/(\.netrc|\.git-credentials|\.aws/credentials|\.kube/config|\.docker/config\.json"
    rb"|\.config/containers/auth\.json)"
)
READABLE = "which any machine on the boot network can read"


def machine_id(subject: Subject) -> Iterator[Finding]:
    """An empty file makes systemd choose one at each boot; /var/lib/dbus has a second copy on some distributions."""
    for path in (b"etc/machine-id", b"var/lib/dbus/machine-id"):
        entry = subject.view.find(path)
        content = (subject.text(path, 64) or "").strip() if entry is not None and not entry.is_symlink else ""
        if content not in ("", "uninitialized"):
            fix = "truncate -s 0 /etc/machine-id" if path.startswith(b"etc") else "rm /var/lib/dbus/machine-id"
            yield warning(f"every node would have the machine-id {content[:8]}… of {shown(path)}", subject.run(*fix.split()))


def host_keys(subject: Subject) -> Iterator[Finding]:
    found = [shown(entry.path) for entry in subject.view if _HOST_KEY.fullmatch(entry.path)]
    if found:
        yield warning(
            f"it holds {len(found)} SSH host keys ({listed(found, 1)}), the same for every node, {READABLE}",
            subject.shell("rm -f /etc/ssh/ssh_host_*"),
        )


def private_keys(subject: Subject) -> Iterator[Finding]:
    found = [shown(entry.path) for entry in subject.view if _is_private_key(subject, entry)]
    if found:
        yield warning(
            f"it holds private keys, {READABLE}: {listed(found)}",
            f"give them to nodes by an overlay, and remove them here: {subject.run('rm', *found[:5])}",
        )


def _is_private_key(subject: Subject, entry: Entry) -> bool:
    if not entry.path.startswith(_KEY_PLACES) or not _KEY_NAME.fullmatch(entry.path):
        return False
    if not entry.is_regular or not 32 < entry.size < KEY_SIZE or _HOST_KEY.fullmatch(entry.path):
        return False
    return _PRIVATE in (subject.read(entry.path, KEY_SIZE) or b"")


def secrets(subject: Subject) -> Iterator[Finding]:
    found = [shown(entry.path) for entry in subject.view if _SECRETS.fullmatch(entry.path) and entry.is_regular and entry.size]
    if found:
        yield warning(
            f"it holds secrets, {READABLE}: {listed(found)}",
            f"give them to nodes by an overlay, and remove them here: {subject.run('rm', *found[:5])}",
        )


def password_hashes(subject: Subject) -> Iterator[Finding]:
    """A locked account (`!` before the hash) still shows its hash."""
    fields = passwords(subject.text(b"etc/passwd") or "") | passwords(subject.text(b"etc/shadow") or "")
    found = [name for name, field in fields.items() if "$" in field or len(field.lstrip("!*")) >= 13]
    if found:
        commands = " && ".join(f"usermod -p '*' {shlex.quote(name)}" for name in found[:5])
        if subject.program("usermod") is None:
            names = "|".join(map(re.escape, found))
            commands = f"sed -i -E 's/^({names}):[^:]{{2,}}:/\\1:*:/' /etc/passwd /etc/shadow"
        yield warning(
            f"it holds the password hashes of {listed(found)}, {READABLE}",
            f"let people log in with keys, and remove the hashes: {subject.shell(commands)}",
        )


def root_login(subject: Subject) -> Iterator[Finding]:
    fields = passwords(subject.text(b"etc/passwd") or "") | passwords(subject.text(b"etc/shadow") or "")
    field = fields.get("root")
    if field == "":
        yield warning("root has no password: anybody at a console is root", subject.run("passwd", "-l", "root"))
    keys = any((subject.text(b"root/.ssh/" + name) or "").strip() for name in (b"authorized_keys", b"authorized_keys2"))
    locked = field is not None and field[:1] in ("!", "*")
    if locked and not keys and not subject.host.root_keys:
        yield warning(
            "root is locked and has no key, so nobody can get into a node",
            "give its nodes the overlay that brings root's keys: wwctl node set --runtime-overlays hosts,ssh.authorized_keys …",
        )


def ssh_server(subject: Subject) -> Iterator[Finding]:
    if subject.program("sshd", "dropbear") is None:
        yield note(
            "it has no SSH server, so nodes can be entered by their consoles only",
            subject.install(
                "an SSH server", everywhere("openssh-server") | {"suse": "openssh", "arch": "openssh", "alpine": "openssh"}
            ),
        )
