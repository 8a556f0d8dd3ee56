"""What the names and tags of a network device mean. All that a template writes into a file was read here first, so no
value can bring a line of its own along.

The tags are Warewulf's: DNS, DNS1…, DNSSEARCH, route…, master, mode, miimon, updelay, downdelay, xmit_hash_policy,
parent_device, vlan_id, cloned-mac-address, ipv6_method. `ipv4_method` is ours.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from images.errors import Error
from netboot import hwaddr
from netboot.errors import NetworkError

Tags = Mapping[str, str]

_INTERFACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@-]{0,14}")
"""Linux takes 15 octets, and more characters than any network stack can be told."""
_NETWORK = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@-]{0,99}")
"""It becomes part of file names and of host names."""
_DOMAIN = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})?(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})?)*\.?")
_DNS = re.compile(r"DNS[0-9]*")
_BREAKS = re.compile(r"[ ,;]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")

MODES = ("balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb")
"""Of bonds, in the kernel's order: a number means the same."""
_HASHING = ("balance-xor", "802.3ad", "balance-tlb")
"""The modes that choose a slave by a hash of the packet."""
_HASH_POLICIES = ("layer2", "layer2+3", "layer3+4", "encap2+3", "encap3+4", "vlan+srcmac")
_METHODS6 = ("auto", "dhcp", "manual", "link-local", "ignore", "disabled")
_METHODS4 = {"auto": True, "dhcp": True, "disabled": False, "none": False}
_MAC_WORDS = ("preserve", "permanent", "random", "stable")
"""NetworkManager takes them for an address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A static route; without a gateway its destination is on the link."""

    destination: IPv4Network | IPv6Network
    gateway: IPv4Address | IPv6Address | None = None
    metric: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bond:
    """How a bond uses its slaves; times in milliseconds. `xmit_hash_policy` is empty where the mode has none."""

    mode: str
    miimon: int
    updelay: int
    downdelay: int
    xmit_hash_policy: str


def check_interface(text: str) -> str:
    """A device name that Linux and every network stack take; raises NetworkError."""
    if _INTERFACE.fullmatch(text):
        return text
    raise NetworkError(
        f"{text!r} cannot be the name of a network device", hint="at most 15 letters, digits, and . _ + @ - after the first"
    )


def check_network(text: str) -> str:
    """The name of a network in nodes.conf, which becomes part of file names; raises NetworkError."""
    if _NETWORK.fullmatch(text):
        return text
    raise NetworkError(f"{text!r} cannot be the name of a network", hint="letters, digits, and . _ + @ - after the first")


def check_tag(key: str, value: str) -> None:
    """Raises NetworkError for what would break a line, whatever the tag means."""
    for text in (key, value):
        if _CONTROL.search(text):
            raise NetworkError(
                f"tag {text!r} holds a line break or another control character", hint="tags are one line of text"
            )


def dns_servers(tags: Tags) -> tuple[IPv4Address | IPv6Address, ...]:
    """DNS, DNS1, DNS2, … in this order; one tag may hold several. Raises NetworkError."""
    found: dict[IPv4Address | IPv6Address, None] = {}
    for key in _numbered(tags, _DNS):
        for word in _words(tags[key]):
            try:
                found[_plain(word)] = None
            except ValueError as exc:
                raise _wrong(key, word, "is no IP address", "a name server is given by address: 10.0.0.1") from exc
    return tuple(found)


def dns_search(tags: Tags) -> tuple[str, ...]:
    """The domains of DNSSEARCH; raises NetworkError."""
    domains = tuple(dict.fromkeys(_words(tags.get("DNSSEARCH", ""))))
    for domain in domains:
        if not _DOMAIN.fullmatch(domain):
            raise _wrong("DNSSEARCH", domain, "is no domain", "such as cluster.example.org, several with spaces between them")
    return domains


def routes(tags: Tags) -> tuple[Route, ...]:
    """Every tag that begins with `route`: DESTINATION,GATEWAY[,METRIC]. Raises NetworkError."""
    return tuple(_route(key, tags[key]) for key in _numbered(tags, re.compile("route(?!.*_options).*", re.DOTALL)))


def _route(key: str, value: str) -> Route:
    hint = "DESTINATION,GATEWAY or DESTINATION,GATEWAY,METRIC: 10.2.0.0/16,10.0.0.254"
    words = [word.strip() for word in value.split(",")]
    try:
        destination, gateway, metric = [*words, "", ""][:3] if len(words) <= 3 else ("", "", "")
        via = _plain(gateway) if gateway else None
        if destination == "default" and via is not None:
            destination = "0.0.0.0/0" if via.version == 4 else "::/0"
        network = ip_network(destination, strict=False)
        if via is not None and via.version != network.version:
            raise ValueError
        number = _integer(key, metric, 0, 2**32 - 1) if metric else None
    except ValueError as exc:
        raise _wrong(key, value, "is no route", hint) from exc
    return Route(destination=network, gateway=None if via is None or via.is_unspecified else via, metric=number)


