""" "Is it current?" on very many files, against find, which prints the same fields of each and decides nothing."""

import debian_tree
from context import Context
from figures import Comparison, Kind, Subject, Target
from headnode import HeadNode
from measure import Call, Command

from images.errors import Error

FILES, QUICK_FILES = 100_000, 10_000
IMAGE = "files"
SHARE = Target(kind=Kind.SHARE, bound=3)
FIELDS = r"%p\0%y%m %i %U %G %s %n %D %T@ %C@ %l\0"
"""Path, type and mode, inode, owner, size, link count, device, both times, link target."""


def measure(context: Context) -> Subject:
    files = QUICK_FILES if context.quick else FILES
    head = HeadNode.make(context.folder / "files")
    context.say(f"making {files} files, and the first build")
    debian_tree.many_files(head.rootfs(IMAGE), files)
    head.build(IMAGE)

    def verify() -> None:
        if "is current" not in head.output():
            raise Error("an unchanged image was built again", hint=head.output())

    def decide() -> None:
        if not head.build(IMAGE).unchanged:
            raise Error("an unchanged image was built again")

    whole = head.wwctl("image", "build", IMAGE, after=verify)
    # Its output is read by nobody: only the looking is timed.
    find = Command(
        argv=["sh", "-c", f"exec find . -xdev -printf '{FIELDS}' >/dev/null"],
        log=context.folder / "find.log",
        cwd=head.rootfs(IMAGE),
        shown=f"find . -xdev -printf '{FIELDS}' > /dev/null",
    )
    inside = Call(function=decide, description="images.rebuild.rebuild")
    whole_runs, find_runs, inside_runs = context.in_turn([whole, find, inside])
    what = f'"is it current?", {files} files'
    return Subject(
        name="is_current",
        comparisons=(
            Comparison(work=f"{what}, whole command", ours=whole_runs, peer=find_runs, target=SHARE),
            Comparison(work=f"{what}, inside a process", ours=inside_runs, peer=find_runs, target=SHARE),
        ),
    )
