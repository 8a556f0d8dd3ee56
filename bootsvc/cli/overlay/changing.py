"""`wwctl overlay create`, `import`, `mkdir`, `chmod`, `chown` and `delete`."""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from bootsvc.cli.command import Invocation, Verb
from bootsvc.cli.overlay.site import Site, file_argument, name_argument, need_root, warn_of_rest
from bootsvc.overlay_attributes import Mode
from bootsvc.overlay_site import FileExists, NoParent, SiteOverlays, inside, place
from images.cpio import MAX_FIELD
from images.errors import Error
from netboot import overlay


class OverlayInUse(Error):
    def __init__(self, name: str, users: object, example: str) -> None:
        super().__init__(f"overlay {name!r} is used by {users}", hint=f"take it from them first: {example}")


@click.pass_obj
def _create(invocation: Invocation, /, name: str) -> None:
    """Make a new, empty overlay."""
    site = Site(invocation)
    need_root(f"create overlay {name!r}")
    site.overlays.create(name)
    print(f"Created new overlay: {name}")


@click.pass_obj
def _mkdir(invocation: Invocation, /, name: str, file: str, mode: str, parents: bool) -> None:
    """Make a folder in an overlay."""
    site = Site(invocation)
    wanted, path = _octal(mode), inside(name, file)
    need_root(f"change overlay {name!r}")
    warn_of_rest(site, name)
    site.overlays.make_directory(name, path, wanted, parents=parents)


@click.pass_obj
def _chmod(invocation: Invocation, /, name: str, file: str, mode: str) -> None:
    """Change the mode of a file or folder in an overlay; MODE is octal."""
    _change(Site(invocation), name, file, Mode(mode=_octal(mode)))


@click.pass_obj
def _chown(invocation: Invocation, /, name: str, file: str, owner: str) -> None:
    """Change the owner, and the group, of a file or folder in an overlay; both are numbers, as they count on the node."""
    found = re.fullmatch(r"(\d{1,10})(?::(\d{1,10}))?", owner, re.ASCII)
    if found is None or any(int(number) >= 2**32 - 1 for number in found.groups() if number):
        raise Error(f"{owner!r} is no owner", hint="give numbers, as UID or UID:GID: the node's names are not known here")
    uid, gid = found.groups()
    _change(Site(invocation), name, file, Mode(uid=int(uid), gid=None if gid is None else int(gid)))


def _change(site: Site, name: str, file: str, wanted: Mode) -> None:
    path = site.path(name, file, rendered=True)
    need_root(f"change overlay {name!r}")
    warn_of_rest(site, name)
    site.overlays.change(name, path, wanted)


def _octal(text: str) -> int:
    if re.fullmatch("0?o?[0-7]{1,4}", text) is None:
        raise Error(f"{text!r} is no mode", hint="give it in octal, such as 0644")
    return int(text.lstrip("0o") or "0", 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """One thing to import: `path` in the overlay, and where it is now."""

    path: str
    full: Path
    info: os.stat_result


@click.pass_obj
def _import(invocation: Invocation, /, name: str, source: str, dest: str | None, overwrite: bool, parents: bool) -> None:
    """Copy a file or a folder of this machine into an overlay, with mode and owner.

    NEWNAME is its path there, by default the one that it has here; one that ends with a slash is a folder to put it in.
    """
    site = Site(invocation)
    folder = Path(source)
    target = str(folder.absolute()) if dest is None else dest + folder.name if dest.endswith("/") else dest
    top = inside(name, target)
    sources = list(_sources(folder, top))
    tree = overlay.tree(site.overlays.find(name))
    need_root(f"change overlay {name!r}")
    for one in sources:
        _refuse(tree, name, one, overwrite=overwrite)
    if not parents and not (tree / top).parent.is_dir():
        raise NoParent(name, str(Path(top).parent))
    warn_of_rest(site, name)
    if len(sources) == 1:
        _put(site.overlays, name, sources[0])
    else:
        with site.overlays.whole(name) as overlays:
            for one in sources:
                _put(overlays, name, one)
    print(f"Imported {source} into overlay {name}")


def _put(overlays: SiteOverlays, name: str, source: _Source) -> None:
    info = source.info
    wanted = Mode(mode=stat.S_IMODE(info.st_mode), uid=info.st_uid, gid=info.st_gid)
    if stat.S_ISDIR(info.st_mode):
        overlays.make_directory(name, source.path, stat.S_IMODE(info.st_mode), parents=True)
        overlays.change(name, source.path, wanted)
    elif stat.S_ISLNK(info.st_mode):
        overlays.link(name, source.path, os.readlink(source.full), parents=True)
    else:
        overlays.write(name, source.path, source.full.read_bytes(), wanted, parents=True)


def _sources(folder: Path, top: str) -> Iterator[_Source]:
    """The file, or the folder and all in it; a link that is named itself stands for its file."""
    try:
        info = folder.stat()
    except OSError as exc:
        raise Error(f"cannot read {folder}: {exc.strerror}", hint="name a file or a folder of this machine") from exc
    yield _source(folder, top, info)
    if stat.S_ISDIR(info.st_mode):
        for place_, directories, names in os.walk(folder):
            for found in sorted((*directories, *names)):
                full = Path(place_) / found
                yield _source(full, f"{top}/{full.relative_to(folder)}", full.lstat())


def _source(full: Path, path: str, info: os.stat_result) -> _Source:
    if not (stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode) or stat.S_ISLNK(info.st_mode)):
        raise Error(f"{full} is neither a file, nor a link, nor a folder", hint="an overlay cannot hold it")
    if info.st_size > MAX_FIELD and stat.S_ISREG(info.st_mode):
        raise Error(f"{full} has {info.st_size} bytes", hint="an overlay holds files below 4 GiB")
    return _Source(path=path, full=full, info=info)


