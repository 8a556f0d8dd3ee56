"""What a running server takes over of changed settings."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from bootsvc.config import Config, Paths
from bootsvc.dhcp.settings import DhcpConfig
from bootsvc.dns.settings import DnsConfig
from bootsvc.http.settings import HttpConfig
from bootsvc.restart import until_restart
from bootsvc.tftp.settings import TftpConfig

OLD = Config(
    ipaddr=IPv4Address("10.0.0.1"),
    network=IPv4Network("10.0.0.0/24"),
    dhcp=DhcpConfig(range_start=IPv4Address("10.0.0.100"), range_end=IPv4Address("10.0.0.110")),
)


def test_what_no_socket_depends_on_is_taken_over() -> None:
    new = replace(OLD, fqdn="head.cluster", dhcp=replace(OLD.dhcp, lease_seconds=60), dns=DnsConfig(domain="cluster"))
    assert until_restart(OLD, new) == (new, [])


def test_another_network_waits_with_the_range_that_lies_in_it() -> None:
    new = replace(
        OLD,
        ipaddr=IPv4Address("10.1.0.1"),
        network=IPv4Network("10.1.0.0/24"),
        dhcp=DhcpConfig(range_start=IPv4Address("10.1.0.100"), range_end=IPv4Address("10.1.0.110")),
    )
    assert until_restart(OLD, new) == (OLD, ["ipaddr", "network"])


def test_where_things_are_and_how_http_is_served_waits() -> None:
    new = replace(OLD, paths=Paths(chroots=Path("/srv")), http=HttpConfig(port=80))
    assert until_restart(OLD, new) == (OLD, ["paths", "http"])


def test_a_service_begins_and_ends_with_the_server() -> None:
    """What else is said of it is taken over."""
    new = replace(
        OLD,
        dhcp=replace(OLD.dhcp, enabled=False, lease_seconds=60),
        tftp=TftpConfig(enabled=False, grub=True),
        dns=DnsConfig(enabled=False, domain="cluster"),
    )
    kept = replace(OLD, dhcp=replace(OLD.dhcp, lease_seconds=60), tftp=TftpConfig(grub=True), dns=DnsConfig(domain="cluster"))
    assert until_restart(OLD, new) == (kept, ["dhcp enabled", "tftp enabled", "dns enabled"])
