"""Which link carries the boot network."""

import contextlib
import os
import resource
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network

import pytest

from bootsvc.errors import NoInterface
from bootsvc.net.links import Link, choose_link, find_link, is_current, list_links

LINKS = [
    Link(name=name, index=index, hwaddr="", address=IPv4Address(address), network=IPv4Network(address + "/24", strict=False))
    for index, (name, address) in enumerate((("lo", "127.0.0.1"), ("eth0", "192.168.1.5"), ("eth1", "10.0.0.1")))
]


@pytest.mark.parametrize(
    ("ipaddr", "network", "name"),
    [("10.0.0.1", None, "eth1"), ("192.168.1.5", "10.0.0.0/24", "eth0"), (None, "10.0.0.0/8", "eth1")],
)
def test_choose(ipaddr: str | None, network: str | None, name: str) -> None:
    wanted = IPv4Address(ipaddr) if ipaddr else None
    assert choose_link(LINKS, wanted, IPv4Network(network) if network else None).name == name


@pytest.mark.parametrize(
    ("ipaddr", "network", "sentence"),
    [
        ("10.0.0.2", "10.0.0.0/24", "no network interface carries 10.0.0.2"),
        (None, "172.16.0.0/16", "no network interface carries 172.16.0.0/16"),
        (None, None, "no network interface carries a configured network"),
    ],
)
def test_none(ipaddr: str | None, network: str | None, sentence: str) -> None:
    with pytest.raises(NoInterface) as caught:
        choose_link(LINKS, IPv4Address(ipaddr) if ipaddr else None, IPv4Network(network) if network else None)
    assert str(caught.value) == sentence
    assert "warewulf.conf" in str(caught.value.hint)


async def test_the_links_of_this_machine() -> None:
    loopback = await find_link(IPv4Address("127.0.0.1"), None)
    assert (loopback.name, loopback.network) == ("lo", IPv4Network("127.0.0.0/8"))
    assert is_current(loopback)
    assert not is_current(Link(name="lo", index=9999, hwaddr="", address=loopback.address, network=loopback.network))
    assert not is_current(Link(name="none9", index=1, hwaddr="", address=loopback.address, network=loopback.network))


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """A process that has all descriptors in use."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    first = os.open("/dev/null", os.O_RDONLY)
    resource.setrlimit(resource.RLIMIT_NOFILE, (first + 1, hard))
    taken = [first]
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)


async def test_without_descriptors_no_interface_counts_as_gone() -> None:
    with no_descriptors():
        assert is_current(LINKS[0])
        with pytest.raises(OSError, match="Too many open files"):
            await list_links()
    assert not is_current(LINKS[0])
