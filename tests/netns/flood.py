"""Hostile packets to the ports of DHCP, TFTP and DNS, in the current network namespace: `flood.py SETTINGS.json`.

Random bytes, and real messages that are cut, changed, or lie about lengths. After each burst a well-behaved machine asks
the same port and gets its answer: that is the proof that it is served, and that the burst was taken in and not dropped.
Prints `half`, waits for a line, prints `done` and a line of JSON.
"""

import json
import random
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

BURST = 200
TRIES = 20
PORTS = {"dhcp": 67, "tftp": 69, "dns": 53}
COOKIE = bytes((99, 130, 83, 99))


class Target(Protocol):
    """One of the ports."""

    def sample(self) -> bytes: ...
    def send(self, data: bytes) -> None: ...
    def question(self) -> tuple[bytes, Callable[[bytes], bool]]: ...


def mutated(rng: random.Random, sample: bytes) -> bytes:
    data = bytearray(sample)
    match rng.randrange(6):
        case 0:
            return rng.randbytes(rng.randrange(1200))
        case 1:
            del data[rng.randrange(len(data)) :]
        case 2:
            for _ in range(rng.randint(1, 20)):
                data[rng.randrange(len(data))] = rng.getrandbits(8)
        case 3:
            at = rng.randrange(len(data))
            data[at:] = rng.randbytes(rng.randrange(600))
        case 4:
            at = rng.randrange(len(data))
            data[at:at] = bytes((rng.choice((0, 12, 52, 53, 61, 77, 82, 192, 255)), rng.getrandbits(8))) * rng.randint(1, 50)
        case _:
            return sample
    return bytes(data)


def _sockets(address: str, ports: list[int]) -> list[socket.socket]:
    found = []
    for port in ports:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.bind((address, port))
        found.append(sock)
    return found


class Senders:
    """Sockets of the hostile address; what comes back is read and thrown away, and sometimes answered with noise."""

    def __init__(self, rng: random.Random, server: str, address: str, ports: list[int], to: int) -> None:
        self._rng, self._server, self._to = rng, server, to
        self._sockets = _sockets(address, ports)

    def send(self, data: bytes, destination: str = "") -> None:
        sock = self._rng.choice(self._sockets)
        try:
            _, peer = sock.recvfrom(65535)
            sock.sendto(self._rng.randbytes(self._rng.randrange(64)), peer)
        except OSError:
            pass
        try:
            sock.sendto(data, (destination or self._server, self._to))
        except OSError:
            return


class Dhcp:
    def __init__(self, rng: random.Random, settings: dict[str, Any]) -> None:
        self._rng, self._address = rng, settings["address"]
        self._real = [bytes.fromhex(message) for message in settings["requests"]]
        self._senders = Senders(rng, settings["server"], settings["hostile"], [68, 1068], 67)

    def sample(self) -> bytes:
        data = bytearray(self._rng.choice(self._real))
        # Also from machines that nobody has ever seen.
        data[4:8] = self._rng.randbytes(4)
        data[28:34] = b"\x02" + self._rng.randbytes(5)
        return bytes(data)

    def send(self, data: bytes) -> None:
        self._senders.send(data, self._rng.choice(("255.255.255.255", "")))

    def question(self) -> tuple[bytes, Callable[[bytes], bool]]:
        xid = self._rng.randbytes(4)
        fixed = bytes((1, 1, 6, 0)) + xid + bytes(4) + socket.inet_aton(self._address) + bytes(12)
        inform = (fixed + bytes.fromhex("5254000000ee")).ljust(236, b"\0") + COOKIE + bytes((53, 1, 8, 255))
        return inform.ljust(300, b"\0"), lambda answer: answer[4:8] == xid and b"\x35\x01\x05" in answer[240:]


