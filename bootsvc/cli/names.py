"""Names on the command line: which nodes and profiles they stand for, and whether images and overlays of theirs exist."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bootsvc import hostlist
from bootsvc.changes import WORDS, Change
from bootsvc.cli.terminal import warn
from bootsvc.config import Config
from bootsvc.names import UnknownName, closest
from bootsvc.store import NODES, PROFILES, Entry, Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What a noun's verbs work on: the nodes or the profiles of nodes.conf."""

    section: str

    @property
    def word(self) -> str:
        return WORDS[self.section]

    def count(self, number: int) -> str:
        """`3 node(s)`, as Warewulf counts."""
        return f"{number} {self.word}(s)"

    def expand(self, names: Iterable[str]) -> list[str]:
        """All names that are meant, each once: nodes by host lists, profiles also between commas. Raises HostlistError."""
        if self.section == NODES:
            every = (name for text in names for name in hostlist.expand(text))
        else:
            every = (name for text in names for name in text.split(",") if name)
        return list(dict.fromkeys(every))

    def known(self, names: Iterable[str], snapshot: Snapshot) -> list[str]:
        """Those that exist; a warning names each of the others."""
        entries, known = snapshot.entries(self.section), []
        for name in names:
            if name in entries:
                known.append(name)
            else:
                warn(f"there is no {self.word} {name!r}", closest(name, list(entries)))
        return known

    def existing(self, names: Sequence[str], snapshot: Snapshot, *, all_of_them: bool = False) -> list[str]:
        """As `known`; raises UnknownName when some are named and none exists, with `all_of_them` when one does not."""
        entries = snapshot.entries(self.section)
        missing = [name for name in names if name not in entries]
        if missing and (all_of_them or len(missing) == len(names)):
            raise UnknownName(self.word, missing[0], list(entries))
        return self.known(names, snapshot)


NODE, PROFILE = Kind(section=NODES), Kind(section=PROFILES)


def image_names(config: Config) -> list[str]:
    from images.catalog import Catalog

    return Catalog(chroots=config.paths.chroots, provision=config.paths.provision).names()


def overlay_names(config: Config) -> list[str]:
    """The site's and the shipped ones."""
    from bootsvc.overlays import folders

    return sorted({path.name for folder in folders(config) if folder.is_dir() for path in folder.iterdir() if path.is_dir()})


def check_parts(changes: Iterable[Change], config: Config) -> None:
    """Raises UnknownName for an image that does not exist; an overlay is a warning, for it may come later."""
    for change in changes:
        if change.path == ("image name",) and isinstance(change.value, str):
            _check_image(change.value, config)
        if change.path in (("system overlay",), ("runtime overlay",)) and isinstance(change.value, list):
            _check_overlays(change.value, config)


def check_entries(before: Mapping[str, Entry], after: Mapping[str, Entry], config: Config) -> None:
    """As `check_parts`, for what entries say that they did not say before."""
    keys = ("image name", "system overlay", "runtime overlay")
    said = {(key, str(entry[key])) for entry in before.values() for key in keys if key in entry}
    new = {(key, str(entry[key])): entry[key] for entry in after.values() for key in keys if key in entry}
    check_parts((Change(path=(key,), value=value) for (key, text), value in new.items() if (key, text) not in said), config)


def _check_image(name: str, config: Config) -> None:
    known = image_names(config)
    if name not in known:
        raise UnknownName("image", name, known)


def _check_overlays(names: Iterable[str], config: Config) -> None:
    known = overlay_names(config)
    for name in (name.removeprefix("~") for name in names if isinstance(name, str)):
        # Warewulf's wwinit brings its init, which every image of ours has.
        if name not in known and name != "wwinit":
            warn(f"there is no overlay {name!r}", closest(name, known))
