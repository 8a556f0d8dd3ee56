"""Where an image's tree came from."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """`digest` tells one state of the source from another: the manifest's (of the chosen platform), or the config's where there
    is no manifest (Docker's engine and archives); None for a source that has neither."""

    reference: str
    digest: str | None = None
    architecture: str | None = None
