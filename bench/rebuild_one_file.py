"""A rebuild after one small file has changed, against the full build that Warewulf does every time."""

import full_build
from context import IMAGE, Context
from figures import Comparison, Kind, Limit, Subject, Target
from measure import Call

from images.errors import Error

WHOLE = Target(kind=Kind.FASTER, bound=30)
INSIDE = Target(kind=Kind.FASTER, bound=60)
CHANGED = "etc/motd"


def measure(context: Context) -> Subject:
    head = context.head
    built, edits, written = "", 0, 0

    def edit() -> None:
        nonlocal built, edits
        built, edits = head.current(IMAGE).digest, edits + 1
        (head.rootfs(IMAGE) / CHANGED).write_text(f"edit {edits}\n")

    def verify() -> None:
        if head.current(IMAGE).digest == built:
            raise Error("the rebuild did not notice that a file had changed")

    def rebuild() -> None:
        nonlocal written
        written = head.build(IMAGE).segments_written

    context.say("the first build")
    head.build(IMAGE)
    whole = head.wwctl("image", "build", IMAGE, before=edit, after=verify)
    inside = Call(function=rebuild, description="images.rebuild.rebuild", before=edit, after=verify)
    whole_runs, peer_runs, inside_runs = context.in_turn([whole, full_build.peer(context), inside])
    return Subject(
        name="rebuild_one_file",
        comparisons=(
            Comparison(work="rebuild, one file changed, whole command", ours=whole_runs, peer=peer_runs, target=WHOLE),
            Comparison(work="rebuild, one file changed, inside a process", ours=inside_runs, peer=peer_runs, target=INSIDE),
        ),
        limits=(Limit(what="segments written for one changed file", value=written, bound=1),),
    )
