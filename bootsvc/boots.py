"""What happened to a machine on its way up: events, and which of them say where its boot stands (pure)."""

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address
from typing import Protocol, TypeVar

import msgspec

from netboot.urls import Event, Stage


class BootEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """`node` is None for an unknown machine, `sent` names what it got, `size` in bytes, `when` in seconds since 1970."""

    hwaddr: str
    node: str | None
    stage: str
    sent: str
    when: float
    size: int = 0
    ipaddr: IPv4Address | None = None
    why: str = ""
    """A sentence, where `sent` is the word for what went wrong."""

    @property
    def detail(self) -> str:
        """What is kept: `sent`, and why."""
        return with_why(self.sent, self.why)


def with_why(sent: str, why: str) -> str:
    return f"{sent}{_WHY}{why}" if why else sent


def sent_and_why(detail: str) -> tuple[str, str]:
    """The two parts of a detail that was kept; only words such as NOT_FOUND have the second one."""
    sent, _, why = detail.partition(_WHY)
    return (sent, why) if why and sent.replace("_", "").isupper() else (detail, "")


class Known(Protocol):
    """The last event of a machine, as it was kept."""

    @property
    def node(self) -> str | None: ...
    @property
    def stage(self) -> str: ...
    @property
    def when(self) -> float: ...


KnownT = TypeVar("KnownT", bound=Known)
DHCP_PREFIX = "DHCP "
_WHY = ": "
_UP = Event.UP.value
RUNTIME_OVERLAY = f"{Stage.RUNTIME.value} overlay"


def tells_of_boot(event: BootEvent, last: Known | None) -> bool:
    """Whether the event changes where the boot stands.

    A system that is up goes on asking for its address, and for its runtime overlay; only a DHCP answer with a boot file belongs
    to a boot.
    """
    if last is None or last.stage != _UP:
        return True
    goes_on = event.stage == RUNTIME_OVERLAY or (event.stage.startswith(DHCP_PREFIX) and not event.sent)
    return not goes_on


def newest_by_node(events: Iterable[KnownT]) -> Mapping[str, KnownT]:
    """The newest event of every node, whichever of its devices it came from."""
    newest: dict[str, KnownT] = {}
    for event in events:
        if event.node is not None and (event.node not in newest or event.when >= newest[event.node].when):
            newest[event.node] = event
    return newest
