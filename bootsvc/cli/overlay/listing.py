"""`wwctl overlay list`."""

import os
import stat

import click

from bootsvc.cli.command import Invocation, Verb
from bootsvc.cli.listing import form_options
from bootsvc.cli.listing import show as show_table
from bootsvc.cli.overlay.site import Site, complete_name
from bootsvc.cli.table import Table
from bootsvc.cli.terminal import warn
from netboot.errors import OverlayError
from netboot.overlay import Overlay


@click.pass_obj
def _list(invocation: Invocation, /, names: tuple[str, ...], every: bool, long: bool, path: bool, form: str | None) -> None:
    """List overlays: how many files each has, and whether it is the site's own.

    --all and --long give one line a file, --long with its mode and owner as a node gets them.
    """
    site = Site(invocation)
    last = "PATH" if path else "SITE"
    header = ("PERM MODE", "UID", "GID", "OVERLAY", "FILE PATH", last) if long else ("OVERLAY NAME", "FILES/DIRS", last)
    rows: list[tuple[str, ...]] = []
    for name in site.chosen(names):
        where = str(site.overlays.find(name)) if path else str(site.overlays.is_site(name)).lower()
        try:
            overlay = site.load(name)
        except OverlayError as exc:
            # The others are shown all the same.
            warn(exc.message, exc.hint)
            continue
        if not every and not long:
            rows.append((name, str(len(_files(overlay))), where))
        elif not _files(overlay):
            rows.append(("", "", "", name, "", where) if long else (name, "", where))
        else:
            rows += [(*kept, name, shown, where) if long else (name, shown, where) for kept, shown in _files(overlay)]
    show_table(Table(header, rows), form)


def _files(overlay: Overlay) -> list[tuple[tuple[str, str, str], str]]:
    """Mode, owner and group, and the path; what the overlay takes away as the whiteout that it is."""
    found = {
        os.fsdecode(item.path) + ("/" if stat.S_ISDIR(item.mode) else ""): (
            stat.filemode(item.mode).replace("l", "L"),
            str(item.uid),
            str(item.gid),
        )
        for item in overlay.items
    }
    found |= {os.fsdecode(path): ("removed", "", "") for path in overlay.removals}
    return [(kept, path) for path, kept in sorted(found.items())]


list_ = Verb(
    "list",
    callback=_list,
    help=_list.__doc__,
    params=[
        click.Argument(["names"], nargs=-1, metavar="OVERLAY...", shell_complete=complete_name),
        click.Option(["-a", "--all", "every"], is_flag=True, help="One line a file."),
        click.Option(["-l", "--long"], is_flag=True, help="One line a file, with mode and owner."),
        click.Option(["-p", "--path"], is_flag=True, help="Where the overlay lies, instead of whose it is."),
        *form_options(),
    ],
)
