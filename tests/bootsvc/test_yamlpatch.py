"""The patched text says what it should, to our reader and to two foreign ones, and keeps what it should keep."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bootsvc.yamlfile import compose, value
from bootsvc.yamlpatch import emit, patch, scalar

SOURCE = Path("nodes.conf")
FILE = """\
# the cluster
nodeprofiles:
  default:
    comment: "all of them"  # keep me
nodes:

  # the first rack
  n1:
    image name: rocky-9   # pinned
    profiles: [default, gpu]
    kernel:
      args:
      - quiet
      # serial console
      - console=ttyS0
  # n1b is broken

  n2: {image name: debian-12}
  n3:
    comment: |
      two
      # lines
    network devices:
      default:
        hwaddr: 00:1e:c9:00:00:01
        # no address yet
# the end
"""


def load(text: str) -> dict[str, Any]:
    root = compose(text, SOURCE)
    return value(root, SOURCE) if root else {}


def patched(text: str, new: dict[str, Any]) -> str:
    return patch(text, compose(text, SOURCE), load(text), new, SOURCE)


def changed(**nodes: dict[str, Any] | None) -> tuple[str, dict[str, Any]]:
    """FILE with these entries of `nodes` replaced; None deletes one."""
    document = load(FILE)
    document["nodes"] |= nodes
    document["nodes"] = {name: entry for name, entry in document["nodes"].items() if entry is not None}
    return patched(FILE, document), document


def test_no_change_no_edit() -> None:
    assert patched(FILE, load(FILE)) == FILE


def test_scalar_keeps_its_comment_and_all_else() -> None:
    entry = load(FILE)["nodes"]["n1"] | {"image name": "rocky-10"}
    text, _ = changed(n1=entry)
    assert text == FILE.replace("image name: rocky-9   # pinned", "image name: rocky-10   # pinned")


def test_flow_list_stays_flow() -> None:
    text, _ = changed(n1=load(FILE)["nodes"]["n1"] | {"profiles": ["default", "a,b"]})
    assert text == FILE.replace("[default, gpu]", '[default, "a,b"]')


def test_delete_leaves_comments_of_others() -> None:
    text, document = changed(n1=None)
    assert load(text) == document
    assert "# the first rack\n  # n1b is broken\n\n  n2:" in text
    assert "serial console" not in text


def test_delete_last_keeps_the_end_comment() -> None:
    text, document = changed(n3=None)
    assert load(text) == document
    assert text.endswith("  n2: {image name: debian-12}\n# the end\n")


def test_delete_all() -> None:
    text, document = changed(n1=None, n2=None, n3=None)
    assert load(text) == document == {"nodeprofiles": {"default": {"comment": "all of them"}}, "nodes": {}}
    assert "# the first rack" in text
    assert "# the end" in text


def test_add_goes_last_before_the_end_comment() -> None:
    text, document = changed(n4={"image name": "x"})
    assert load(text) == document
    assert text == FILE.replace("# the end", "  n4:\n    image name: x\n# the end")


def test_add_and_change_the_last_at_once() -> None:
    entry = load(FILE)["nodes"]["n3"]
    entry["network devices"]["ib0"] = {"hwaddr": "52:54:00:12:34:56"}
    text, document = changed(n3=entry, n4={"tags": {"a": "b"}}, n2=None)
    assert load(text) == document
    assert '      ib0:\n        hwaddr: "52:54:00:12:34:56"\n  n4:\n' in text
    assert "# no address yet" in text


def test_flow_mapping_becomes_block() -> None:
    text, document = changed(n2={"image name": "debian-12", "tags": {"a": "b"}})
    assert load(text) == document
    assert "  n2:\n    image name: debian-12\n    tags:\n      a: b\n" in text


def test_literal_block_is_replaced_whole() -> None:
    text, document = changed(n3=load(FILE)["nodes"]["n3"] | {"comment": "one"})
    assert load(text) == document
    assert "# lines" not in text
    assert "# no address yet" in text


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "nodes:\n", "nodes: {}  # none\n", "nodes:\n  # none\n", "{}"])
def test_first_entry(text: str) -> None:
    new = {"nodes": {"n1": {"image name": "x"}}}
    result = patched(text, new)
    assert load(result) == new
    assert all(line in result for line in text.splitlines() if line.lstrip().startswith("#"))


def test_file_without_a_last_newline() -> None:
    assert patched("nodes:\n  n1:\n    init: a", {"nodes": {"n1": {"init": "a"}, "n2": {"init": "b"}}}) == (
        "nodes:\n  n1:\n    init: a\n  n2:\n    init: b\n"
    )


def test_text_before_a_mark_may_be_any_unicode() -> None:
    text = "nodes:\n  n1:\n    comment: größe 🚀\n    init: a # ok\n"
    new = {"nodes": {"n1": {"comment": "größe 🚀", "init": "b"}}}
    assert patched(text, new) == text.replace("init: a", "init: b")


TEXTS = st.one_of(
    st.text(max_size=12).filter(lambda text: text.isprintable() or "\n" in text),
    st.sampled_from(
        [
            "no",
            "y",
            "~",
            "0755",
            "12:30",
            "52:54:00:12:34:56",
            "1e3",
            ".5",
            "2024-01-01",
            "<<",
            "=",
            "-",
            "?",
            "#",
            "{}",
            "[a]",
            "a#b",
            "x:",
            "'q'",
            "null",
        ]
    ),
    st.sampled_from(["a b", " a", "a ", "a: b", "a #b", "a,b", "é", "\u2028", "\x85", "tab\t", '"', "\\n", "%x", "@x"]),
)
VALUES = st.recursive(
    TEXTS, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)), max_leaves=8
)


@given(TEXTS)
def test_scalar_is_text_to_every_reader(text: str) -> None:
    line = f"key: {scalar(text)}\n"
    assert load(line) == {"key": text}
    assert yaml.safe_load(line) == {"key": text}


@given(st.dictionaries(TEXTS, VALUES, max_size=4))
def test_emitted_values_come_back(document: dict[str, Any]) -> None:
    assert load(emit(document)) == document
    assert (yaml.safe_load(emit(document)) or {}) == document


@given(st.dictionaries(TEXTS, VALUES, max_size=3), st.dictionaries(TEXTS, VALUES, max_size=3), st.data())
def test_any_change_means_what_it_should(old: dict[str, Any], extra: dict[str, Any], data: st.DataObject) -> None:
    kept = {key: member for key, member in old.items() if data.draw(st.booleans())}
    new = {**kept, **extra}
    text = "# before\n" + emit(old) + "# after\n"
    result = patched(text, new)
    assert load(result) == new
    assert "# before\n" in result
    assert "# after\n" in result
