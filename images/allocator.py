"""What the C library does with memory that is freed (mallopt(3))."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGE = 1 << 22
_MOST = 1 << 26


def keep_freed() -> None:
    """Freed memory stays with this process and those that it forks, for the next piece of data.

    Pieces of some 100 KB come and go by the thousand; given back each time, their pages would be faulted in again, which costs
    a fifth of decompressing. A C library without mallopt does as it likes.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_M_MMAP_THRESHOLD, _LARGE)
        set_option(_M_TRIM_THRESHOLD, _MOST)
