"""Looks for what is missing of what nodes boot: loaders, nodes.conf, images."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from bootsvc.config import Config
from bootsvc.loaders import find_loader
from bootsvc.net.links import Link
from bootsvc.process.report import Report
from bootsvc.registry import Registry
from bootsvc.store import Store
from images.catalog import Catalog
from images.errors import Error
from netboot.firmware import FIRMWARES, SHIMS, loader

MAX_SHOWN = 10
"""Problems of nodes.conf that are listed."""
_LOADER_HINT = "the package `ipxe` has those of most machines; put others there, or name them in `tftp: ipxe:`"
_SHIM_HINT = "install the packages `shim-signed` and `grub-efi-amd64-signed` (arm64: `grub-efi-arm64-signed`)"


def check_loaders(report: Report, config: Config) -> None:
    """Which boot loaders are missing, and whose machines so cannot boot."""
    folder = config.paths.ipxesource
    wanted: dict[str, list[str]] = {}
    for arch, firmware in FIRMWARES.items():
        name = loader(arch, config.tftp.loaders)
        if name is not None:
            wanted.setdefault(name, []).append(firmware.name)
    signed = [name for name in wanted if find_loader(name, [Path("/")]) is not None]
    present = [name for name in wanted if name in signed or (folder / name).is_file()]
    for name in wanted:
        if name not in present:
            kinds = ", ".join(dict.fromkeys(wanted[name]))
            missing = report.warn if present else report.error
            hint = _SHIM_HINT if name in SHIMS.values() else _LOADER_HINT
            missing("loaders", f"{folder / name} is missing: {kinds} machines cannot boot", hint)
    if present:
        report.ok("loaders", f"{', '.join(present)}: there")


def check_nodes(report: Report, config: Config, link: Link | None) -> Registry:
    """What is wrong in nodes.conf; its nodes, or none when it cannot be read."""
    path = config.paths.nodes_conf
    try:
        registry = Registry.build(Store(path).load(), config.network or (link.network if link else None))
    except Error as exc:
        report.add("nodes", exc)
        return Registry()
    thief = None if link is None else registry.by_address(link.address)
    if link is not None and thief is not None:
        report.warn("nodes", f"node {thief.id} gets no address: its {link.address} is this server's own", "give it another")
    for problem in registry.problems[:MAX_SHOWN]:
        report.warn("nodes", problem)
    if len(registry.problems) > MAX_SHOWN:
        report.warn("nodes", f"{len(registry.problems) - MAX_SHOWN} more like these", "`wwctl node list` shows them all")
    report.ok("nodes", f"{len(registry.nodes)} in {path}" if path.exists() else f"none: there is no {path}")
    return registry


def check_images(report: Report, config: Config, registry: Registry) -> None:
    """Whether the images that nodes have are there, and whole."""
    catalog = Catalog(chroots=config.paths.chroots, provision=config.paths.provision)
    used: dict[str, list[str]] = {}
    for node in registry.nodes:
        used.setdefault(node.image_name, []).append(node.id)
    without = used.pop("", [])
    if without:
        report.warn("images", f"{_some(without)} without an image", "`wwctl node set NODE --image NAME`")
    for image, nodes in sorted(used.items()):
        for finding in _image_problems(catalog, image):
            report.error("images", f"{finding[0]}, which {_some(nodes)} would boot", finding[1])
            break
        else:
            report.ok("images", f"{image} for {_some(nodes)}")


def _image_problems(catalog: Catalog, image: str) -> Iterator[tuple[str, str]]:
    if not catalog.exists(image):
        yield f"there is no image {image}", f"import it, or correct the nodes; there are {_list(catalog.names())}"
        return
    try:
        generation = catalog.current(image)
    except (OSError, Error) as exc:
        yield f"image {image} cannot be read: {exc}", f"`wwctl image build {image}`"
        return
    if generation is None:
        yield f"image {image} is not built", f"`wwctl image build {image}`"
        return
    missing = generation.missing()
    if missing:
        yield f"image {image} lacks {len(missing)} of its segments", f"`wwctl image build --force {image}`"
        return
    for path, _ in generation.image_files():
        if not _readable(path):
            yield f"{path} of image {image} cannot be read", "only root can; or its file system is damaged"
            return
    if not generation.manifest.kernels:
        yield f"image {image} has no kernel", "install one in it, and build it again"


def _readable(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return bool(file.read(1))
    except OSError:
        return False


def _some(nodes: Sequence[str]) -> str:
    if len(nodes) == 1:
        return f"node {nodes[0]}"
    shown = ", ".join(nodes[:3])
    return f"{len(nodes)} nodes ({shown}{', …' if len(nodes) > 3 else ''})"


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
