"""What a registry asks for and what we answer: challenges (RFC 9110 section 11), basic (RFC 7617), bearer tokens
(distribution token specification). Values only; `images.source.distribution` does the talking."""

import base64
import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import msgspec

from images.errors import Error

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"\s*(?P<scheme>{_TOKEN})(?:\s+|(?=,)|$)")
_PARAM = re.compile(rf'\s*(?P<key>{_TOKEN})\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s,"]+))\s*')


class MalformedToken(Error):
    def __init__(self, realm: str, reason: str) -> None:
        super().__init__(f"the token server {realm} answers nonsense: {reason}", hint="try again later")
        self.realm = realm


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What proves who asks: user name and password, or an identity token, for which a token server gives others."""

    username: str
    password: str = field(repr=False)
    identity_token: str = field(default="", repr=False)

    def header(self) -> str:
        """The Authorization header's value (RFC 7617 section 2)."""
        pair = f"{self.username}:{self.password}".encode()
        return f"Basic {base64.b64encode(pair).decode('ascii')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """`scheme` and the names of the parameters in lower case."""

    scheme: str
    parameters: dict[str, str]


class _TokenResponse(msgspec.Struct, frozen=True):
    token: str = ""
    access_token: str = ""


def parse_challenges(headers: list[str]) -> list[Challenge]:
    """Every challenge of the WWW-Authenticate headers; what cannot be understood is left out."""
    found = []
    for header in headers:
        at = 0
        while match := _SCHEME.match(header, at):
            at, parameters = match.end(), {}
            while (param := _PARAM.match(header, at)) is not None:
                quoted, plain = param["quoted"], param["plain"]
                parameters[param["key"].lower()] = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
                at = param.end()
                if header[at : at + 1] != ",":
                    break
                at += 1
            found.append(Challenge(scheme=match["scheme"].lower(), parameters=parameters))
            at += len(header[at:]) - len(header[at:].lstrip(" ,\t"))
    return found


def choose_challenge(challenges: list[Challenge]) -> Challenge | None:
    """Bearer before basic, as container tools do."""
    for scheme in ("bearer", "basic"):
        for challenge in challenges:
            if challenge.scheme == scheme and (scheme == "basic" or challenge.parameters.get("realm")):
                return challenge
    return None


def pull_scope(repository: str) -> str:
    return f"repository:{repository}:pull"


def token_url(challenge: Challenge, *, scope: str, account: str | None) -> str:
    """Where to get a token; the realm's own query stays."""
    realm = urlsplit(challenge.parameters["realm"])
    query = parse_qsl(realm.query, keep_blank_values=True)
    if service := challenge.parameters.get("service"):
        query.append(("service", service))
    query.append(("scope", scope))
    if account is not None:
        query.append(("account", account))
    return urlunsplit(realm._replace(query=urlencode(query), fragment=""))


def refresh_form(challenge: Challenge, *, scope: str, identity_token: str) -> dict[str, str]:
    """What to post to the realm for an identity token (distribution specification, "OAuth2 token")."""
    form = {"grant_type": "refresh_token", "client_id": "bootsvc", "scope": scope, "refresh_token": identity_token}
    return form | ({"service": service} if (service := challenge.parameters.get("service")) else {})


def parse_token(data: bytes, *, realm: str) -> str:
    """The Authorization header's value for a token server's answer; raises MalformedToken."""
    try:
        response = msgspec.json.decode(data, type=_TokenResponse)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise MalformedToken(realm, str(exc)) from exc
    value = response.token or response.access_token
    if not value or not value.isascii() or not value.isprintable():
        raise MalformedToken(realm, "there is no usable token in it")
    return f"Bearer {value}"
