"""The systemd unit of the server, written for this installation: where `wwctl` is, and which folders it may change."""

from collections.abc import Iterable
from pathlib import Path

from bootsvc.config import Config
from bootsvc.process.privileges import FOR_OPENING, NEEDED

PLACE = Path("/etc/systemd/system/bootsvc.service")

_UNIT = """\
# Written by `wwctl server --install-unit`; local changes belong in bootsvc.service.d/*.conf.
[Unit]
Description=Boot services for stateless nodes (DHCP, TFTP, HTTP, DNS)
Documentation=man:systemd.service(5)
Wants=network-online.target
After=network-online.target
# Two servers on these ports would answer for each other.
Conflicts=warewulfd.service

[Service]
Type=notify
ExecStart={command}
# The shell's own kill: a minimal Debian has no other.
ExecReload=/bin/sh -c 'kill -HUP $MAINPID'
Restart=on-failure
RestartSec=2
WatchdogSec=30
LimitNOFILE=65536
# A thousand machines that are switched on at once are twenty thousand lines; strangers cannot make that many.
LogRateLimitBurst=200000
UMask=0022

CapabilityBoundingSet={capabilities}
AmbientCapabilities=
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths={writable}
# root's public keys are what lets root in on nodes.
ProtectHome=read-only
PrivateTmp=yes
PrivateDevices=yes
PrivateMounts=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_NETLINK AF_PACKET AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""


def render(config: Config, wwctl: Path) -> str:
    """The unit's text."""
    command = [str(wwctl)]
    if config.source != Config().source:
        command += ["--warewulfconf", str(config.source)]
    return _UNIT.format(
        command=" ".join(map(_quoted, [*command, "server"])),
        capabilities=" ".join({**NEEDED, **FOR_OPENING}),
        writable=" ".join(f"-{_quoted(str(path))}" for path in writable(config)),
    )


def writable(config: Config) -> Iterable[Path]:
    """State and caches; what is built on demand; and nodes.conf, for machines that register themselves."""
    paths = config.paths
    folders = (paths.state.parent, paths.nodes_conf.parent, paths.provision, paths.blob_cache)
    return [path for path in folders if not any(path != other and path.is_relative_to(other) for other in folders)]


def _quoted(word: str) -> str:
    """As systemd reads it: % and $ are its own (systemd.service(5))."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if any(char in escaped for char in " '\"\\;") else escaped