class Tftp:
    def __init__(self, rng: random.Random, settings: dict[str, Any]) -> None:
        self._rng = rng
        self._senders = Senders(rng, settings["server"], settings["hostile"], list(range(20_000, 20_064)), 69)

    def sample(self) -> bytes:
        name = self._rng.choice((b"undionly.kpxe", b"snponly.efi", b"../../etc/shadow", b"grub.cfg", b"\xff" * 40, b"a/" * 300))
        options = (b"blksize", b"1468", b"tsize", b"0", b"windowsize", b"%d" % self._rng.getrandbits(20), b"timeout", b"255")
        words = [name, self._rng.choice((b"octet", b"netascii", b"mail")), *options[: 2 * self._rng.randrange(5)], b""]
        return struct.pack("!H", self._rng.choice((1, 1, 1, 2, 3, 4, 5, 6))) + b"\0".join(words)

    def send(self, data: bytes) -> None:
        self._senders.send(data)

    def question(self) -> tuple[bytes, Callable[[bytes], bool]]:
        return b"\0\x01no-such-file\0octet\0", lambda answer: answer[:4] == b"\0\x05\0\x01"


class Dns:
    def __init__(self, rng: random.Random, settings: dict[str, Any]) -> None:
        self._rng = rng
        self._senders = Senders(rng, settings["server"], settings["hostile"], list(range(21_000, 21_016)), 53)

    def sample(self) -> bytes:
        return self._query(self._rng.choice(("n1.cluster", "x.cluster", "11.0.77.10.in-addr.arpa", "a" * 63 + ".cluster")))

    def _query(self, name: str) -> bytes:
        labels = b"".join(bytes((len(label),)) + label.encode() for label in name.split("."))
        kind = self._rng.choice((1, 12, 28, 255, 41))
        return (
            self._rng.randbytes(2)
            + struct.pack("!5H", 0x100, 1, 0, 0, 1)
            + labels
            + struct.pack("!BHH", 0, kind, 1)
            + (b"\0\0\x29\x04\xd0\0\0\0\0\0\0")
        )

    def send(self, data: bytes) -> None:
        self._senders.send(data)

    def question(self) -> tuple[bytes, Callable[[bytes], bool]]:
        id_ = self._rng.randbytes(2)
        query = id_ + struct.pack("!5H", 0x100, 1, 0, 0, 0) + b"\x02n1\x07cluster\0" + struct.pack("!HH", 1, 1)
        return query, lambda answer: answer[:2] == id_ and answer.endswith(socket.inet_aton("10.77.0.11"))


class Client:
    """The machine that behaves; its answers come to the port that it asked from."""

    def __init__(self, server: str, address: str) -> None:
        self._server = server
        self._sockets = dict(zip(PORTS, _sockets(address, [68, 0, 0]), strict=True))
        self.repeated: Counter[str] = Counter()
        self.slowest = 0.0

    def ask(self, kind: str, question: bytes, fits: Callable[[bytes], bool]) -> None:
        sock, began = self._sockets[kind], time.monotonic()
        sock.settimeout(1)
        for _ in range(TRIES):
            sock.sendto(question, (self._server, PORTS[kind]))
            try:
                while not fits(sock.recv(65535)):
                    pass
            except TimeoutError:
                self.repeated[kind] += 1
                continue
            self.slowest = max(self.slowest, time.monotonic() - began)
            return
        raise SystemExit(f"{kind} answers nothing any more")


def main(settings: dict[str, Any]) -> None:
    rng, sent, told, began = random.Random(settings["seed"]), 0, False, time.monotonic()
    targets: dict[str, Target] = {"dhcp": Dhcp(rng, settings), "tftp": Tftp(rng, settings), "dns": Dns(rng, settings)}
    client = Client(settings["server"], settings["address"])
    while sent < settings["packets"]:
        if not told and sent >= settings["packets"] // 2:
            told = True
            print("half", flush=True)
            sys.stdin.readline()
        kind = rng.choice(list(targets))
        for _ in range(BURST):
            targets[kind].send(mutated(rng, targets[kind].sample()))
        client.ask(kind, *targets[kind].question())
        sent += BURST
    last = {"seconds": time.monotonic() - began, "asked again": dict(client.repeated), "slowest": client.slowest}
    print(f"done\n{json.dumps(last)}", flush=True)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
