"""Buffers, as the kernel says that they are: it doubles what it is told (socket(7))."""

import socket
from pathlib import Path

import pytest

from bootsvc.net.buffers import set_buffers


@pytest.mark.root
def test_beyond_the_systems_maximum() -> None:
    most = int(Path("/proc/sys/net/core/rmem_max").read_text())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        before = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        set_buffers(sock, receive=most + 4096)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 2 * (most + 4096)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == before
        set_buffers(sock, send=before)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * before
