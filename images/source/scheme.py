"""Which source a text names: one file a scheme, one row in SCHEMES."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from images.errors import Error
from images.source.contract import Provenance, Source, SourceOptions
from images.source.directory import DirectorySource
from images.source.registry import RegistrySource

__all__ = ["SCHEMES", "Provenance", "Source", "SourceOptions", "UnknownSource", "open_source"]

SCHEMES: Mapping[str, Callable[[str, SourceOptions], Source]] = {
    "docker": RegistrySource.parse,
}
"""What stands before `://`, and what makes a source of the rest; a text without scheme is a directory."""


class UnknownSource(Error):
    def __init__(self, text: str, reason: str) -> None:
        known = ", ".join(f"{scheme}://…" for scheme in SCHEMES)
        super().__init__(f"{text!r} {reason}", hint=f"an image can come from {known} or from an existing directory")
        self.text = text


def open_source(text: str, options: SourceOptions) -> Source:
    """The source that a text names; nothing is read from it yet. Raises Error."""
    scheme, separator, rest = text.partition("://")
    if separator:
        opener = SCHEMES.get(scheme)
        if opener is None:
            raise UnknownSource(text, f"has the unknown scheme {scheme!r}")
        return opener(rest, options)
    if not text or not os.path.lexists(text):
        raise UnknownSource(text, "is no directory here, and names no registry")
    return DirectorySource(Path(text))
