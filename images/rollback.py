"""Back to an earlier generation, which nodes then get until the image's pin is released: builds do not become current."""

import contextlib
from collections.abc import Iterator

import msgspec

from images import store_lock
from images.atomic import write_whole
from images.errors import Error
from images.generation import Generation
from images.generations import GenerationBroken, GenerationNotFound, Generations, ImageNotBuilt, Pin


class NotSwitched(Error):
    def __init__(self, name: str, reason: OSError) -> None:
        super().__init__(
            f"the current generation of {name!r} was not changed: {reason.strerror} ({reason.filename})",
            hint="free some space for built images, then try again",
        )


class NotPinned(Error):
    def __init__(self, name: str) -> None:
        super().__init__(f"image {name!r} is not pinned", hint="`wwctl image rollback` pins; there is nothing to release")


def roll_back(generations: Generations, name: str, digest: str, *, by: str, now: float) -> Generation:
    """Make this generation current and keep it so until `release`.

    Raises GenerationNotFound, GenerationBroken or NotSwitched.
    """
    with _switching(generations, name):
        generation = _whole(generations, name, digest)
        write_whole(generations.pin_file(name), msgspec.json.encode(Pin(generation=digest, since=now, by=by)))
        generations.activate(name, digest)
    return generation


def release(generations: Generations, name: str) -> Generation:
    """Remove the pin and make the newest build current.

    Raises NotPinned, ImageNotBuilt, GenerationBroken or NotSwitched.
    """
    pin = generations.pin_file(name)
    with _switching(generations, name):
        if not pin.exists():
            raise NotPinned(name)
        history = generations.history(name)
        if not history:
            raise ImageNotBuilt(name)
        generation = _whole(generations, name, history[0].digest)
        # In this order a crash in between leaves an image that is not pinned, and the next build makes itself current.
        pin.unlink()
        generations.activate(name, generation.digest)
    return generation


@contextlib.contextmanager
def _switching(generations: Generations, name: str) -> Iterator[None]:
    try:
        with store_lock.in_use(generations.provision), store_lock.publishing(generations.provision):
            yield
    except OSError as exc:
        raise NotSwitched(name, exc) from exc


def _whole(generations: Generations, name: str, digest: str) -> Generation:
    generation = generations.get(digest)
    if generation is None:
        raise GenerationNotFound(name, digest)
    missing = generation.missing()
    if missing:
        raise GenerationBroken(digest, missing[0])
    return generation
