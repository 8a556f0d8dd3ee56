"""The lease table and reservations; time is an argument."""

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from bootsvc.dhcp import leases
from bootsvc.dhcp.leases import DECLINE_SECONDS, OFFER_SECONDS, Lease, LeaseState, LeaseTable, lease_for
from bootsvc.dhcp.options import Message
from bootsvc.dhcp.request import BootRequest, Client
from bootsvc.dhcp.reservations import reservation
from netboot.node import Node, to_node

NETWORK = IPv4Network("10.0.0.0/24")
FIRST, LAST = IPv4Address("10.0.0.100"), IPv4Address("10.0.0.103")
A, B, C, D, E, F = (f"52:54:00:00:00:0{digit}" for digit in "abcdef")


def table(*excluded: str, first: IPv4Address = FIRST, last: IPv4Address = LAST) -> LeaseTable:
    made = LeaseTable(lambda address: str(address) in excluded)
    made.configure(first, last)
    return made


def bound(made: LeaseTable, hwaddr: str, now: float, seconds: int = 100) -> Lease:
    offered = made.offer(hwaddr, None, now)
    assert offered is not None
    return made.bind(offered, seconds, now)


def addresses(*found: Lease | None) -> list[str]:
    return ["-" if lease is None else str(lease.address) for lease in found]


def test_each_machine_gets_its_own() -> None:
    made = table()
    assert addresses(*(made.offer(hwaddr, None, 0) for hwaddr in (A, B, A, C, D, E))) == [
        "10.0.0.100",
        "10.0.0.101",
        "10.0.0.100",
        "10.0.0.102",
        "10.0.0.103",
        "-",
    ]


def test_an_offer_that_nobody_took_is_free_again() -> None:
    made = table(last=FIRST)
    made.offer(A, None, 0)
    assert made.offer(B, None, OFFER_SECONDS - 1) is None
    assert addresses(made.offer(B, None, OFFER_SECONDS)) == ["10.0.0.100"]


def test_bound_until_it_expires_and_then_still_preferred() -> None:
    made = table()
    lease = bound(made, A, 0)
    assert (lease.expires, lease.state) == (100, LeaseState.BOUND)
    assert made.offer(A, None, 50) == lease
    assert addresses(bound(made, B, 200)) == ["10.0.0.101"], "fresh addresses come before expired ones"
    assert addresses(made.offer(A, None, 300)) == ["10.0.0.100"]


def test_the_longest_expired_is_taken_first() -> None:
    made = table()
    for now, hwaddr in enumerate((A, B, C, D)):
        bound(made, hwaddr, now)
    bound(made, A, 50)
    assert addresses(made.offer(E, None, 120)) == ["10.0.0.101"]
    assert made.find(B) is None
    assert made.find_hwaddr(IPv4Address("10.0.0.101")) == E


def test_the_requested_address_is_given_when_free() -> None:
    made = table("10.0.0.102")
    assert addresses(made.offer(A, IPv4Address("10.0.0.103"), 0)) == ["10.0.0.103"]
    assert addresses(made.offer(B, IPv4Address("10.0.0.103"), 0)) == ["10.0.0.100"]
    assert addresses(made.offer(C, IPv4Address("10.0.0.102"), 0)) == ["10.0.0.101"], "excluded"
    assert addresses(made.offer(D, IPv4Address("192.168.1.1"), 0)) == ["-"], "outside, and the range is used up"


def test_a_reserved_address_is_never_given() -> None:
    made = table("10.0.0.100", "10.0.0.102")
    assert addresses(*(made.offer(hwaddr, None, 0) for hwaddr in (A, B, C))) == ["10.0.0.101", "10.0.0.103", "-"]


def test_a_lease_whose_address_became_reserved_is_over() -> None:
    reserved: set[IPv4Address] = set()
    made = LeaseTable(reserved.__contains__)
    made.configure(FIRST, LAST)
    bound(made, A, 0)
    reserved.add(FIRST)
    assert made.find(A) is None
    assert addresses(made.offer(A, None, 1)) == ["10.0.0.101"]
    reserved.clear()
    made.configure(FIRST, LAST)
    assert addresses(made.offer(B, None, 1)) == ["10.0.0.100"]


