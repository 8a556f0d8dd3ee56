"""Which kernels an image has for its nodes."""

from collections.abc import Sequence

from images.catalog import Catalog
from images.kernel_scan import AnyKernel, scan_kernels


def kernels_of(catalog: Catalog, name: str) -> Sequence[AnyKernel]:
    """Those that nodes can get; of an image that was never built, those in its tree."""
    generation = catalog.current(name)
    return generation.manifest.kernels if generation is not None else scan_kernels(catalog.get(name))
