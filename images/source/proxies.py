"""Which proxy a request takes, by HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY as curl and Go's tools read them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit, urlunsplit

from images.errors import Error

_HTTP = ("http", "https")


class UnusableProxy(Error):
    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            f"the proxy {without_login(url)!r} cannot be used: {reason}",
            hint="give an http:// proxy in HTTPS_PROXY or ALL_PROXY, or name the registry in NO_PROXY",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxies:
    """URLs by the scheme of what is asked for, and the hosts that are asked directly. They may hold a password."""

    by_scheme: Mapping[str, str] = field(default_factory=dict, repr=False)
    excepted: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Proxies":
        """Lower case goes before upper case, and a scheme's own variable before ALL_PROXY."""

        def value(name: str) -> str:
            return environment.get(name.lower()) or environment.get(name.upper()) or ""

        found = {scheme: value(f"{scheme}_proxy") or value("all_proxy") for scheme in _HTTP}
        excepted = tuple(part.strip().lower() for part in value("no_proxy").split(",") if part.strip())
        return cls(by_scheme={scheme: url for scheme, url in found.items() if url}, excepted=excepted)

    def choose(self, scheme: str, host: str, port: int | None) -> str | None:
        """The proxy's URL, None for a direct connection. Raises UnusableProxy."""
        url = self.by_scheme.get(scheme)
        if url is None or any(_matches(rule, host.lower(), port) for rule in self.excepted):
            return None
        url = url if "://" in url else f"http://{url}"
        try:
            parts = urlsplit(url)
            usable = parts.scheme in _HTTP and bool(parts.hostname) and parts.port != 0
        except ValueError as exc:
            raise UnusableProxy(url, str(exc)) from exc
        if not usable:
            raise UnusableProxy(url, "it is no http proxy" if parts.hostname else "it names no host")
        return url


def without_login(url: str) -> str:
    """A URL as an error may print it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "…"
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _matches(rule: str, host: str, port: int | None) -> bool:
    """`*`, an address, a network, or a domain with all below it; each but `*` and networks with a port if one is meant."""
    if rule == "*":
        return True
    name, colon, number = rule.rpartition(":")
    if colon and number.isdigit() and (":" not in name or name.endswith("]")):
        if int(number) != port:
            return False
        rule = name
    rule, host = rule.strip("[]"), host.strip("[]")
    try:
        address = ip_address(host)
    except ValueError:
        domain = rule.removeprefix("*").removeprefix(".")
        return bool(domain) and (host == domain or host.endswith(f".{domain}"))
    try:
        return address in ip_network(rule, strict=False)
    except ValueError:
        return False
