"""Log lines of a server that answers thousands of packets a second: formatted at once, written together."""

import asyncio
import logging
import time
from typing import TextIO

from bootsvc.process.journal import marked

MAX_WAITING = 1000
"""Lines that wait for the event loop's next turn; with so many they are written at once."""
_WHAT = "%(levelname)s %(message)s"


class BatchedHandler(logging.StreamHandler[TextIO]):
    """Writes the lines of one turn of the event loop in one go; elsewhere, and from WARNING on, at once.

    Else each line costs a system call, and there are four for each machine that asks for its address.
    """

    def __init__(self, stream: TextIO, *, journal: bool = False) -> None:
        """`journal`: the stream leads to systemd's."""
        super().__init__(stream)
        self._waiting: list[str] = []
        self.setFormatter(_JournalFormatter(_WHAT) if journal else _Formatter(f"%(asctime)s {_WHAT}"))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._waiting.append(self.format(record))
        except Exception:
            self.handleError(record)
            return
        loop = _running_loop()
        if loop is None or record.levelno >= logging.WARNING or len(self._waiting) >= MAX_WAITING:
            self.flush()
        elif len(self._waiting) == 1:
            loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what waits. An output that is gone or full loses it, and nothing else."""
        self.acquire()
        try:
            lines, self._waiting = self._waiting, []
            if lines:
                self.stream.write("\n".join(lines) + self.terminator)
            self.stream.flush()
        except (OSError, ValueError):
            # There is no other place where that could be said.
            pass
        finally:
            self.release()


class _Formatter(logging.Formatter):
    """As its base; the text of a second is made once."""

    _second = -1
    _text = ""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        second = int(record.created)
        if second != self._second:
            self._second, self._text = second, time.strftime(self.default_time_format, time.localtime(second))
        return f"{self._text},{int(record.msecs):03d}"


class _JournalFormatter(logging.Formatter):
    """The journal has a time of its own."""

    def format(self, record: logging.LogRecord) -> str:
        return marked(super().format(record), record.levelno)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
