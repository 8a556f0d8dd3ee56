"""`wwctl image list`, `show` and `kernels`: what there is, and who boots it."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from bootsvc.cli import completion
from bootsvc.cli.command import Invocation, Noun, pass_invocation
from bootsvc.cli.image.formats import dump, format_options, rfc822, size_text
from bootsvc.cli.image.kernels import kernels_of
from bootsvc.cli.image.site import catalog as open_catalog
from bootsvc.cli.image.site import registry as load_registry
from bootsvc.cli.image.vocabulary import Vocabulary
from bootsvc.cli.table import table
from bootsvc.registry import Registry
from images.catalog import Catalog
from images.kernel import choose_kernel, default_kernel


class ImageRow(msgspec.Struct, frozen=True, kw_only=True):
    """One image. `created`: when it was imported; `modified`: when what nodes get last changed; `size` in bytes."""

    name: str
    built: bool
    nodes: tuple[str, ...]
    kernel: str | None
    created: datetime | None
    modified: datetime | None
    size: int | None


class ImageDetails(ImageRow, frozen=True, kw_only=True):
    rootfs: str


class KernelRow(msgspec.Struct, frozen=True, kw_only=True):
    """One kernel; `nodes` are those that boot this very one."""

    image: str
    kernel: str
    version: str
    default: bool
    nodes: tuple[str, ...]


def add_list(group: Noun, words: Vocabulary) -> None:
    @group.command("list", help=f"List the {words.noun}s.")
    @click.argument("names", nargs=-1, shell_complete=completion.images)
    @click.option("-l", "--long", "long", is_flag=True, help="Nodes, kernel, times and size.")
    @click.option("-k", "--kernel", "kernel", is_flag=True, help="Nodes and the kernel that they get by default.")
    @click.option("-s", "--size", "size", flag_value="image", help="Nodes, and the size of what nodes unpack.")
    @click.option("-c", "--chroot", "size", flag_value="chroot", help="Nodes, and the size of the tree on disk.")
    @click.option("--compressed", "size", flag_value="compressed", help="Nodes, and the size of what nodes download.")
    @format_options
    @pass_invocation
    def list_(
        invocation: Invocation, names: tuple[str, ...], long: bool, kernel: bool, size: str | None, form: str | None
    ) -> None:
        catalog = open_catalog(invocation.config())
        chosen = _chosen(catalog, names)
        wants_rows = form or long or kernel or size or words.finishes_import
        if not wants_rows:
            print(table([f"{words.noun.upper()} NAME"], [[name] for name in chosen], empty=""), end="")
            return
        registry = load_registry(invocation.config())
        rows = [_row(catalog, registry, name, counts=size or "image") for name in chosen]
        if form:
            print(dump(rows, form), end="")
        elif long or kernel or size:
            print(_table(words, rows, "long" if long else "kernel" if kernel else "size"), end="")
        else:
            print(f"{'CONTAINER NAME':<35} {'BUILT':<6} {'NODES':<6}")
            for row in rows:
                print(f"{row.name:<35} {str(row.built).lower():<6} {len(row.nodes):<6}")


COLUMNS = {
    "long": ("NODES", "KERNEL VERSION", "CREATION TIME", "MODIFICATION TIME", "SIZE"),
    "kernel": ("NODES", "KERNEL VERSION"),
    "size": ("NODES", "SIZE"),
}


def _table(words: Vocabulary, rows: Sequence[ImageRow], kind: str) -> str:
    def cells(row: ImageRow) -> list[str]:
        shown = {
            "NODES": str(len(row.nodes)),
            "KERNEL VERSION": row.kernel or "",
            "CREATION TIME": rfc822(row.created) if row.created else "",
            "MODIFICATION TIME": rfc822(row.modified) if row.modified else "",
            "SIZE": "" if row.size is None else size_text(row.size),
        }
        return [row.name, *(shown[column] for column in COLUMNS[kind])]

    header = [f"{words.noun.upper()} NAME", *COLUMNS[kind]]
    return table(header, [cells(row) for row in rows], empty="")


def _row(catalog: Catalog, registry: Registry, name: str, *, counts: str = "image") -> ImageRow:
    """The size is that of what nodes unpack (`image`), of the tree (`chroot`), or of what nodes download (`compressed`)."""
    generation = catalog.current(name)
    kernel = default_kernel(kernels_of(catalog, name))
    size: int | None = None
    if counts == "chroot":
        size = tree_size(catalog.get(name))
    elif generation is not None:
        size = generation.manifest.unpacked_size if counts == "image" else generation.image_size
    return ImageRow(
        name=name,
        built=generation is not None,
        nodes=tuple(node.id for node in registry.nodes_of_image(name)),
        kernel=kernel.version if kernel else None,
        created=_changed(catalog.chroots / name / "source.json") or _changed(catalog.chroots / name),
        modified=_changed(catalog.provision / "images" / name / "current"),
        size=size,
    )


def add_show(group: Noun, words: Vocabulary) -> None:
    @group.command("show", help=f"Show where {words.noun} NAME lies.")
    @click.argument("name", shell_complete=completion.images)
    @click.option("-a", "--all", "every", is_flag=True, help="Its kernel and its nodes, too.")
    @format_options
    @pass_invocation
    def show(invocation: Invocation, name: str, every: bool, form: str | None) -> None:
        catalog = open_catalog(invocation.config())
        rootfs = catalog.get(name)
        if not every and not form:
            print(rootfs)
            return
        row = _row(catalog, load_registry(invocation.config()), name)
        if form:
            print(dump(ImageDetails(**msgspec.structs.asdict(row), rootfs=str(rootfs)), form), end="")
            return
        print(f"Name: {name}")
        print(f"KernelVersion: {row.kernel or 'not found'}")
        print(f"Rootfs: {rootfs}")
        print(f"Nr nodes: {len(row.nodes)}")
        print(f"Nodes: [{' '.join(row.nodes)}]")


def add_kernels(group: Noun, words: Vocabulary) -> None:
    @group.command("kernels", help=f"List the kernels in {words.noun}s.")
    @click.argument("names", nargs=-1, shell_complete=completion.images)
    @format_options
    @pass_invocation
    def kernels(invocation: Invocation, names: tuple[str, ...], form: str | None) -> None:
        catalog = open_catalog(invocation.config())
        chosen = _chosen(catalog, names)
        registry = load_registry(invocation.config())
        rows = [row for name in chosen for row in _kernel_rows(catalog, registry, name)]
        if form:
            print(dump(rows, form), end="")
            return
        header = (words.noun.capitalize(), "Kernel", "Version", "Default", "Nodes")
        cells = [(row.image, row.kernel, row.version, str(row.default).lower(), str(len(row.nodes))) for row in rows]
        print(table(header, cells), end="")


def _kernel_rows(catalog: Catalog, registry: Registry, name: str) -> list[KernelRow]:
    found = kernels_of(catalog, name)
    default = default_kernel(found)
    chosen = {node.id: choose_kernel(found, node.kernel.version) for node in registry.nodes_of_image(name)}
    return [
        KernelRow(
            image=name,
            kernel=kernel.path,
            version=kernel.version,
            default=kernel is default,
            nodes=tuple(node for node, boots in chosen.items() if boots is kernel),
        )
        for kernel in found
    ]


def _chosen(catalog: Catalog, names: Sequence[str]) -> list[str]:
    """All images, or those named; raises ImageNotFound."""
    for name in names:
        catalog.get(name)
    return [name for name in catalog.names() if not names or name in names]


def tree_size(rootfs: Path) -> int:
    """Bytes on disk, a file with several names once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for folder, _, files in os.walk(rootfs):
        for path in (folder, *(os.path.join(folder, file) for file in files)):
            info = os.lstat(path)
            key = (info.st_dev, info.st_ino)
            if info.st_nlink > 1 and key in seen:
                continue
            seen.add(key)
            total += info.st_blocks * 512
    return total


def _changed(path: Path) -> datetime | None:
    """The time of a file or of a link itself, to a second; None when there is none."""
    try:
        return datetime.fromtimestamp(int(path.lstat().st_mtime), UTC)
    except FileNotFoundError:
        return None
