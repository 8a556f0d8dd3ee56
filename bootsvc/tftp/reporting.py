"""What the TFTP server says: lines of requests and of transfers' ends, within a budget, and events for the boot record."""

import logging
import socket
import time
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Protocol

from bootsvc.bootfiles import Refused
from bootsvc.boots import with_why
from bootsvc.net.udp import Budget, Datagram
from bootsvc.tftp.packet import ErrorCode
from bootsvc.tftp.session import Outcome
from bootsvc.tftp.transfers import Transfer, printable

log = logging.getLogger("bootsvc.tftp.service")


class OnEvent(Protocol):
    """Told of each transfer's end, for the boot record."""

    def __call__(
        self, hwaddr: str, node: str | None, stage: str, detail: str, *, size: int = 0, ipaddr: IPv4Address | None = None
    ) -> None: ...


class Identify(Protocol):
    """Which machine has an address."""

    def __call__(self, address: IPv4Address) -> str | None: ...


class Reporter:
    """`name_of` is a node's name by its hardware address."""

    def __init__(self, identify: Identify | None, name_of: Callable[[str], str | None], on_event: OnEvent | None) -> None:
        self._identify = identify
        self._name_of = name_of
        self._on_event = on_event
        self._noise_budget = Budget(rate=1, burst=10)
        self._log_budget = Budget(rate=100, burst=5000)

    def received(self, transfer: Transfer, interface: str) -> None:
        terms = transfer.session.terms
        self._line(
            "RRQ received hwaddr=%s node=%s file=%s size=%d blksize=%d windowsize=%d client=%s if=%s",
            *self._whose(transfer),
            *(printable(transfer.session.filename), transfer.source.size, terms.blksize, terms.windowsize),
            *(transfer.client[0], interface),
        )

    def ended(self, transfer: Transfer, interface: str) -> None:
        session, made = transfer.session, transfer.made
        address = IPv4Address(transfer.client[0])
        name, (hwaddr, node) = printable(session.filename), self._whose(transfer)
        match session.outcome:
            case Outcome.COMPLETE:
                what = "ACK"
            case Outcome.PROBED:
                what = "tsize probe"
            case _:
                what = session.outcome.value
        self._line(
            "%s hwaddr=%s node=%s file=%s bytes=%d client=%s if=%s",
            *(what, hwaddr, node, name, session.acked_bytes, address, interface),
        )
        if self._on_event is not None and hwaddr != "-" and made.stage and session.outcome is not Outcome.PROBED:
            stage = made.stage if session.outcome is Outcome.COMPLETE else f"TFTP {session.outcome.value}"
            self._on_event(hwaddr, made.node, stage, made.name or name, size=session.acked_bytes, ipaddr=address)

    def refused(self, datagram: Datagram, filename: str, code: ErrorCode, message: str) -> None:
        if self._log_budget.take(time.monotonic()):
            hwaddr = self._find_hwaddr(datagram.source) or "-"
            log.info(
                "tftp ERROR %d hwaddr=%s node=%s file=%s client=%s if=%s: %s",
                *(int(code), hwaddr, self._name_of(hwaddr) or "-", printable(filename)),
                *(datagram.source, interface_name(datagram.ifindex), message),
            )

    def not_made(self, datagram: Datagram, reason: Refused) -> None:
        """What a node should have got is no file of a directory, and could not be prepared."""
        hwaddr = self._find_hwaddr(datagram.source)
        if self._on_event is not None and reason.node is not None and hwaddr is not None:
            detail = with_why(reason.reason.value, reason.message)
            self._on_event(hwaddr, reason.node.id, "TFTP", detail, ipaddr=datagram.source)

    def noise(self, text: str, *args: object) -> None:
        if self._noise_budget.take(time.monotonic()):
            log.debug("tftp " + text, *args)

    def _line(self, text: str, *args: object) -> None:
        if self._log_budget.take(time.monotonic()):
            log.info("tftp " + text, *args)

    def _find_hwaddr(self, address: IPv4Address) -> str | None:
        return self._identify(address) if self._identify is not None else None

    def _whose(self, transfer: Transfer) -> tuple[str, str]:
        """Hardware address and node, "-" for what nobody knows."""
        if transfer.hwaddr is None:
            transfer.hwaddr = self._find_hwaddr(IPv4Address(transfer.client[0])) or "-"
        return transfer.hwaddr, transfer.made.node or self._name_of(transfer.hwaddr) or "-"


def interface_name(index: int) -> str:
    """Its name; "-" when it has gone already."""
    try:
        return socket.if_indextoname(index)
    except OSError:
        return "-"
