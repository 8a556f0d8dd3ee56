"""`wwctl overlay diff`: how a site's copy differs from the overlay that we ship under its name."""

import os
import stat
from collections.abc import Iterator, Mapping
from difflib import unified_diff

import click

from bootsvc.cli.command import Invocation, Verb
from bootsvc.cli.listing import form_options, write
from bootsvc.cli.overlay.site import Site, complete_name
from images.errors import Error
from netboot import overlay
from netboot.overlay import Item, Overlay


@click.pass_obj
def _diff(invocation: Invocation, /, names: tuple[str, ...], form: str | None) -> None:
    """Show how the site's copies of overlays differ from those that come with bootsvc (none named: all)."""
    site = Site(invocation)
    ours = site.overlays.folders[1]
    for name in names:
        site.overlays.find(name)
        if not (ours / name).is_dir():
            raise Error(f"overlay {name!r} is the site's alone", hint="there is nothing to compare it with")
    rows = []
    for name in site.chosen(names):
        if not site.overlays.is_site(name) or not (ours / name).is_dir():
            continue
        before, after = overlay.read(ours / name), overlay.read(site.overlays.site / name)
        for path, what, lines in _changes(before, after):
            rows.append({"overlay": name, "path": path, "change": what})
            if form is None:
                print(f"{name}: {path}: {what}")
                print(*lines, sep="", end="")
    if form is not None:
        write(rows, form)


def _changes(before: Overlay, after: Overlay) -> Iterator[tuple[str, str, list[str]]]:
    old, new = _by_path(before), _by_path(after)
    for path in sorted(old.keys() | new.keys()):
        if path not in old:
            yield path, "added", []
        elif path not in new:
            yield path, "deleted", []
        else:
            yield from _change(path, old[path], new[path])
    for removal in sorted({*before.removals} ^ {*after.removals}):
        what = "removed from nodes" if removal in after.removals else "no longer removed from nodes"
        yield os.fsdecode(removal), what, []


def _by_path(found: Overlay) -> Mapping[str, Item]:
    return {os.fsdecode(item.path): item for item in found.items}


def _change(path: str, old: Item, new: Item) -> Iterator[tuple[str, str, list[str]]]:
    if stat.S_IFMT(old.mode) != stat.S_IFMT(new.mode):
        yield path, f"{_kind(old)}, now {_kind(new)}", []
        return
    if old.mode != new.mode:
        yield path, f"mode {stat.S_IMODE(old.mode):04o}, now {stat.S_IMODE(new.mode):04o}", []
    if (old.uid, old.gid) != (new.uid, new.gid):
        yield path, f"owner {old.uid}:{old.gid}, now {new.uid}:{new.gid}", []
    if stat.S_ISLNK(new.mode) and old.content != new.content:
        yield path, f"link to {os.fsdecode(old.content)}, now to {os.fsdecode(new.content)}", []
    elif old.content != new.content:
        yield path, "changed", list(_lines(path, old.content, new.content))


def _kind(item: Item) -> str:
    return {stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}.get(stat.S_IFMT(item.mode), "file")


def _lines(path: str, old: bytes, new: bytes) -> Iterator[str]:
    try:
        before, after = (content.decode().splitlines(keepends=True) for content in (old, new))
    except UnicodeDecodeError:
        return
    for line in unified_diff(before, after, f"shipped/{path}", f"site/{path}"):
        yield line if line.endswith("\n") else line + "\n\\ No newline at end of file\n"


diff = Verb(
    "diff",
    callback=_diff,
    help=_diff.__doc__,
    params=[click.Argument(["names"], nargs=-1, metavar="OVERLAY...", shell_complete=complete_name), *form_options()],
)
