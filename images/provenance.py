"""Where an image's tree came from."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """`digest` is the manifest's (of the chosen platform), None for a source that has none."""

    reference: str
    digest: str | None = None
    architecture: str | None = None
