"""A full build: every file read and compressed, against find, cpio and pigz, which is how Warewulf builds an image."""

import debian_tree
from context import IMAGE, Context
from debian_tree import empty
from figures import Comparison, Kind, Limit, Subject, Target
from measure import Case, Command

from images.errors import Error

GZIP_IMAGE = f"{IMAGE}-gzip"
FASTER = Target(kind=Kind.FASTER, bound=8)
ZSTD_SIZE, GZIP_SIZE = 0.95, 1.15
"""At most this share of the size that pigz makes."""
PEAK_MEMORY = 200e6

PEER = 'find . | cpio --quiet -o -H newc >"$1/image.img" && pigz --keep "$1/image.img"'


def measure(context: Context) -> Subject:
    head = context.head
    context.say("copying the tree, for a kernel that cannot unpack zstd")
    debian_tree.copy(head.rootfs(IMAGE), head.rootfs(GZIP_IMAGE))
    debian_tree.drop_kernel_option(head.rootfs(GZIP_IMAGE), "CONFIG_RD_ZSTD")
    debian_tree.read_all(head.rootfs(GZIP_IMAGE))
    sizes: dict[str, int] = {}
    zstd, pigz, gzip = context.in_turn(
        [_ours(context, IMAGE, "zstd", sizes), peer(context), _ours(context, GZIP_IMAGE, "gzip", sizes)]
    )
    pigz_size = (context.folder / "peer" / "image.img.gz").stat().st_size
    memory = max(zstd.memory or 0, gzip.memory or 0)
    return Subject(
        name="full_build",
        comparisons=(
            Comparison(work="full build, zstd", ours=zstd, peer=pigz, target=FASTER),
            Comparison(work="full build, gzip", ours=gzip, peer=pigz, target=FASTER),
        ),
        limits=(
            Limit(what="size of the zstd image, of pigz's", value=sizes["zstd"] / pigz_size, bound=ZSTD_SIZE),
            Limit(what="size of the gzip image, of pigz's", value=sizes["gzip"] / pigz_size, bound=GZIP_SIZE),
            Limit(what="peak memory of a full build", value=memory / 1e6, bound=PEAK_MEMORY / 1e6, unit="MB"),
        ),
    )


def peer(context: Context) -> Case:
    """Both files stay, as in Warewulf; pigz uses every core, and level 6, its default."""
    command = Command(
        argv=["sh", "-c", PEER, "sh", str(context.folder / "peer")],
        log=context.folder / "peer.log",
        cwd=context.head.rootfs(IMAGE),
        before=lambda: empty(context.folder / "peer"),
        shown="find . | cpio -o -H newc > image.img; pigz --keep image.img",
    )
    return context.peer(command)


def _ours(context: Context, image: str, compression: str, sizes: dict[str, int]) -> Command:
    head = context.head

    def verify() -> None:
        built = head.current(image)
        if built.manifest.compression != compression:
            raise Error(f"{image} was built with {built.manifest.compression}, not with {compression}")
        sizes[compression] = built.image_size

    # An empty store, so that each segment is not only compressed but also kept.
    return head.wwctl("image", "build", "--force", image, before=lambda: empty(head.catalog.provision), after=verify)
