"""Sprig's path and URL functions: Go's packages path and net/url."""

import re
from urllib.parse import quote as percent_quote

from netboot.gotemplate.errors import FunctionError
from netboot.gotemplate.quoting import from_bytes, to_bytes
from netboot.gotemplate.values import Functions, Value, function, type_name


def clean(path: str) -> str:
    """The shortest path that means the same, without looking at any file (Go's path.Clean)."""
    rooted = path.startswith("/")
    parts: list[str] = []
    for part in path.split("/"):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part == ".." and rooted:
            continue
        elif part not in ("", "."):
            parts.append(part)
    return ("/" if rooted else "") + "/".join(parts) or "."


def base(path: str) -> str:
    """The last element of a path (Go's path.Base)."""
    if not path:
        return "."
    return path.rstrip("/").rpartition("/")[2] or "/"


@function(params=("string",))
def _base(path: str) -> Value:
    return base(path)


@function(params=("string",))
def _dir(path: str) -> Value:
    before, slash, _ = path.rpartition("/")
    return clean(before + slash)


@function(params=("string",))
def _ext(path: str) -> Value:
    _, dot, after = path.rpartition("/")[2].rpartition(".")
    return dot + after if dot else ""


@function(params=("string",))
def _clean(path: str) -> Value:
    return clean(path)


@function(params=("string",))
def _is_abs(path: str) -> Value:
    return path.startswith("/")


_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*):(.*)", re.DOTALL)
_BAD_ESCAPE = re.compile(r"%(?![0-9a-fA-F]{2}).{0,2}", re.DOTALL)
_USERINFO = re.compile(r"[A-Za-z0-9\-._:~!$&'()*+,;=%@]*")
_BAD_IN_HOST = re.compile(r"[\x00-\x20<>\"`{}|\\^#/?@%]")
_PATH_SAFE = "/$&+,:;=@!*'()"
_MEMBERS = ("scheme", "host", "hostname", "path", "query", "opaque", "fragment", "userinfo")


def _unescaped(text: str) -> str:
    found = _BAD_ESCAPE.search(text)
    if found:
        raise ValueError(f'invalid URL escape "{found[0]}"')
    return from_bytes(re.sub(rb"%([0-9a-fA-F]{2})", lambda match: bytes.fromhex(match[1].decode()), to_bytes(text)))


def _host(host: str) -> str:
    end = -1
    if host.startswith("["):
        end = host.rfind("]")
        if end < 0:
            raise ValueError("missing ']' in host")
        port = host[end + 1 :]
    else:
        port = host[host.rfind(":") :] if ":" in host else ""
    if port and not re.fullmatch(r":[0-9]*", port):
        raise ValueError(f'invalid port "{port}" after host')
    bare = _BAD_ESCAPE.sub("%", host) if "%" in host else host
    wrong = _BAD_IN_HOST.search(bare if not host.startswith("[") else host[end + 1 :])
    if wrong:
        raise ValueError(f'invalid character "{wrong[0]}" in host name')
    return host


def _authority(text: str) -> tuple[str, str]:
    """User information and host of what stands between `//` and the path."""
    userinfo, at, host = text.rpartition("@")
    if at and not _USERINFO.fullmatch(userinfo):
        raise ValueError("net/url: invalid userinfo")
    user, colon, password = userinfo.partition(":")
    userinfo = _user_escaped(_unescaped(user)) + colon + _user_escaped(_unescaped(password))
    return userinfo, _host(host)


def _user_escaped(text: str) -> str:
    return percent_quote(to_bytes(text), safe="$&+,;=~")


def _parse(url: str) -> dict[str, str]:
    """The parts of a URL as Go's url.Parse finds them; raises ValueError."""
    if re.search(r"[\x00-\x1f\x7f]", url):
        raise ValueError("net/url: invalid control character in URL")
    parts: dict[str, str] = dict.fromkeys(_MEMBERS, "")
    rest, hash_, fragment = url.partition("#")
    parts["fragment"] = _unescaped(fragment) if hash_ else ""
    match = _SCHEME.fullmatch(rest)
    if match:
        parts["scheme"], rest = match[1].lower(), match[2]
    elif rest.startswith(":"):
        raise ValueError("missing protocol scheme")
    rest, _, parts["query"] = rest.partition("?")
    if not rest.startswith("/"):
        if parts["scheme"]:
            return parts | {"opaque": rest}
        if ":" in rest.partition("/")[0]:
            raise ValueError("first path segment in URL cannot contain colon")
    if rest.startswith("//") and (parts["scheme"] or not rest.startswith("///")):
        authority, slash, path = rest[2:].partition("/")
        rest = slash + path
        parts["userinfo"], parts["host"] = _authority(authority)
        parts["hostname"] = _hostname(parts["host"])
    parts["path"] = _unescaped(rest)
    return parts


def _hostname(host: str) -> str:
    if host.startswith("["):
        return host[1 : host.index("]")]
    return host.rpartition(":")[0] if ":" in host else host


@function(params=("string",))
def _url_parse(url: str) -> Value:
    try:
        return dict[str, Value](_parse(url))
    except ValueError as exc:
        raise FunctionError(f'unable to parse url: parse "{url}": {exc}') from exc


@function(params=("map",))
def _url_join(given: dict[str, Value]) -> Value:
    parts = {}
    for name in _MEMBERS:
        member = given.get(name, "")
        if not isinstance(member, str):
            raise FunctionError(f"unable to parse {name} key, must be of type string, but {type_name(member)} found")
        parts[name] = member
    start = f"{parts['scheme']}:" if parts["scheme"] else ""
    query = f"?{parts['query']}" if parts["query"] else ""
    fragment = f"#{percent_quote(to_bytes(parts['fragment']), safe=_PATH_SAFE + '?')}" if parts["fragment"] else ""
    if parts["opaque"]:
        return f"{start}{parts['opaque']}{query}{fragment}"
    path = percent_quote(to_bytes(parts["path"]), safe=_PATH_SAFE)
    if parts["host"] or parts["userinfo"] or (parts["scheme"] and path.startswith("//")):
        start += f"//{parts['userinfo']}{'@' if parts['userinfo'] else ''}{parts['host']}"
    if path and not path.startswith("/") and parts["host"]:
        path = "/" + path
    if not start and ":" in path.partition("/")[0]:
        path = "./" + path
    return f"{start}{path}{query}{fragment}"


FUNCTIONS: Functions = {
    "base": _base,
    "dir": _dir,
    "ext": _ext,
    "clean": _clean,
    "isAbs": _is_abs,
    "osBase": _base,
    "osDir": _dir,
    "osExt": _ext,
    "osClean": _clean,
    "osIsAbs": _is_abs,
    "urlParse": _url_parse,
    "urlJoin": _url_join,
}
