"""Which source a text names: one file a scheme, one row in SCHEMES; a text without scheme is a path."""

import os
import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path

from images.errors import Error
from images.reference import InvalidReference, Reference, hide_login
from images.source.archived import parse_docker_archive, parse_oci_archive
from images.source.contract import Provenance, Source, SourceOptions
from images.source.daemon import DaemonSource
from images.source.naming import NoSuchFile, name_of_file
from images.source.oci import LayoutSource
from images.source.recognise import recognise
from images.source.registry import RegistrySource

__all__ = ["SCHEMES", "Provenance", "Source", "SourceOptions", "UnknownSource", "open_source"]


def open_file(text: str, options: SourceOptions) -> Source:
    """A file or folder, recognised by its content. Raises NoSuchFile and what is said of files that are no image."""
    if not os.path.lexists(text):
        raise NoSuchFile(text, "file://PATH")
    return recognise(Path(text), options)


SCHEMES: Mapping[str, Callable[[str, SourceOptions], Source]] = {
    "docker": RegistrySource.parse,
    "docker-daemon": DaemonSource.parse,
    "oci": LayoutSource.parse,
    "oci-archive": parse_oci_archive,
    "docker-archive": parse_docker_archive,
    "file": open_file,
}
"""What stands before `:` or `://`, and what makes a source of the rest."""
_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z-]*):(?P<slashes>//)?(?P<rest>.*)", re.DOTALL)
_HINT = (
    "an image can come from docker://HOST/NAME:TAG, docker-daemon://NAME:TAG, oci:DIR, oci-archive:FILE, "
    "docker-archive:FILE, or an existing file or directory"
)


class UnknownSource(Error):
    """`meant`: a source that exists, or could, and is spelled much like it."""

    def __init__(self, text: str, reason: str, meant: str | None = None) -> None:
        text = hide_login(text)
        super().__init__(f"{text!r} {reason}", hint=f"did you mean {hide_login(meant)}? {_HINT}" if meant else _HINT)
        self.text = text


def open_source(text: str, options: SourceOptions) -> Source:
    """The source that a text names; of a file, as much is read as tells what it is. Raises Error."""
    match = _SCHEME.fullmatch(text)
    if match is not None and (opener := SCHEMES.get(match["scheme"])) is not None:
        return opener(match["rest"], options)
    if match is not None and match["slashes"]:
        close = get_close_matches(match["scheme"].lower(), SCHEMES, n=1)
        meant = f"{close[0]}://{match['rest']}" if close else None
        raise UnknownSource(text, f"has the unknown scheme {match['scheme']!r}", meant)
    if not text or not os.path.lexists(text):
        meant = f"docker://{text}" if _is_reference(text) else None
        raise UnknownSource(text, "is no file or directory here, and names no registry", meant)
    return recognise(Path(text), options)


def _is_reference(text: str) -> bool:
    """Whether it could be an image in a registry, and does not look like a path that was mistyped."""
    path = Path(text)
    if name_of_file(path) != path.name or (len(path.parts) > 1 and path.parent.is_dir()):
        return False
    try:
        Reference.parse(text)
    except InvalidReference:
        return False
    return True
