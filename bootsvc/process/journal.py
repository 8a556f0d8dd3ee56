"""Lines for systemd's journal begin with how grave they are (sd-daemon(3)), so that `journalctl -p warning` finds them."""

import logging
import os


def is_journal(descriptor: int) -> bool:
    """Whether what is written there goes to the journal: $JOURNAL_STREAM names its socket (systemd.exec(5))."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def marked(text: str, level: int) -> str:
    """Each line of `text` with the priority (syslog(3)) of one of logging's levels."""
    priority = next((each for least, each in _PRIORITIES if level >= least), 7)
    return f"<{priority}>" + text.replace("\n", f"\n<{priority}>")


_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