def test_a_range_that_is_corrected_has_its_leases_again() -> None:
    made = table()
    bound(made, A, 0)
    bound(made, B, 0)
    made.configure(IPv4Address("10.0.0.102"), LAST)
    assert made.find(A) is None
    assert addresses(*(made.offer(hwaddr, None, 1) for hwaddr in (B, C, D))) == ["10.0.0.102", "10.0.0.103", "-"]
    assert made.offer(D, None, 1000) is not None, "of those in the range"
    made.configure(FIRST, LAST)
    assert addresses(made.find(A)) == ["10.0.0.100"]
    assert addresses(*(made.offer(hwaddr, None, 50) for hwaddr in (E, A, F))) == ["10.0.0.101", "10.0.0.100", "-"], "B moved"


def test_release_keeps_the_preference() -> None:
    made = table(last=IPv4Address("10.0.0.101"))
    bound(made, A, 0)
    assert made.release(A, IPv4Address("10.0.0.101"), 10) is None
    released = made.release(A, FIRST, 10)
    assert released is not None
    assert (released.state, released.expires) == (LeaseState.RELEASED, 10)
    assert addresses(made.offer(B, None, 11), made.offer(A, None, 12)) == ["10.0.0.101", "10.0.0.100"]


def test_a_declined_address_is_set_aside() -> None:
    made = table(last=IPv4Address("10.0.0.101"))
    bound(made, A, 0)
    assert made.decline(B, FIRST, 10) is None, "not its address"
    assert made.decline(A, FIRST, 10) is not None
    assert made.find(A) is None
    assert addresses(bound(made, A, 11, seconds=5000)) == ["10.0.0.101"]
    assert made.offer(B, FIRST, 11) is None
    assert addresses(made.offer(B, None, 10 + DECLINE_SECONDS)) == ["10.0.0.100"]


def test_load_takes_the_later_of_two_rows_and_drops_the_rest() -> None:
    made = table()
    made.load(
        [
            Lease(address=IPv4Address("10.0.0.101"), hwaddr=A, expires=100),
            Lease(address=IPv4Address("10.0.0.102"), hwaddr=A, expires=200),
            Lease(address=IPv4Address("10.0.9.1"), hwaddr=B, expires=200),
        ]
    )
    assert addresses(made.find(A), made.find(B)) == ["10.0.0.102", "-"]
    assert made.find_hwaddr(IPv4Address("10.0.0.101")) is None


def test_the_range_is_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "MAX_LEASES", 2)
    made = table(first=IPv4Address("10.0.0.0"), last=IPv4Address("10.255.255.255"))
    assert addresses(*(made.offer(hwaddr, None, 0) for hwaddr in (A, B, C))) == ["10.0.0.0", "10.0.0.1", "-"]


def test_no_range() -> None:
    made = LeaseTable(lambda address: False)
    assert made.offer(A, None, 0) is None
    made.configure(None, None)
    assert made.offer(A, FIRST, 0) is None


class Flood(RuleBasedStateMachine):
    """Whatever happens, no two machines hold one address, and nobody holds a reserved one."""

    def __init__(self) -> None:
        super().__init__()
        self.table = table("10.0.0.101")
        self.now = 0.0
        self.held: dict[str, Lease] = {}

    hwaddrs = st.sampled_from([A, B, C, D, E])

    @rule(hwaddr=hwaddrs, wish=st.integers(98, 105))
    def ask(self, hwaddr: str, wish: int) -> None:
        offered = self.table.offer(hwaddr, IPv4Address(f"10.0.0.{wish}"), self.now)
        if offered is not None:
            self.held[hwaddr] = self.table.bind(offered, 50, self.now)

    @rule(seconds=st.integers(1, 700))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule(hwaddr=hwaddrs)
    def decline(self, hwaddr: str) -> None:
        lease = self.held.pop(hwaddr, None)
        if lease is not None:
            self.table.decline(hwaddr, lease.address, self.now)

    @rule(hwaddr=hwaddrs)
    def release(self, hwaddr: str) -> None:
        lease = self.held.pop(hwaddr, None)
        if lease is not None:
            self.table.release(hwaddr, lease.address, self.now)

    @invariant()
    def no_address_twice(self) -> None:
        current = [lease for lease in self.held.values() if lease.expires > self.now]
        assert len({lease.address for lease in current}) == len(current)
        assert IPv4Address("10.0.0.101") not in {lease.address for lease in current}
        for lease in current:
            assert self.table.find(lease.hwaddr) == lease


