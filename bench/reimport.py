"""An import of what is here already and has not changed, against skopeo and umoci, which do everything again."""

import layered_image
from context import IMAGE, Context
from figures import Comparison, Kind, Subject, Target
from headnode import HeadNode
from import_registry import peer, source

SHARE = Target(kind=Kind.SHARE, bound=0.05)


def measure(context: Context) -> Subject:
    context.say("the first import")
    with layered_image.serving(layered_image.storage(), log=context.folder / "registry.log") as address:
        head = HeadNode.make(context.folder / "reimport")
        head.wwctl("image", "import", source(address), IMAGE).run()
        flag, remarks = _flag(head)
        ours = head.wwctl("image", "import", flag, source(address), IMAGE)
        ours_runs, peer_runs = context.in_turn([ours, peer(context, address)])
    return Subject(
        name="reimport",
        comparisons=(Comparison(work="import again, nothing changed", ours=ours_runs, peer=peer_runs, target=SHARE),),
        remarks=remarks,
    )


def _flag(head: HeadNode) -> tuple[str, tuple[str, ...]]:
    """How wwctl is told to bring an image to its source's state, and what there is to say about it."""
    help_ = head.wwctl("image", "import", "--help")
    help_.run()
    if "--update" in head.output():
        return "--update", ()
    return "--force", ("this wwctl has no `import --update`: --force unpacked everything again",)
