"""Run one command and say what it cost: `launch.py FD LOG COMMAND [ARG]…`; its output goes to LOG, the figures to FD.

A process of its own because the kernel counts into a command's peak memory what its parent had when it was started. This one
is run with `python -I -S` and imports nothing more, so that what it adds is under 10 MB.
"""

import os
import sys
import time


def main() -> None:
    report, log, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    actions = (
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
        (os.POSIX_SPAWN_CLOSE, report),
    )
    start = time.monotonic()
    pid = os.posix_spawnp(command[0], command, os.environ, file_actions=actions)
    # Times and memory of the command and of all its descendants that were waited for.
    _, status, usage = os.wait4(pid, 0)
    wall = time.monotonic() - start
    code = os.waitstatus_to_exitcode(status)
    os.write(report, f"{code} {wall} {usage.ru_utime + usage.ru_stime} {usage.ru_maxrss * 1024}".encode())


main()
