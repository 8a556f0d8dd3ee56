"""`wwctl overlay edit`: a file in the editor; a template must render for every node that has it before it counts."""

import os
import stat
import tempfile
from pathlib import Path

import click

from bootsvc.cli.command import Invocation, Verb
from bootsvc.cli.editor import edit_until_fit
from bootsvc.cli.overlay.site import Site, file_argument, name_argument, need_root, warn_of_rest
from bootsvc.overlay_attributes import Mode
from bootsvc.overlay_site import FileExists, NoParent, inside, place
from images.errors import Error
from netboot import overlay
from netboot.engines import parse, suffix_of
from netboot.errors import OverlayError, TemplateError
from netboot.overlay import Item


@click.pass_obj
def _edit(invocation: Invocation, /, name: str, file: str, parents: bool) -> None:
    """Edit a file of an overlay in $EDITOR; one that does not exist begins empty.

    A template is rendered for every node that has the overlay; a mistake is shown, and you may go back to the editor.
    """
    site = Site(invocation)
    path = inside(name, file)
    tree = overlay.tree(site.overlays.find(name))
    full = place(tree, name, path)
    need_root(f"change overlay {name!r}")
    if os.path.lexists(full) and (full.is_symlink() or not full.is_file()):
        raise FileExists(name, path, hint="it is no file that can be edited")
    if not parents and not full.parent.is_dir():
        raise NoParent(name, str(Path(path).parent))
    before = full.read_bytes() if full.exists() else None
    with tempfile.TemporaryDirectory(prefix="wwctl-") as folder:
        # Under its own name, by which editors know what it is.
        copy = Path(folder) / full.name
        copy.write_bytes(before or b"")
        after = edit_until_fit(copy, lambda: _read_edited(site, name, path, copy))
    if after is None or after == (before or b""):
        print("No changes made!")
        return
    if (full.read_bytes() if full.exists() else None) != before:
        raise Error(f"{path!r} in overlay {name!r} was changed while it was being edited", hint="edit it once more")
    warn_of_rest(site, name)
    site.overlays.write(name, path, after, _kept(site, name, path), parents=parents)


def _kept(site: Site, name: str, path: str) -> Mode:
    """Mode and owner that the file has now; of a new one the usual ones."""
    known = {os.fsdecode(item.path): item for item in site.load(name).items}
    item = known.get(path)
    return Mode(mode=0o644, uid=0, gid=0) if item is None else Mode(mode=stat.S_IMODE(item.mode), uid=item.uid, gid=item.gid)


def _read_edited(site: Site, name: str, path: str, copy: Path) -> bytes:
    """Raises Error when it cannot stand."""
    content = copy.read_bytes()
    _check(site, name, path, content)
    return content


def _check(site: Site, name: str, path: str, content: bytes) -> None:
    """Raises OverlayError when the template cannot be rendered for one of its nodes."""
    suffix = suffix_of(path)
    if suffix is None:
        return
    try:
        parse(suffix, content)
    except TemplateError as exc:
        raise OverlayError(f"overlay {name}, {path}:{exc.line or '?'}: {exc.reason}", hint="mend the template") from exc
    item = Item(path=os.fsencode(path), mode=stat.S_IFREG | 0o644, content=content)
    changed = overlay.Overlay(name=name, items=(item,))
    for node in site.registry.nodes:
        if name in (*node.system_overlay, *node.runtime_overlay):
            site.renderer.render([changed], site.context(node))


edit = Verb(
    "edit",
    callback=_edit,
    help=_edit.__doc__,
    params=[
        name_argument(),
        file_argument(),
        click.Option(["-p", "--parents"], is_flag=True, help="Make missing parents."),
        click.Option(["-m", "--mode"], hidden=True, expose_value=False),
    ],
)
