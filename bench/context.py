"""What a subject is given: a folder to work in, how often to measure, and trees that several subjects share."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import debian_tree
from figures import Runs, Sample
from headnode import HeadNode
from measure import Case, Once, in_turn

IMAGE = "debian"


@dataclass(kw_only=True)
class Context:
    """`folder` lies on the file system that is measured."""

    folder: Path
    quick: bool
    rounds: int
    warmups: int
    subject: str = field(default="", init=False)
    _peers: dict[str, Sample] = field(default_factory=dict, init=False)

    def say(self, text: str) -> None:
        """A line about what is going on; figures go to standard output, at the end."""
        print(f"{self.subject}: {text}", file=sys.stderr, flush=True)

    def peer(self, case: Case) -> Case:
        """A peer of more than one subject: measured for each, but with --quick for the first alone."""
        return Once(case=case, known=self._peers) if self.quick else case

    def in_turn(self, cases: Sequence[Case]) -> list[Runs]:
        return in_turn(cases, rounds=self.rounds, warmups=self.warmups, say=self.say)

    @cached_property
    def head(self) -> HeadNode:
        """A head node with the Debian tree as image IMAGE, all of it in the page cache."""
        head = HeadNode.make(self.folder / "head")
        self.say("unpacking the Debian tree")
        debian_tree.unpack(debian_tree.debian_tar(), head.rootfs(IMAGE))
        return head
