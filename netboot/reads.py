"""Which parts of its context a template read, so that it is rendered anew exactly when one of them changes.

A read is a path of steps from the context: `("node", "kernel", "version")`. EACH stands for every element of a list or mapping,
so that a loop over 10 000 nodes is one path; KEYS, COUNT and KIND are the keys, the number and the type of what a path leads
to. A path without them is the whole value. What was read is noted; `digest` tells two contexts apart by it.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

ReadPath = tuple[str, ...]

EACH, KEYS, COUNT, KIND = "\0each", "\0keys", "\0count", "\0kind"
"""Steps that no name can be: nothing in YAML holds a NUL."""


class Trace:
    """The reads of one rendering; an engine notes them, or has `tracked` do it."""

    __slots__ = ("paths",)

    def __init__(self) -> None:
        self.paths: set[ReadPath] = set()

    def note(self, path: ReadPath) -> None:
        self.paths.add(path)


def digest(paths: Iterable[ReadPath], context: object) -> bytes:
    """What the context says at these paths, as sha256."""
    found = [(path, list(_look_up(context, path, 0))) for path in sorted(paths)]
    return hashlib.sha256(_encode(found)).digest()


def _encode(value: object) -> bytes:
    try:
        return msgspec.json.encode(value, enc_hook=str)
    except (TypeError, ValueError, RecursionError):
        # Keys that JSON has not, and numbers beyond it.
        return repr(value).encode(errors="surrogatepass")


_MISSING = "\0missing"


def _look_up(value: Any, path: ReadPath, at: int) -> Iterator[object]:
    """The values at a path; several where EACH stands in it, each group after its count, so that none is taken for another."""
    while at < len(path):
        step = path[at]
        at += 1
        if step == EACH:
            elements = list(value.values()) if isinstance(value, Mapping) else _elements(value)
            yield len(elements)
            for element in elements:
                yield from _look_up(element, path, at)
            return
        value = _step(value, step)
    yield value


def _elements(value: object) -> Sequence[Any]:
    return value if isinstance(value, Sequence) and not isinstance(value, str) else ()


def _step(value: Any, step: str) -> object:
    if step == KIND:
        return type(value).__name__
    if step == COUNT:
        return len(value) if isinstance(value, Mapping | Sequence) else 0
    if step == KEYS:
        return list(value) if isinstance(value, Mapping) else ()
    if isinstance(value, Mapping):
        return value.get(step, _MISSING)
    try:
        return getattr(value, step, _MISSING)
    except (ValueError, TypeError, ArithmeticError, LookupError) as exc:
        # A property that has no value for these fields; rendering will say so.
        return f"\0{exc}"


def stand_in(value: Any, path: ReadPath, trace: Trace) -> Any:
    """Something that stands for a record, a mapping or a list, and notes what is read of it; None for anything else."""
    if isinstance(value, Mapping):
        return TrackedMapping(value, path, trace)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return TrackedSequence(value, path, trace)
    if isinstance(value, msgspec.Struct) or hasattr(value, "__dataclass_fields__"):
        return TrackedRecord(value, path, trace)
    return None


def tracked(value: Any, path: ReadPath, trace: Trace) -> Any:
    """The value that was read at a path, noted, or what stands for it."""
    found = stand_in(value, path, trace)
    if found is None:
        trace.paths.add(path)
        return value
    trace.paths.add((*path, KIND))
    return found


class _Tracked:
    """What all three have in common: to compare or to print one is to read the whole."""

    __slots__ = ("_path", "_trace", "_value")

    def __init__(self, value: Any, path: ReadPath, trace: Trace) -> None:
        self._value = value
        self._path = path
        self._trace = trace

    def __str__(self) -> str:
        return str(whole(self))

    def __eq__(self, other: object) -> bool:
        return bool(whole(self) == whole(other))

    def __hash__(self) -> int:
        return hash(whole(self))


def whole(value: object) -> Any:
    """The value itself, noted as read in whole."""
    if isinstance(value, _Tracked):
        value._trace.paths.add(value._path)
        return value._value
    return value


def parts(value: Any, *paths: ReadPath) -> Any:
    """The value itself, of which only what is at these paths is noted as read: all that the caller may look at."""
    if isinstance(value, _Tracked):
        value._trace.paths.update((*value._path, *path) for path in paths)
        return value._value
    return value


def members(value: object) -> int:
    """How many members a stand-in has, which is not noted as read; 0 for anything else."""
    return len(value._value) if isinstance(value, TrackedMapping | TrackedSequence) else 0


class TrackedRecord(_Tracked):
    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._value, name)
        if callable(found):
            whole(self)
            return found
        return tracked(found, (*self._path, name), self._trace)


class TrackedMapping(_Tracked, Mapping[Any, Any]):
    __slots__ = ()

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, str):
            return whole(self)[key]
        path = (*self._path, key)
        if key not in self._value:
            self._trace.paths.add(path)
            raise KeyError(key)
        return tracked(self._value[key], path, self._trace)

    def __iter__(self) -> Iterator[Any]:
        self._trace.paths.add((*self._path, KEYS))
        return iter(self._value)

    def __len__(self) -> int:
        self._trace.paths.add((*self._path, COUNT))
        return len(self._value)

    def items(self) -> Any:
        """Pairs; what is read of a value counts for every element."""
        path = (*self._path, EACH)
        return [(key, tracked(self._value[key], path, self._trace)) for key in self]

    def values(self) -> Any:
        return [value for _, value in self.items()]

    __eq__ = _Tracked.__eq__
    __hash__ = _Tracked.__hash__


class TrackedSequence(_Tracked, Sequence[Any]):
    __slots__ = ()

    def __getitem__(self, index: Any) -> Any:
        self._trace.paths.add((*self._path, COUNT))
        if isinstance(index, slice):
            return whole(self)[index]
        return tracked(self._value[index], (*self._path, EACH), self._trace)

    def __iter__(self) -> Iterator[Any]:
        self._trace.paths.add((*self._path, COUNT))
        path, trace = (*self._path, EACH), self._trace
        return (tracked(element, path, trace) for element in self._value)

    def __len__(self) -> int:
        self._trace.paths.add((*self._path, COUNT))
        return len(self._value)

    def __contains__(self, value: object) -> bool:
        return whole(value) in whole(self)

    __eq__ = _Tracked.__eq__
    __hash__ = _Tracked.__hash__
