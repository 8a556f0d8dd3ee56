"""nodes.conf for the server: what a large file says is found out in another process, and only unpacked here.

libyaml keeps Python's lock for all the seconds that 10 000 nodes take; unpacking and merging give it away every few
milliseconds, so that a packet never waits.
"""

import asyncio
import gc
import logging
import os
import sys
from ipaddress import IPv4Network
from pathlib import Path

import msgspec

from bootsvc.registry import Registry
from bootsvc.store import Store
from bootsvc.yamlfile import paused_gc
from images.errors import Error

log = logging.getLogger(__name__)

_NICE = 5
"""The parser leaves the processor to the server where they share one."""


async def load_aside(store: Store, network: IPv4Network, previous: Registry) -> Registry:
    """The nodes as nodes.conf says now; raises Error for a file that cannot be used."""
    packed = await _parsed_elsewhere(store) if await asyncio.to_thread(store.must_parse) else b""
    return await asyncio.to_thread(load, store, network, previous, packed)


def load(store: Store, network: IPv4Network, previous: Registry, packed: bytes = b"") -> Registry:
    """As `load_aside`, in this thread, and parsing here unless `packed` says what the file holds."""
    with paused_gc():
        registry = Registry.build(store.load(packed=packed), network, previous=previous)
        # The registry has all it needs; a second copy of every entry would stay here until the next change.
        store.forget()
        # Looking for cycles among 10 000 nodes would stop the loop for a fifth of a second, and there are none.
        gc.freeze()
        return registry


async def _parsed_elsewhere(store: Store) -> bytes:
    """The packed file, by a process that also writes the cache; nothing when that process fails for a reason of its own."""
    arguments = (str(store.path), str(store.cache or ""))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "bootsvc.loading",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        output, _ = await process.communicate()
    except BaseException:
        if process.returncode is None:
            process.kill()
        raise
    if process.returncode == 0:
        return output
    try:
        message, hint = msgspec.msgpack.decode(output, type=tuple[str, str | None])
    except msgspec.MsgspecError:
        log.warning("the parser of %s ended with status %s; the server reads it itself", store.path, process.returncode)
        return b""
    raise Error(message, hint=hint)


def _main(path: str, cache: str) -> int:
    os.nice(_NICE)
    store = Store(Path(path), Path(cache) if cache else None)
    try:
        store.load()
    except Error as exc:
        sys.stdout.buffer.write(msgspec.msgpack.encode((exc.message, exc.hint)))
        return 1
    sys.stdout.buffer.write(store.packed())
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
