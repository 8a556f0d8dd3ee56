"""The sockets of one served interface: DHCP, port 4011, frames to machines without an address, and what others answer."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from ipaddress import IPv4Address

from bootsvc.dhcp import options
from bootsvc.dhcp.answer import BROADCAST, CLIENT_PORT, SERVER_PORT, Reply
from bootsvc.dhcp.options import Message
from bootsvc.dhcp.packet import HEADER_SIZE, Op
from bootsvc.dhcp.proxy import PROXY_PORT
from bootsvc.dhcp.request import Arrival
from bootsvc.net.batch import Client
from bootsvc.net.links import Link
from bootsvc.net.overhear import Overhearing
from bootsvc.net.udp import Datagram, FrameSender, UdpEndpoint

log = logging.getLogger(__name__)

RECEIVE_BUFFER = 1 << 20
"""Bytes; some thousand messages. Those that would wait longer than a client does are better lost, and sent again."""
_DISCOVER = bytes((options.MESSAGE_TYPE.code, 1, Message.DISCOVER.value))
_EVERYBODY = b"\xff" * 6
_ZERO = IPv4Address(0)


class Wire:
    """One interface; `links` are our addresses on it, the first of which speaks where the network does not decide."""

    def __init__(self, links: Sequence[Link], *, proxy: bool) -> None:
        self.links = tuple(links)
        self.proxy = proxy
        self.name, self.index = links[0].name, links[0].index
        self.unicast = Arrival(interface=self.name, unicast=True)
        self.broadcast = Arrival(interface=self.name)
        self._endpoint: UdpEndpoint | None = None
        self._proxy_endpoint: UdpEndpoint | None = None
        self._frames: FrameSender | None = None
        self._overhearing: Overhearing | None = None

    def open(
        self,
        receive: Callable[["Wire", Datagram], None],
        receive_proxy: Callable[["Wire", Datagram], None],
        overhear: Callable[["Wire", IPv4Address, bytes], None],
        refused: Callable[["Wire", Client], None],
    ) -> None:
        """Begin to receive. Raises PortUnavailable; nothing is left open then."""
        try:
            self._endpoint = UdpEndpoint.open(_ZERO, SERVER_PORT, interface=self.name, receive_buffer=RECEIVE_BUFFER)
            if self.proxy:
                self._proxy_endpoint = UdpEndpoint.open(_ZERO, PROXY_PORT, interface=self.name)
        except BaseException:
            self.close()
            raise
        try:
            self._frames = FrameSender(self.name)
            # A relay's requests, too, come from the server port; replies alone are of interest.
            self._overhearing = Overhearing(self.name, SERVER_PORT, Op.BOOTREPLY, partial(overhear, self))
        except OSError as exc:
            log.info("replies to machines without an address are broadcast on %s: %s", self.name, exc.strerror)
        not_sent = partial(refused, self)
        self._endpoint.start(partial(receive, self), urgent=_begins_an_exchange, refused=not_sent)
        if self._proxy_endpoint is not None:
            self._proxy_endpoint.start(partial(receive_proxy, self), refused=not_sent)

    def close(self) -> None:
        for socket in (self._endpoint, self._proxy_endpoint, self._frames, self._overhearing):
            if socket is not None:
                socket.close()
        self._endpoint = self._proxy_endpoint = self._frames = self._overhearing = None

    def send(self, reply: Reply, data: bytes, source: IPv4Address, *, from_proxy: bool = False) -> bool:
        """False when the interface is closed already; what the kernel refuses is said later."""
        to = (reply.destination, CLIENT_PORT)
        if reply.chaddr is not None and self._frames and self._frames.send(data, reply.chaddr, (source, SERVER_PORT), to):
            return True
        endpoint = self._proxy_endpoint if from_proxy else self._endpoint
        if endpoint is None:
            return False
        # The decision uses the constant itself for a broadcast.
        destination = BROADCAST if reply.chaddr is not None else reply.destination
        # A unicast takes the way of the routing table: a relay may be reached through another interface.
        ifindex = self.index if destination is BROADCAST or not int(reply.packet.giaddr) else 0
        endpoint.send(data, destination, reply.port, ifindex=ifindex, source=source)
        return True

    def ask(self, data: bytes) -> bool:
        """Broadcast as a client without an address does; our own sockets do not hear it."""
        if self._frames is None:
            return False
        return self._frames.send(data, _EVERYBODY, (_ZERO, CLIENT_PORT), (BROADCAST, SERVER_PORT))


def _begins_an_exchange(datagram: Datagram) -> bool:
    """Exchanges that have begun are ended first: under overload some clients then get an address, and not none.

    Clients write the message type first; one that does not waits its turn.
    """
    return datagram.data[HEADER_SIZE : HEADER_SIZE + 3] == _DISCOVER
