"""auth.json and config.json of container tools: which credentials they name for a repository (containers-auth.json(5))."""

import base64
import binascii
from collections.abc import Iterator
from pathlib import Path

import msgspec

from images.challenge import Credentials
from images.errors import Error
from images.reference import DOCKER_HUB

HUB_SERVER = "https://index.docker.io/v1/"
"""What Docker calls its hub, in files and before credential helpers."""
_HUB_NAMES = ("index.docker.io", "registry-1.docker.io")
_IDENTITY_TOKEN_USER = "<token>"
"""The user name with which a helper says that the secret is an identity token."""


class MalformedAuthFile(Error):
    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"the credentials file {path} cannot be read: {reason}",
            hint="repair or remove it, or name another one with REGISTRY_AUTH_FILE",
        )
        self.path = path


class MalformedHelperAnswer(ValueError):
    """A credential helper answers nonsense."""


class _Login(msgspec.Struct, frozen=True):
    auth: str = ""
    identitytoken: str = ""
    username: str = ""
    password: str = ""


class AuthFile(msgspec.Struct, frozen=True, rename="camel"):
    auths: dict[str, _Login] = {}
    cred_helpers: dict[str, str] = {}
    creds_store: str = ""

    def helper(self, host: str) -> str | None:
        """Name of the credential helper for a registry, if there is one; that of one host goes before that of all."""
        named = next((name for key, name in self.cred_helpers.items() if _normalize(key) == host), None)
        return named or self.creds_store or None

    def find(self, host: str, repository: str) -> Credentials | None:
        """The login with the most specific key: host/repository, each path above it, the host. Raises ValueError."""
        logins = {_normalize(key): login for key, login in self.auths.items()}
        for key in _keys(host, repository):
            if (login := logins.get(key)) is not None and (found := _credentials(login)) is not None:
                return found
        return None


class _HelperAnswer(msgspec.Struct, frozen=True, rename="pascal"):
    username: str = ""
    secret: str = ""


def parse_auth_file(data: bytes, path: Path) -> AuthFile:
    """Raises MalformedAuthFile."""
    try:
        return msgspec.json.decode(data, type=AuthFile)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise MalformedAuthFile(path, str(exc)) from exc


def parse_helper_answer(data: bytes) -> Credentials:
    """What `docker-credential-NAME get` prints; raises MalformedHelperAnswer, which holds nothing of it."""
    try:
        answer = msgspec.json.decode(data, type=_HelperAnswer)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise MalformedHelperAnswer("its answer is no JSON object with Username and Secret") from None
    if answer.username == _IDENTITY_TOKEN_USER:
        return Credentials(username="", password="", identity_token=answer.secret)
    return Credentials(username=answer.username, password=answer.secret)


def helper_server(host: str) -> str:
    """How a credential helper is asked about a registry."""
    return HUB_SERVER if host == DOCKER_HUB else host


def _normalize(key: str) -> str:
    """`https://HOST/v1/`, as old Dockers wrote it, and `HOST` are the same."""
    key = key.partition("://")[2] or key
    key = key.rstrip("/").removesuffix("/v1").removesuffix("/v2")
    host, slash, rest = key.partition("/")
    return (DOCKER_HUB if host in _HUB_NAMES else host) + slash + rest


def _keys(host: str, repository: str) -> Iterator[str]:
    key = f"{host}/{repository}"
    while key:
        yield key
        key = key.rpartition("/")[0]


def _credentials(login: _Login) -> Credentials | None:
    """None for the empty entries that Docker leaves where a helper has the secret."""
    username, password = login.username, login.password
    if login.auth:
        try:
            pair = base64.b64decode(login.auth, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise ValueError("an `auth` in it is not base64 of USER:PASSWORD") from None
        username, _, password = pair.rstrip("\0").partition(":")
    if login.identitytoken:
        return Credentials(username=username, password="", identity_token=login.identitytoken)
    return Credentials(username=username, password=password) if username else None
