"""Several newc archives as one: GNU cpio and Warewulf's clients stop at the first trailer, which only the kernel reads past.

Inode numbers, which each archive counts anew, are moved apart, so that hard links stay what they were.
"""

from collections.abc import Iterable, Iterator

from images.cpio import HEADER_SIZE, MAGIC, CpioError

_TRAILER = b"TRAILER!!!\0"
_INODE = slice(6, 14)
_SIZE = slice(54, 62)
_NAME_SIZE = slice(94, 102)


def body(chunks: Iterable[bytes], first_inode: int) -> Iterator[bytes]:
    """The entries of one archive without its trailer; inode numbers other than 0 are raised by `first_inode`.

    Streams: it holds a chunk or two. Raises CpioError when it is no newc archive, or when it ends without a trailer.
    """
    buffer = bytearray()
    left = 0
    for chunk in chunks:
        buffer += chunk
        at, out = 0, bytearray()
        while True:
            if left:
                taken = buffer[at : at + left]
                out += taken
                at += len(taken)
                left -= len(taken)
            if left or len(buffer) - at < HEADER_SIZE:
                break
            head = buffer[at : at + HEADER_SIZE]
            if head[: len(MAGIC)] != MAGIC:
                raise CpioError(f"no newc header where one is due: {bytes(head[:16])!r}")
            inode, size, name_size = _fields(head)
            content = at + (HEADER_SIZE + name_size + 3) // 4 * 4
            if len(buffer) < content:
                break
            if buffer[at + HEADER_SIZE : at + HEADER_SIZE + name_size] == _TRAILER:
                yield bytes(out)
                return
            if inode:
                buffer[at + _INODE.start : at + _INODE.stop] = b"%08X" % (inode + first_inode)
            out += buffer[at:content]
            at, left = content, (size + 3) // 4 * 4
        if out:
            yield bytes(out)
        del buffer[:at]
    raise CpioError("a newc archive ends without its trailer")


def _fields(head: bytearray) -> tuple[int, int, int]:
    """Inode number, size of the content and size of the name with its NUL."""
    try:
        return int(head[_INODE], 16), int(head[_SIZE], 16), int(head[_NAME_SIZE], 16)
    except ValueError as exc:
        raise CpioError("a newc header field is not hexadecimal") from exc
