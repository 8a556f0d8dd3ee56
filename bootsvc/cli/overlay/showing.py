"""`wwctl overlay show` and `info`."""

import os
import socket
import sys
from dataclasses import replace

import click

from bootsvc.cli import completion
from bootsvc.cli.command import Invocation, Verb
from bootsvc.cli.listing import form_options
from bootsvc.cli.listing import show as show_table
from bootsvc.cli.overlay.site import Site, file_argument, name_argument
from bootsvc.cli.table import Table
from bootsvc.names import UnknownName
from images.errors import Error
from netboot.engine import Explained, Rendering
from netboot.engines import parse, render, suffix_of
from netboot.errors import TemplateError
from netboot.head_files import NotedFiles
from netboot.node import Node
from netboot.reads import Trace


@click.pass_obj
def _show(invocation: Invocation, /, name: str, file: str, node_name: str | None, quiet: bool) -> None:
    """Show a file of an overlay; with --render what its template makes for a node."""
    site = Site(invocation)
    path, full = site.file(name, file, rendered=node_name is not None)
    if full.is_symlink():
        print(f"{path} is a symbolic link to {os.readlink(full)}")
        return
    if full.is_dir():
        raise Error(f"{path!r} in overlay {name!r} is a folder", hint=f"`wwctl overlay list -a {name}` shows its files")
    if not full.is_file():
        raise Error(f"{path!r} in overlay {name!r} is neither a file, nor a link, nor a folder", hint="delete it")
    content = full.read_bytes()
    if node_name is None or suffix_of(path) is None:
        sys.stdout.buffer.write(content)
        return
    _write(_rendered(site, name, path, content, find_node(site, node_name)), quiet=quiet)


def find_node(site: Site, name: str) -> Node:
    """The node, or the head node, which the host overlay is for. Raises UnknownName with the closest one."""
    node = site.registry.by_name(name)
    if node is None and name in (socket.gethostname(), site.renderer.seen.boot.name):
        return Node(id=name)
    if node is None:
        raise UnknownName("node", name, [known.id for known in site.registry.nodes])
    return node


def _rendered(site: Site, name: str, path: str, content: bytes, node: Node) -> Rendering:
    context = replace(site.context(node), overlay=name)
    return render(content, context, Trace(), NotedFiles(site.renderer.results.files), path=path)


def _write(rendering: Rendering, *, quiet: bool) -> None:
    """Each file under a head that says what becomes of it, as Warewulf shows it."""
    for output in rendering.outputs:
        if not quiet:
            print(f"backupFile: {str(rendering.backup).lower()}")
            print(f"writeFile: {str(not rendering.aborted).lower()}")
            print(f"Filename: {output.path}")
            if output.target is not None:
                print(f"Symlink: {output.target}")
        print(output.text, end="")
    if rendering.aborted:
        print("Aborted")


@click.pass_obj
def _info(invocation: Invocation, /, name: str, file: str, form: str | None) -> None:
    """Show what a template uses: each field with the flag that sets it, its type and its help.

    A comment in the template, {# name: text #}, is the help of a tag or of whatever has none.
    """
    site = Site(invocation)
    path, full = site.file(name, file, rendered=True)
    suffix = suffix_of(path)
    if suffix is None:
        raise Error(f"{path!r} in overlay {name!r} is no template", hint="only templates have variables")
    try:
        template = parse(suffix, full.read_bytes())
    except TemplateError as exc:
        raise Error(f"overlay {name}, {path}:{exc.line or '?'}: {exc.reason}", hint="mend the template") from exc
    if not isinstance(template, Explained):
        raise Error(f"nothing is known of the variables of {suffix} templates")
    rows = [(one.name, one.option, one.type, one.help) for one in template.variables()]
    show_table(Table(("VARIABLE", "OPTION", "TYPE", "HELP"), rows), form)


show = Verb(
    "show",
    callback=_show,
    help=_show.__doc__,
    params=[
        name_argument(),
        file_argument(),
        click.Option(
            ["-r", "--render", "node_name"], metavar="NODE", shell_complete=completion.nodes, help="As it is for this node."
        ),
        click.Option(["-q", "--quiet"], is_flag=True, help="Only the text, without the head of each file."),
    ],
)
info = Verb("info", callback=_info, help=_info.__doc__, params=[name_argument(), file_argument(), *form_options()])
