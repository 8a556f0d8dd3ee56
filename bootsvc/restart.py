"""What of a changed warewulf.conf a running server takes over, and what waits until it is started again."""

from dataclasses import replace

from bootsvc.config import Config


def until_restart(old: Config, new: Config) -> tuple[Config, list[str]]:
    """`new`, but what the running sockets were made from stays `old`, so that no answer mixes the two; and what that is."""
    waiting = [name for name in ("ipaddr", "network", "paths", "http") if getattr(new, name) != getattr(old, name)]
    kept = replace(new, **{name: getattr(old, name) for name in waiting})
    if "ipaddr" in waiting or "network" in waiting:
        # The new range lies in the new network.
        kept = replace(kept, dhcp=old.dhcp)
    for name in ("dhcp", "tftp", "dns"):
        enabled = getattr(old, name).enabled
        if getattr(new, name).enabled != enabled:
            waiting.append(f"{name} enabled")
            kept = replace(kept, **{name: replace(getattr(kept, name), enabled=enabled)})
    return kept, waiting
