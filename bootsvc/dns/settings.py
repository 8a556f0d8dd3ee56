"""`bootsvc: dns:` in warewulf.conf."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from bootsvc.keytable import ListOf, Settings, Table, flag, given, ipv4, ipv4_network


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsConfig:
    """`domain` is empty where the head node's own domain holds; `networks` may ask besides the boot network."""

    enabled: bool = True
    domain: str = ""
    forwarders: tuple[IPv4Address, ...] = ()
    networks: tuple[IPv4Network, ...] = ()


def domain_name(value: str) -> str:
    """In lower case, without a dot at the end."""
    name = value.lower().removesuffix(".")
    labels = [label.replace("-", "") for label in name.split(".")]
    if len(name) > 200 or not all(0 < len(label) <= 63 and label.isascii() and label.isalnum() for label in labels):
        raise ValueError("expected a domain such as cluster.example.org")
    return name


KEYS: Table = {"enabled": flag, "domain": domain_name, "forwarders": ListOf(ipv4), "networks": ListOf(ipv4_network)}


def dns_config(settings: Settings) -> DnsConfig:
    return DnsConfig(**given(**{key: settings.get("bootsvc", "dns", key) for key in KEYS}))
