"""The interface of a TCP connection, as the kernel tells it; other interfaces than `lo` are in the tests of the server."""

import socket
from collections.abc import Iterator

import pytest

from bootsvc.net.arrival import UNKNOWN, arrival_interface


@pytest.fixture(params=["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def accepted(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.socket(family) as listener:
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        try:
            listener.bind((request.param, 0))
        except OSError:
            pytest.skip("no IPv6 here")
        listener.listen()
        with socket.create_connection((request.param, listener.getsockname()[1])):
            sock, _ = listener.accept()
            with sock:
                yield sock


def test_it_came_by_loopback(accepted: socket.socket) -> None:
    assert arrival_interface(accepted) == "lo"
    accepted.close()
    assert arrival_interface(accepted) == UNKNOWN
