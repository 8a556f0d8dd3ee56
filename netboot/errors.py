"""What can be wrong with a node's overlays."""

from images.errors import Error


class OverlayNotFound(Error):
    def __init__(self, name: str) -> None:
        super().__init__(
            f"there is no overlay {name!r}", hint="`system overlay` and `runtime overlay` in nodes.conf name overlays"
        )
        self.name = name


class OverlayError(Error):
    """An overlay that cannot be rendered or placed; the message names overlay, file and node."""
