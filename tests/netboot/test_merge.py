from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netboot.merge import REMOVABLE, SUPERSEDED, Merger, expand_profiles, merge, sources


def merged(entry: dict[str, Any], **profiles: dict[str, Any]) -> Any:
    return merge("n1", entry, profiles).entry


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["a", "b"], ("a", "b")),
        (["nested"], ("a", "b", "nested")),
        (["b", "nested"], ("b", "a", "nested")),
        (["a", "a"], ("a",)),
        (["cycle1"], ("cycle2", "cycle1")),
        (["self"], ("self",)),
        (["a", "b", "~a"], ("b",)),
        (["~a", "a", "b"], ("b",)),
        (["nested", "~a"], ("b", "nested")),
        (["a", "denies"], ("denies",)),
        (None, ()),
        ("a", ()),
    ],
)
def test_order_of_profiles(names: object, order: tuple[str, ...]) -> None:
    profiles: dict[str, dict[str, Any]] = {
        "a": {},
        "b": {},
        "nested": {"profiles": ["a", "b"]},
        "cycle1": {"profiles": ["cycle2"]},
        "cycle2": {"profiles": ["cycle1"]},
        "self": {"profiles": ["self"]},
        "denies": {"profiles": ["~a"]},
    }
    assert expand_profiles(names, profiles) == (order, ())


def test_missing_profile_is_a_warning() -> None:
    result = merge("n1", {"profiles": ["gone", "a"]}, {"a": {"init": "x"}})
    assert result.entry["init"] == "x"
    assert result.warnings == ("node n1 has the profile 'gone', which does not exist",)


def test_missing_profile_that_is_removed_is_not_missed() -> None:
    assert merge("n1", {"profiles": ["gone", "~gone"]}, {}).warnings == ()


def test_later_scalar_wins_unless_empty() -> None:
    a, b = {"init": "a", "root": "a", "ipxe template": "a"}, {"init": "b", "root": "", "ipxe template": None}
    result = merged({"profiles": ["a", "b"], "init": "node", "root": ""}, a=a, b=b)
    assert (result["init"], result["root"], result["ipxe template"]) == ("node", "a", "a")


def test_false_wins() -> None:
    a = {"network devices": {"d": {"onboot": "true"}}, "resources": {"x": True}}
    entry = {"profiles": ["a"], "network devices": {"d": {"onboot": "false"}}, "resources": {"x": False}}
    result = merged(entry, a=a)
    assert result["network devices"]["d"]["onboot"] == "false"
    assert result["resources"]["x"] is False


def test_lists_are_appended_with_duplicates() -> None:
    result = merged({"profiles": ["a"], "system overlay": ["x", "n"]}, a={"system overlay": ["x", "y"]})
    assert result["system overlay"] == ["x", "y", "x", "n"]


def test_mappings_are_merged_by_key() -> None:
    a = {"tags": {"k": "a", "l": "a"}, "network devices": {"d": {"netmask": "255.0.0.0", "tags": {"DNS": "1"}}}}
    entry = {"profiles": ["a"], "tags": {"k": "n"}, "network devices": {"d": {"ipaddr": "10.0.0.1"}, "e": {}}}
    result = merged(entry, a=a)
    assert result["tags"] == {"k": "n", "l": "a"}
    assert result["network devices"] == {
        "d": {"netmask": "255.0.0.0", "tags": {"DNS": "1"}, "ipaddr": "10.0.0.1"},
        "e": {},
    }


def test_resources_append_their_lists() -> None:
    result = merged({"profiles": ["a"], "resources": {"fstab": [{"file": "/n"}]}}, a={"resources": {"fstab": ["p"]}})
    assert result["resources"]["fstab"] == ["p", {"file": "/n"}]


def test_profiles_and_comment_come_from_the_node() -> None:
    result = merged({"profiles": ["a"]}, a={"profiles": ["b"], "comment": "of a"}, b={"init": "b"})
    assert result == {"profiles": ["a"], "init": "b"}


@pytest.mark.parametrize("path", [("system overlay",), ("runtime overlay",), ("kernel", "args")])
def test_tilde_removes_from_four_lists(path: tuple[str, ...]) -> None:
    def at(values: list[str]) -> dict[str, Any]:
        return {path[0]: values} if len(path) == 1 else {path[0]: {path[1]: values}}

    result = merged({"profiles": ["a"], **at(["~x", "z"])}, a=at(["x", "y", "x"]))
    for key in path:
        result = result[key]
    assert result == ["y", "z"]


def test_tilde_is_plain_text_elsewhere() -> None:
    result = merged({"profiles": ["~a", "b"], "resources": {"l": ["~x", "x"]}}, b={})
    assert result == {"profiles": ["b"], "resources": {"l": ["~x", "x"]}}


def test_nothing_given_is_changed() -> None:
    profile = {"tags": {"a": "1"}, "kernel": {"args": ["x"]}}
    entry = {"profiles": ["a"], "tags": {"b": "2"}, "kernel": {"args": ["~x"]}}
    merged(entry, a=profile)
    assert profile == {"tags": {"a": "1"}, "kernel": {"args": ["x"]}}
    assert entry == {"profiles": ["a"], "tags": {"b": "2"}, "kernel": {"args": ["~x"]}}


def test_other_type_wins_when_later() -> None:
    assert merged({"profiles": ["a"], "tags": "text"}, a={"tags": {"k": "v"}})["tags"] == "text"
    assert merged({"profiles": ["a"], "tags": {"k": "v"}}, a={"tags": "text"})["tags"] == {"k": "v"}


def test_sources() -> None:
    a = {"init": "a", "root": "a", "system overlay": ["x"], "cluster name": "a"}
    b = {"root": "b", "system overlay": ["y"]}
    entry = {"profiles": ["a", "b"], "init": "n", "image name": "n"}
    assert sources("n1", entry, {"a": a, "b": b}) == {
        ("profiles",): "",
        ("image name",): "",
        ("init",): SUPERSEDED,
        ("root",): "b",
        ("cluster name",): "a",
        ("system overlay",): "a,b",
    }


KEYS = st.sampled_from(["a", "b", "system overlay", "kernel"])
VALUES = st.recursive(
    st.sampled_from(["", "x", "y", "~x", None, True, False]) | st.lists(st.sampled_from(["x", "y", "~x"]), max_size=3),
    lambda inner: st.dictionaries(st.sampled_from(["a", "args"]), inner, max_size=2),
    max_leaves=4,
)
LAYERS = st.dictionaries(KEYS, VALUES, max_size=4)


@given(
    LAYERS,
    st.dictionaries(st.sampled_from("pqr"), LAYERS, max_size=3),
    st.lists(st.sampled_from(["p", "q", "r", "~p", "none"])),
)
def test_merge_is_deterministic_and_changes_nothing(
    entry: dict[str, Any], profiles: dict[str, dict[str, Any]], listed: list[str]
) -> None:
    node = {**entry, "profiles": listed}
    before = deepcopy((node, profiles))
    many = Merger(profiles)
    first = many.merge("n1", node)
    # The order in which the file names profiles does not matter, nor what was merged before.
    again = dict(reversed(profiles.items()))
    assert first == many.merge("n1", node) == merge("n1", node, again)
    assert (node, profiles) == before
    for path in REMOVABLE:
        assert not any(member.startswith("~") for member in _texts_at(first.entry, path))


def _texts_at(entry: Any, path: tuple[str, ...]) -> list[str]:
    for key in path:
        entry = entry.get(key) if isinstance(entry, dict) else None
    return entry if isinstance(entry, list) else []