TestFlood = Flood.TestCase
TestFlood.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def node(**device: str) -> Node:
    return to_node("n1", {"network devices": {"default": {"hwaddr": A.upper(), **device}}})


def request(**fields: object) -> BootRequest:
    base = BootRequest(message=Message.DISCOVER, hwaddr=A, xid=1, client=Client.OS, interface="eth0")
    return replace(base, **fields)


def test_reservation() -> None:
    lease = reservation(node(ipaddr="10.0.0.7"), A, NETWORK)
    assert lease == Lease(address=IPv4Address("10.0.0.7"), hwaddr=A, state=LeaseState.RESERVED)
    assert reservation(node(), A, NETWORK) is None
    assert reservation(node(ipaddr="10.0.0.7"), B, NETWORK) is None
    assert reservation(None, A, NETWORK) is None


@pytest.mark.parametrize(
    ("text", "mtu"), [("9000", 9000), ("68", 68), ("67", None), ("65536", None), ("jumbo", None), ("-9000", None), ("", None)]
)
def test_a_reservation_has_its_devices_mtu(text: str, mtu: int | None) -> None:
    lease = reservation(node(ipaddr="10.0.0.7", mtu=text), A, NETWORK)
    assert lease is not None
    assert lease.mtu == mtu


@pytest.mark.parametrize(
    ("device", "giaddr", "expected"),
    [
        ({"ipaddr": "10.0.0.7"}, "0.0.0.0", "10.0.0.7"),
        ({}, "0.0.0.0", "10.0.0.100"),
        # An address of another network is no use on this one.
        ({"ipaddr": "192.168.5.7"}, "0.0.0.0", "10.0.0.100"),
        ({"ipaddr": "192.168.5.7", "netmask": "255.255.255.0"}, "192.168.5.1", "192.168.5.7"),
        ({"ipaddr": "192.168.5.7", "netmask": "255.255.255.0"}, "192.168.6.1", "-"),
        ({"ipaddr": "10.0.0.7"}, "10.0.0.254", "10.0.0.7"),
        ({}, "192.168.5.1", "-"),
    ],
)
def test_lease_for(device: dict[str, str], giaddr: str, expected: str) -> None:
    asked = request(giaddr=IPv4Address(giaddr))
    reserved = reservation(node(**device), A, NETWORK)
    assert addresses(lease_for(asked, reserved, table(), NETWORK, 0)) == [expected]


def test_only_a_discover_makes_a_lease() -> None:
    made = table()
    assert lease_for(request(message=Message.REQUEST), None, made, NETWORK, 0) is None
    offered = lease_for(request(), None, made, NETWORK, 0)
    assert offered is not None
    assert lease_for(request(message=Message.REQUEST), None, made, NETWORK, 0) == offered


def test_checked_addresses_are_given_first_and_used_ones_are_set_aside() -> None:
    made = table()
    due = made.to_check(3, 0)
    assert [str(address) for address in due] == ["10.0.0.100", "10.0.0.101", "10.0.0.102"]
    assert made.to_check(3, 1) == [], "their checks run"
    taken = made.checked(due[0], "52:54:00:00:00:99", 1)
    assert taken is not None
    assert (taken.state, taken.expires) == (LeaseState.DECLINED, 1 + DECLINE_SECONDS)
    made.checked(due[2], None, 1)
    assert addresses(made.offer(A, None, 2)) == ["10.0.0.102"], "the one whose check is over"
    assert addresses(made.offer(B, None, 2)) == ["10.0.0.101"], "no client waits for a check"
    assert made.checked(due[1], None, 3) is None, "it was given meanwhile"
    assert addresses(made.offer(C, due[0], 3)) == ["10.0.0.103"]
    assert made.offer(D, None, 3) is None
    assert addresses(made.offer(D, due[0], 1 + DECLINE_SECONDS)) == ["10.0.0.100"]