def _refuse(tree: Path, name: str, source: _Source, *, overwrite: bool) -> None:
    """Before anything is changed: raises Error for what cannot be put there."""
    full = place(tree, name, source.path)
    if not os.path.lexists(full):
        return
    directory = full.is_dir() and not full.is_symlink()
    if directory != stat.S_ISDIR(source.info.st_mode):
        raise FileExists(name, source.path, hint="one is a folder, the other is none: delete it first")
    if not directory and not overwrite:
        raise FileExists(name, source.path, hint="--overwrite puts the new one in its place")


@click.pass_obj
def _delete(invocation: Invocation, /, name: str, file: str | None, force: bool, parents: bool) -> None:
    """Delete an overlay that no node and no profile has, or one FILE of an overlay."""
    site = Site(invocation)
    if file is not None:
        path = site.path(name, file)
        need_root(f"change overlay {name!r}")
        warn_of_rest(site, name)
        site.overlays.delete_file(name, path, force=force, parents=parents)
        print(f"Deleted from overlay {name}: {path}")
        return
    _refuse_used(site, name)
    need_root(f"delete overlay {name!r}")
    site.overlays.delete(name, force=force)
    print(f"Deleted overlay: {name}")


def _refuse_used(site: Site, name: str) -> None:
    """With ours of the same name left, its users lose nothing but the site's changes."""
    from bootsvc.overlay_users import users

    if not site.overlays.is_site(name) or (site.overlays.folders[1] / name).is_dir():
        return
    using = users(site.snapshot, site.registry, name)
    if using:
        kind, first = ("node", using.nodes[0]) if using.nodes else ("profile", using.profiles[0])
        raise OverlayInUse(name, using, f"wwctl {kind} edit {first}")


_PARENTS = ["-p", "--parents"]

create = Verb("create", callback=_create, help=_create.__doc__, params=[click.Argument(["name"], metavar="OVERLAY")])
mkdir = Verb(
    "mkdir",
    callback=_mkdir,
    help=_mkdir.__doc__,
    params=[
        name_argument(),
        click.Argument(["file"], metavar="DIR"),
        click.Option(["-m", "--mode"], default="0755", show_default=True, help="Its mode, in octal."),
        click.Option(_PARENTS, is_flag=True, help="Make missing parents; no complaint if it exists."),
    ],
)
chmod = Verb(
    "chmod",
    callback=_chmod,
    help=_chmod.__doc__,
    params=[name_argument(), file_argument(), click.Argument(["mode"], metavar="MODE")],
)
chown = Verb(
    "chown",
    callback=_chown,
    help=_chown.__doc__,
    params=[name_argument(), file_argument(), click.Argument(["owner"], metavar="UID[:GID]")],
)
import_ = Verb(
    "import",
    callback=_import,
    help=_import.__doc__,
    params=[
        name_argument(),
        click.Argument(["source"], metavar="FILE", type=click.Path()),
        click.Argument(["dest"], metavar="[NEWNAME]", required=False),
        click.Option(["-o", "--overwrite"], is_flag=True, help="Replace a file that is there."),
        click.Option(_PARENTS, is_flag=True, help="Make missing parents."),
        click.Option(["--workers"], type=int, hidden=True, expose_value=False),
    ],
)
delete = Verb(
    "delete",
    callback=_delete,
    help=_delete.__doc__,
    params=[
        name_argument(),
        file_argument(required=False),
        click.Option(["-f", "--force"], is_flag=True, help="Also an overlay, or a folder, with files."),
        click.Option(_PARENTS, is_flag=True, help="With FILE: also the folders that are empty then."),
    ],
)
