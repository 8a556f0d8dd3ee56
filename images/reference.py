"""Image references and digests, with the defaults of container tools (OCI distribution 1.1 "Pulling manifests")."""

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import NewType

from images.errors import Error

Digest = NewType("Digest", str)
"""`algorithm:hex`, checked by `parse_digest`, hence safe as a file name."""

DOCKER_HUB = "docker.io"
_HUB_NAMES = (DOCKER_HUB, "index.docker.io", "registry-1.docker.io")
_HUB_API = "registry-1.docker.io"
_HEX_LENGTHS = {"sha256": 64, "sha512": 128}
_MAX_NAME = 255

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = re.compile(rf"(?P<name>{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:.]+\])(?::(?P<port>[0-9]{{1,5}}))?", re.ASCII)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.ASCII | re.IGNORECASE)
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)

_HINT = "write docker://[HOST[:PORT]/]NAME[:TAG|@DIGEST], for example docker://registry.example.org/hpc/rocky:9"


def hide_login(text: str) -> str:
    """A text as an error may print it: what could be user name and password before an `@` is left out."""
    scheme = match[0] if (match := _SCHEME.match(text)) else ""
    before, at, after = text[len(scheme) :].rpartition("@")
    if not at or (_is_digest_like(after) and "@" not in before):
        return text
    return f"{scheme}***@{after}"


def _is_digest_like(text: str) -> bool:
    return text.partition(":")[0] in _HEX_LENGTHS


class InvalidReference(Error):
    def __init__(self, text: str, reason: str) -> None:
        text = hide_login(text)
        super().__init__(f"{text!r} is not an image reference: {reason}", hint=_HINT)
        self.text = text
        self.reason = reason


class InvalidDigest(Error):
    def __init__(self, text: str) -> None:
        super().__init__(f"{text[:160]!r} is not a digest", hint="a digest is sha256: and 64 lower-case hex digits")
        self.text = text


def parse_digest(text: str) -> Digest:
    """Check a digest (OCI image spec, "Digests"); raises InvalidDigest."""
    algorithm, _, encoded = text.partition(":")
    length = _HEX_LENGTHS.get(algorithm)
    if length is None or len(encoded) != length or not set(encoded) <= set("0123456789abcdef"):
        raise InvalidDigest(text)
    return Digest(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One image in one registry; with both tag and digest the digest decides."""

    host: str
    """As a person writes it, with the port: `docker.io`, `127.0.0.1:5000`, `[::1]:5000`."""
    repository: str
    tag: str | None = None
    """None if none was written; then `latest` is asked for, unless a digest decides."""
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """Parse what follows `docker://`; raises InvalidReference."""
        rest, at, digest_text = text.rpartition("@") if "@" in text else (text, "", "")
        digest = None
        if at and (not _is_digest_like(digest_text) or "@" in rest):
            reason = (
                "user name and password belong into --username and --password" if ":" in rest else "after @ stands a digest"
            )
            raise InvalidReference(text, reason)
        if at:
            try:
                digest = parse_digest(digest_text)
            except InvalidDigest as exc:
                raise InvalidReference(text, exc.message) from exc
        head, slash, tail = rest.partition("/")
        # A first component without dot, colon or capital is a name on Docker Hub, except "localhost".
        if slash and (any(char in head for char in ".:[") or head == "localhost" or head != head.lower()):
            host = _checked_host(text, head)
        else:
            host, tail = DOCKER_HUB, rest
        name, colon, tag = tail.partition(":")
        if colon and not _TAG.fullmatch(tag):
            raise InvalidReference(text, f"{tag!r} is not a tag")
        if host in _HUB_NAMES:
            host = DOCKER_HUB
            name = name if "/" in name else f"library/{name}"
        if not _REPOSITORY.fullmatch(name) or len(name) > _MAX_NAME:
            capitals = ", for it has capital letters" if _REPOSITORY.fullmatch(name.lower()) and name != name.lower() else ""
            raise InvalidReference(text, f"{tail.partition(':')[0]!r} is not a repository name{capitals}")
        return cls(host=host, repository=name, tag=tag or None, digest=digest)

    @property
    def api_host(self) -> str:
        """HOST[:PORT] that speaks the distribution protocol."""
        return _HUB_API if self.host == DOCKER_HUB else self.host

    @property
    def target(self) -> str:
        """What the manifest is asked by: the digest if there is one, else the tag."""
        return self.digest or self.tag or "latest"

    @property
    def is_loopback(self) -> bool:
        """The registry is on this machine (127.0.0.0/8, ::1, localhost)."""
        match = _HOST.fullmatch(self.host)
        name = match["name"].strip("[]") if match else self.host
        if name == "localhost":
            return True
        try:
            return ip_address(name).is_loopback
        except ValueError:
            return False

    @property
    def default_name(self) -> str:
        """The image's name if the user gives none: the last path component, and the tag when one was written."""
        last = self.repository.rpartition("/")[2]
        return f"{last}:{self.tag}" if self.tag else last

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.host}/{self.repository}{tag or ('' if digest else ':latest')}{digest}"


def _checked_host(text: str, host: str) -> str:
    match = _HOST.fullmatch(host)
    if match is None:
        raise InvalidReference(text, f"{host!r} is not a host name")
    if match["port"] and not 0 < int(match["port"]) < 65536:
        raise InvalidReference(text, f"{match['port']} is not a port")
    if host.startswith("["):
        try:
            ip_address(match["name"].strip("[]"))
        except ValueError as exc:
            raise InvalidReference(text, f"{host!r} is not an address") from exc
    return host
