"""Edits in windows: against a parse of the whole, on files that hypothesis writes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootsvc.entries import NODES, PROFILES, Entry, parse, splice
from bootsvc.store import Snapshot, Store
from bootsvc.yamlpatch import emit

SOURCE = Path("nodes.conf")
FILE = """\
# head
nodeprofiles:
  default:
    init: /sbin/init
# between
nodes:
  n1:
    image name: rocky-9  # pinned

  # about n2
  n2: {comment: two}
  n3:
    profiles:
    - default
    disks:
      /dev/sda: {wipe_table: true}
# end
"""


def changed(text: str, section: str, entries: Mapping[str, Entry]) -> str | None:
    """The spliced text, after checks that every result has to pass."""
    _, before = parse(text, SOURCE)
    after = {name: before.section(name) for name in (NODES, PROFILES)} | {section: entries}
    result = splice(text, before, after, SOURCE)
    if result is None:
        return None
    new, parsed = result
    _, again = parse(new, SOURCE)
    assert (again.nodes, again.profiles) == (after[NODES], after[PROFILES])
    # What is kept without parsing is what parsing finds, offsets and order included.
    assert parsed == again
    assert [*parsed.nodes] == [*again.nodes]
    return new


def test_one_entry() -> None:
    nodes = dict(parse(FILE, SOURCE)[1].nodes)
    text = changed(FILE, NODES, {**nodes, "n1": {"image name": "rocky-10"}})
    assert text == FILE.replace("rocky-9", "rocky-10")


def test_add_delete_and_change_at_once() -> None:
    nodes = dict(parse(FILE, SOURCE)[1].nodes)
    del nodes["n1"]
    nodes["n3"] = {"profiles": ["default"]}
    nodes["n4"] = {"init": "x"}
    assert changed(FILE, NODES, nodes) == (
        FILE[: FILE.index("  n1:")] + "\n  # about n2\n  n2: {comment: two}\n  n3:\n    profiles:\n    - default\n"
        "  n4:\n    init: x\n# end\n"
    )


def test_booleans_of_disks_are_booleans() -> None:
    assert parse(FILE, SOURCE)[1].nodes["n3"]["disks"] == {"/dev/sda": {"wipe_table": True}}
    text = 'nodes:\n  a:\n    disks: {s: {wipe_table: yes, partitions: {p: {number: 1, label: "true"}}}}\n'
    assert parse(text, SOURCE)[1].nodes["a"]["disks"]["s"] == {
        "wipe_table": True,
        "partitions": {"p": {"number": "1", "label": "true"}},
    }


@pytest.mark.parametrize(
    "text",
    [
        "nodes: {a: {init: x}}\n",
        "{nodes: {a: {init: x}}}\n",
        "nodes:\n  ? a\n  : init: x\n",
        "nodes:\n  a: &a\n    init: x\n  b: *a\n",
        "nodes: {}\n",
    ],
)
def test_rare_layouts_are_left_to_the_whole(text: str) -> None:
    nodes = parse(text, SOURCE)[1].nodes
    assert changed(text, NODES, {**nodes, "a": {"init": "y"}}) is None


def test_a_star_is_no_alias() -> None:
    text = "nodes:\n  # *all* of them\n  a:\n    comment: a *b\n"
    assert changed(text, NODES, {"a": {"init": "z"}}) == "nodes:\n  # *all* of them\n  a:\n    init: z\n"


@pytest.mark.parametrize("end", ["", "\n", "\n\n# end", "\n...\n", "\nother: 1\n", "\n# x\nother: 1"])
def test_ends_of_files(end: str) -> None:
    text = f"nodes:\n  a:\n    init: x{end}"
    new = changed(text, NODES, {"a": {"init": "x"}, "b": {"init": "y"}})
    assert new is not None
    assert "other: 1" not in text or "other: 1" in new


WORDS = st.text(st.sampled_from("ab1 :#'\"-{}[],&*!|>%@`é~\n\t"), max_size=8)
NAMES = st.sampled_from([f"n{index}" for index in range(12)])
ENTRIES = st.dictionaries(
    st.sampled_from(["comment", "init", "odd key", "x"]),
    st.one_of(WORDS, st.lists(WORDS, max_size=3), st.dictionaries(st.sampled_from("abc"), WORDS, max_size=2)),
    max_size=3,
)
FILES = st.dictionaries(NAMES, st.tuples(ENTRIES, st.sampled_from(["", "  # before\n", "\n", "# left\n"])), max_size=8)


def written(nodes: Mapping[str, tuple[Entry, str]]) -> str:
    return "# top\nnodes:\n" + "".join(
        f"{comment}{emit({name: {**entry, 'init': name}}, 2)}" for name, (entry, comment) in nodes.items()
    )


@settings(max_examples=150, deadline=None)
@given(FILES.filter(bool), st.dictionaries(NAMES, st.one_of(st.none(), ENTRIES), min_size=1, max_size=4))
def test_parse_edit_save_parse_keeps_all_else(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, tuple[Entry, str]], edits: dict[str, Any]
) -> None:
    text = written(files)
    _, before = parse(text, SOURCE)
    assert before.nodes == {name: {**entry, "init": name} for name, (entry, _) in files.items()}
    after = {name: edits.get(name, entry) for name, entry in before.nodes.items()} | edits
    after = {name: entry for name, entry in after.items() if entry is not None}
    changed(text, NODES, after)
    path = tmp_path_factory.mktemp("site") / "nodes.conf"
    path.write_text(text)
    Store(path).edit(lambda snapshot: snapshot.with_entries(NODES, after))
    assert Store(path).load().nodes == after
    for name, (entry, comment) in files.items():
        # An entry that is left alone is left as it was written, and so is each comment outside those that went.
        if name not in edits:
            assert f"{comment if comment == '  # before' else ''}{emit({name: {**entry, 'init': name}}, 2)}" in path.read_text()
    assert path.read_text().startswith("# top\n")


def test_cached_marks_serve_the_next_edit(tmp_path: Path) -> None:
    """Edits by stores that never parse the whole file, each on the marks that the one before left."""
    path, cache = tmp_path / "nodes.conf", tmp_path / "cache"
    path.write_text("nodes:\n" + "".join(f"  n{index}:\n    comment: {'x' * 100}\n" for index in range(500)))
    Store(path, cache).load()

    def edit(index: int) -> None:
        def change(snapshot: Snapshot) -> Snapshot:
            entries = {**snapshot.nodes, f"n{index}": {"comment": f"now {index}"}, f"new{index}": {"init": "x"}}
            return snapshot.with_entries(NODES, {name: entry for name, entry in entries.items() if name != f"n{index + 1}"})

        Store(path, cache).edit(change)

    for index in (0, 7, 250, 498, 100):
        edit(index)
        assert not Store(path, cache).must_parse()
        cached = Store(path, cache).load()
        assert cached == Store(path).load()
        assert [*cached.nodes] == [*Store(path).load().nodes]