def bond(tags: Tags) -> Bond:
    """How a bond works, with Warewulf's defaults; raises NetworkError."""
    given = tags.get("mode", "").strip().lower() or MODES[0]
    mode = MODES[int(given)] if re.fullmatch("[0-6]", given) else given
    if mode not in MODES:
        raise _wrong("mode", given, "is no mode of a bond", f"one of {', '.join(MODES)}")
    policy = tags.get("xmit_hash_policy", "").strip() or "layer2+3"
    if policy not in _HASH_POLICIES:
        raise _wrong("xmit_hash_policy", policy, "is no hash policy of a bond", f"one of {', '.join(_HASH_POLICIES)}")
    miimon, updelay, downdelay = (
        _integer(key, tags.get(key, "").strip() or default, 0, 1_000_000)
        for key, default in (("miimon", "100"), ("updelay", "0"), ("downdelay", "0"))
    )
    return Bond(
        mode=mode,
        miimon=miimon,
        updelay=updelay,
        downdelay=downdelay,
        xmit_hash_policy=policy if mode in _HASHING else "",
    )


def vlan_id(tags: Tags, interface: str) -> int | None:
    """The tag vlan_id, or the number at the end of a name such as eth0.902 or vlan902; raises NetworkError."""
    named = re.search(r"(?:\.|vlan)([0-9]{1,4})\Z", interface)
    text = tags.get("vlan_id", "").strip() or (named[1] if named else "")
    # IEEE 802.1Q §9.6: 0 is no VLAN, 4095 is reserved.
    return _integer("vlan_id", text, 1, 4094) if text else None


def parent_device(tags: Tags, interface: str) -> str:
    """What a VLAN lies on: the tag, or what stands before the dot of eth0.902; raises NetworkError."""
    tagged = tags.get("parent_device", "").strip()
    return _interface_tag("parent_device", tagged) if tagged else interface.rpartition(".")[0]


def master(tags: Tags) -> str:
    """The bond that the device belongs to, by its device or network name; empty when it belongs to none."""
    tagged = tags.get("master", "").strip()
    return _interface_tag("master", tagged) if tagged else ""


def cloned_address(tags: Tags) -> str:
    """The hardware address that the device shall take, or one of NetworkManager's words for it; raises NetworkError."""
    text = tags.get("cloned-mac-address", "").strip()
    if not text or text in _MAC_WORDS:
        return text
    try:
        return hwaddr.parse(text)
    except Error as exc:
        raise NetworkError(f"tag cloned-mac-address: {exc.message}", hint=exc.hint) from exc


def wants_dhcp(tags: Tags) -> bool | None:
    """What ipv4_method says; None when it says nothing. Raises NetworkError."""
    text = tags.get("ipv4_method", "").strip().lower()
    if text not in ("", "manual", *_METHODS4):
        raise _wrong("ipv4_method", text, "is no way to get an address", "auto, manual or disabled")
    return _METHODS4.get(text)


def ipv6_method(tags: Tags) -> str:
    """In NetworkManager's words; empty when the tag is missing. Raises NetworkError."""
    text = tags.get("ipv6_method", "").strip().lower()
    if text and text not in _METHODS6:
        raise _wrong("ipv6_method", text, "is no way to get an address", f"one of {', '.join(_METHODS6)}")
    return text


def _interface_tag(key: str, value: str) -> str:
    try:
        return check_interface(value)
    except NetworkError:
        # It may be the name of a network, which may be longer.
        if _NETWORK.fullmatch(value):
            return value
        raise _wrong(key, value, "is no network device", "the name of a device, or of one of the node's networks") from None


def _plain(text: str) -> IPv4Address | IPv6Address:
    """An address without a zone, which may hold any character; raises ValueError."""
    address = ip_address(text)
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise ValueError
    return address


def _integer(key: str, text: str, low: int, high: int) -> int:
    if re.fullmatch(r"[0-9]{1,10}", text) and low <= int(text) <= high:
        return int(text)
    raise _wrong(key, text, f"is no number from {low} to {high}", None)


def _words(text: str) -> list[str]:
    return [word for word in _BREAKS.split(text) if word]


def _numbered(tags: Tags, pattern: re.Pattern[str]) -> Iterator[str]:
    """The keys that match, DNS2 before DNS10."""

    def place(key: str) -> tuple[str, int]:
        digits = re.search("[0-9]*$", key)
        number = digits[0] if digits else ""
        return key.removesuffix(number), int(number or 0)

    return iter(sorted((key for key in tags if pattern.fullmatch(key)), key=place))


def _wrong(key: str, value: str, what: str, hint: str | None) -> NetworkError:
    return NetworkError(f"tag {key}: {value!r} {what}", hint=hint)
