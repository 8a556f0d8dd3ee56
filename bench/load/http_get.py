"""HTTP load: `http_get.py URL CLIENTS`. Each client fetches the URL once; bodies are discarded in the kernel (MSG_TRUNC).

Prints wall seconds and bytes received. Needs nothing but the standard library, so that it costs the server's machine little.
"""

import select
import socket
import sys
import time
from urllib.parse import urlsplit

BLOCK = 4 << 20


def main() -> None:
    url, clients = urlsplit(sys.argv[1]), int(sys.argv[2])
    address = (url.hostname or "", url.port or 80)
    path = url.path + (f"?{url.query}" if url.query else "")
    poll = select.epoll()
    left: dict[int, tuple[socket.socket, int]] = {}
    scratch = bytearray(BLOCK)
    start = time.monotonic()
    for _ in range(clients):
        sock = socket.create_connection(address)
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode())
        left[sock.fileno()] = (sock, -1)
        poll.register(sock, select.EPOLLIN)
    total = 0
    while left:
        for number, _ in poll.poll():
            sock, due = left[number]
            if due < 0:
                due = _head(sock)
                got = 0
            else:
                got = sock.recv_into(scratch, BLOCK, socket.MSG_TRUNC)
                if not got:
                    sys.exit(f"the server closed the connection {due} bytes early")
            due, total = due - got, total + got
            left[number] = (sock, due)
            if due == 0:
                poll.unregister(sock)
                sock.close()
                del left[number]
    print(time.monotonic() - start, total)


def _head(sock: socket.socket) -> int:
    """Read the answer's head and no byte more; the length of what follows."""
    seen = sock.recv(4096, socket.MSG_PEEK)
    end = seen.find(b"\r\n\r\n")
    if end < 0:
        sys.exit("the head of the answer did not come at once")
    head = sock.recv(end + 4).decode("latin-1").lower()
    if " 200 " not in head.partition("\r\n")[0]:
        sys.exit(head.partition("\r\n")[0])
    return int(head.partition("content-length:")[2].partition("\r\n")[0])


main()
