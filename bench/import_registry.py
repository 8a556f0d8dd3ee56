"""An import from a registry, all digests and diffIDs checked, against skopeo and umoci; into fresh folders, caches empty."""

import debian_tree
import layered_image
from context import IMAGE, Context
from debian_tree import set_aside
from figures import Comparison, Kind, Limit, Subject, Target
from headnode import HeadNode
from measure import Case, Command

from images.errors import Error

FASTER = Target(kind=Kind.FASTER, bound=3.5)
PEER = (
    'skopeo copy --insecure-policy --src-tls-verify=false "docker://$1" "oci:$2/layout:12"'
    ' && umoci unpack --image "$2/layout:12" "$2/bundle"'
)


def measure(context: Context) -> Subject:
    context.say("the image of five layers, and its registry")
    with layered_image.serving(layered_image.storage(), log=context.folder / "registry.log") as address:
        head = HeadNode.make(context.folder / "import")

        def forget() -> None:
            set_aside(head.root)
            HeadNode.make(head.root)

        ours = head.wwctl("image", "import", source(address), IMAGE, before=forget)
        ours_runs, peer_runs = context.in_turn([ours, peer(context, address)])
    _compare(context, head)
    memory = (ours_runs.memory or 0) / layered_image.largest_layer()
    return Subject(
        name="import_registry",
        comparisons=(Comparison(work="import of 5 gzip layers", ours=ours_runs, peer=peer_runs, target=FASTER),),
        limits=(Limit(what="peak memory of an import, of the largest layer", value=memory, bound=1),),
    )


def source(address: str) -> str:
    return f"docker://{address}/{layered_image.NAME}"


def peer(context: Context, address: str) -> Case:
    """Both check digests and diffIDs, as we do; umoci's record of the tree (mtree) is part of what it does."""
    place = context.folder / "umoci"
    command = Command(
        argv=["sh", "-c", PEER, "sh", f"{address}/{layered_image.NAME}", str(place)],
        log=context.folder / "umoci.log",
        before=lambda: set_aside(place),
        shown="skopeo copy docker://... oci:layout:12; umoci unpack --image layout:12 bundle",
    )
    return context.peer(command)


def _compare(context: Context, head: HeadNode) -> None:
    """Both made the same of the image, as far as the number of entries says it."""
    ours, theirs = debian_tree.count(head.rootfs(IMAGE)), debian_tree.count(context.folder / "umoci/bundle/rootfs")
    if ours != theirs:
        raise Error(f"wwctl unpacked {ours} entries, umoci {theirs}")
