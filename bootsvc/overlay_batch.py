"""Overlays of many nodes, built by several processes; one node's error does not stop the others."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bootsvc.overlay_build import Builder, Target
from images import index
from images.errors import Error
from images.generation import Generation
from images.generations import ImageNotBuilt
from images.view import ImageView
from netboot.node import Node
from netboot.overlay_render import Renderer
from netboot.urls import Stage

CHUNK = 8
"""Nodes that a process takes at a time."""
WORTH_A_PROCESS = 32
"""Nodes for which one more process pays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one stage of one node: where its part lies and whether it was built now, or the error."""

    node: str
    stage: Stage
    path: Path | None = None
    fresh: bool = False
    error: Error | None = None


class Batch:
    """`generation` and `kernel_version` say what a node would boot now."""

    def __init__(
        self,
        builder: Builder,
        renderer: Renderer,
        generation: Callable[[Node], Generation | None],
        kernel_version: Callable[[Node], str],
    ) -> None:
        self._builder = builder
        self._renderer = renderer
        self._generation = generation
        self._kernel_version = kernel_version
        self._views: dict[str, ImageView] = {}

    def run(self, nodes: Sequence[Node], workers: int) -> Iterator[Outcome]:
        """Build; with `workers` below one as many processes as there are CPUs. In the nodes' order."""
        count = workers if workers > 0 else len(os.sched_getaffinity(0))
        count = min(count, 1 + len(nodes) // WORTH_A_PROCESS)
        if count == 1:
            for node in nodes:
                yield from self.build_node(node)
            return
        # Before the others begin: what all nodes share is then known to each of them.
        yield from self.build_node(nodes[0])
        context = multiprocessing.get_context("fork")
        global _batch
        _batch = self
        with context.Pool(count, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)) as pool:
            for outcomes in pool.imap(_build, nodes[1:], CHUNK):
                yield from outcomes

    def finish(self) -> None:
        """Remove what no node has needed for a long time."""
        self._builder.remove_unused()

    def build_node(self, node: Node) -> list[Outcome]:
        return [self._stage(node, stage) for stage in (Stage.SYSTEM, Stage.RUNTIME)]

    def _stage(self, node: Node, stage: Stage) -> Outcome:
        try:
            built = self._builder.build(self.target(node, stage), self._renderer)
        except Error as exc:
            return Outcome(node=node.id, stage=stage, error=exc)
        except OSError as exc:
            error = Error(f"the {stage.value} overlays of {node.id} cannot be stored: {exc.strerror} ({exc.filename})")
            return Outcome(node=node.id, stage=stage, error=error)
        return Outcome(node=node.id, stage=stage, path=built.parts[-1][0], fresh=built.fresh)

    def target(self, node: Node, stage: Stage) -> Target:
        generation = self._generation(node)
        return Target(
            node=node,
            stage=stage,
            generation=generation.digest if generation else "",
            view=lambda: self.view(generation),
            kernel_version=self._kernel_version(node),
        )

    def view(self, generation: Generation | None) -> ImageView:
        """The tree of a generation; of none an empty one. Raises ImageNotBuilt."""
        if generation is None:
            return ImageView([])
        if generation.digest not in self._views:
            parsed = index.parse(generation.index_path.read_bytes())
            if parsed is None:
                raise ImageNotBuilt(generation.manifest.image)
            self._views[generation.digest] = ImageView(parsed.entries)
        return self._views[generation.digest]


_batch: Batch | None = None
"""What the processes of a pool work on: they are copies of the one that started them."""


def _build(node: Node) -> list[Outcome]:
    assert _batch is not None
    return _batch.build_node(node)