def test_a_check_is_repeated_and_covers_expired_addresses() -> None:
    made = table(last=IPv4Address("10.0.0.101"))
    bound(made, A, 0)
    for address in made.to_check(5, 1):
        made.checked(address, None, 1)
    assert [str(address) for address in made.to_check(5, 1 + leases.CHECK_SECONDS)] == ["10.0.0.101", "10.0.0.100"]
    assert addresses(made.find(A)) == ["10.0.0.100"], "an address whose lease is over stays its machine's"
    assert addresses(made.offer(A, None, 400)) == ["10.0.0.100"]


def doubtful(lease: Lease | None) -> bool:
    assert lease is not None
    return lease.doubtful


def test_what_a_machine_names_is_doubtful_unless_it_was_checked() -> None:
    made = table()
    for address in made.to_check(2, 0):
        made.checked(address, None, 0)
    assert not doubtful(made.offer(A, FIRST, 1))
    assert not doubtful(made.offer(B, None, 1))
    assert doubtful(made.offer(C, LAST, 1))
    assert doubtful(made.offer(C, None, 2)), "until somebody looked"
    made.prove(B, LAST, 2)
    made.prove(C, LAST, 2)
    assert not doubtful(made.offer(C, LAST, 2))
    made.to_check(1, 2)
    assert doubtful(made.offer(D, IPv4Address("10.0.0.102"), 2)), "its check is not over"
    assert doubtful(table().regain(A, FIRST, 0))


def test_what_a_machine_had_is_doubtful_after_a_while() -> None:
    made = table()
    bound(made, A, 0)
    late = 100 + leases.CHECK_SECONDS
    for asked in (request(), request(message=Message.REQUEST, requested=FIRST)):
        assert [doubtful(lease_for(asked, None, made, NETWORK, now)) for now in (50, late - 1)] == [False, False]
    made.release(A, FIRST, 200)
    assert not doubtful(made.offer(A, None, 201)), "its own a moment ago"
    made = table()
    bound(made, A, 0)
    assert doubtful(lease_for(request(message=Message.REQUEST, requested=FIRST), None, made, NETWORK, late))
    assert doubtful(made.offer(A, None, late))
    made.prove(A, FIRST, late)
    assert not doubtful(lease_for(request(message=Message.REQUEST, requested=FIRST), None, made, NETWORK, late))
    assert not bound(made, A, late).doubtful


def test_what_another_machine_uses_is_set_aside_unless_it_is_its_own() -> None:
    made = table()
    made.offer(A, FIRST, 0)
    taken = made.set_aside(FIRST, E, 1)
    assert taken is not None
    assert (taken.state, taken.hwaddr, taken.expires) == (LeaseState.DECLINED, E, 1 + DECLINE_SECONDS)
    assert made.find(A) is None
    assert addresses(made.offer(A, FIRST, 2)) == ["10.0.0.101"]
    bound(made, B, 3)
    assert made.set_aside(IPv4Address("10.0.0.102"), B, 4) is None, "given meanwhile"
    assert addresses(made.find(B)) == ["10.0.0.102"]


def test_an_offer_is_found_again_after_a_restart() -> None:
    made = table("10.0.0.101")
    asked = request(message=Message.REQUEST, server_id=IPv4Address("10.0.0.1"), requested=LAST)
    assert addresses(lease_for(asked, None, made, NETWORK, 0)) == [str(LAST)]
    assert addresses(lease_for(replace(asked, hwaddr=B), None, made, NETWORK, 1)) == ["-"], "another machine has it"
    reserved = replace(asked, hwaddr=B, requested=IPv4Address("10.0.0.101"))
    assert addresses(lease_for(reserved, None, made, NETWORK, 1)) == ["-"]
    init_reboot = replace(asked, hwaddr=C, server_id=None, requested=FIRST)
    assert addresses(lease_for(init_reboot, None, made, NETWORK, 1)) == ["-"], "nobody says that it was ours"


def test_a_node_behind_a_relay_renews_by_itself() -> None:
    far = reservation(node(ipaddr="192.168.5.7", netmask="255.255.255.0"), A, NETWORK)
    renewing = request(message=Message.REQUEST, ciaddr=IPv4Address("192.168.5.7"), unicast=True)
    assert addresses(lease_for(renewing, far, table(), NETWORK, 0)) == ["192.168.5.7"]
    assert addresses(lease_for(replace(renewing, unicast=False), far, table(), NETWORK, 0)) == ["-"]
