"""What can be wrong with a node's overlays."""

from collections.abc import Sequence

from images.errors import Error


class OverlayNotFound(Error):
    def __init__(self, name: str, closest: Sequence[str] = ()) -> None:
        hint = f"did you mean {closest[0]!r}?" if closest else "`wwctl overlay list` shows the overlays"
        super().__init__(f"there is no overlay {name!r}", hint=hint)
        self.name = name


class OverlayError(Error):
    """An overlay that cannot be rendered or placed; the message names overlay, file and node."""


class TemplateError(Error):
    """What is wrong with a template, and at which line of it (None: nobody knows)."""

    def __init__(self, reason: str, *, line: int | None = None, hint: str | None = None) -> None:
        super().__init__(f"line {line or '?'}: {reason}", hint=hint)
        self.reason = reason
        self.line = line


class NetworkError(Error):
    """A network device that no configuration can be written for; the message names the network and the value."""
