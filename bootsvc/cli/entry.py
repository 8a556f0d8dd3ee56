"""The first and the last of `wwctl` that runs: while all else is loaded, an interrupt ends it without a traceback, and nothing
that was loaded is taken apart at its end."""

import atexit
import gc
import os
import signal
import sys
import threading

from bootsvc.cli.loading import load


def main() -> int:
    """As `main.main`, which answers interrupts in its own words once it is there.

    Ends the process; returns the exit code only where the interpreter has more to do than that.
    """
    # Else somebody, nohup say, wants them to be ignored.
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    run = load("bootsvc.cli.main").main
    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    code: int = run()
    # The process ends: looking for cycles among all that was loaded, as the interpreter does at its end, frees nothing.
    gc.freeze()
    if threading.active_count() == 1:
        _end(code)
    return code


def _end(code: int) -> None:
    """What the interpreter does at its end, but for taking apart all that was loaded: that takes as long as some commands.

    Returns when something cannot be written any more, of which the interpreter has its own way to tell.
    """
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return
    os._exit(code)
