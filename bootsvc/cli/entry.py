"""The first of `wwctl` that runs: while all else is loaded, an interrupt ends it without a traceback."""

import signal


def main() -> int:
    """As `main.main`, which answers interrupts in its own words once it is there."""
    # Else somebody, nohup say, wants them to be ignored.
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from bootsvc.cli.main import main as run

    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return run()
