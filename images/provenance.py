"""Where an image's tree came from."""

import msgspec


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """`reference` is text that JSON can hold: bytes of a path that are not UTF-8 become `\\xNN`.

    `digest` tells one state of the source from another: the manifest's (of the chosen platform), or the config's where there
    is no manifest (Docker's engine and archives); None for a source that has neither.
    """

    reference: str
    digest: str | None = None
    architecture: str | None = None

    def __post_init__(self) -> None:
        text = self.reference.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        msgspec.structs.force_setattr(self, "reference", text)
