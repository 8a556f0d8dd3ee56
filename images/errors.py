"""The one base of every error that a user can cause; all three packages share it."""


class Error(Exception):
    """A sentence for the user, and a hint about what to do; `bootsvc.cli` prints both and exits with `exit_status`."""

    exit_status = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
