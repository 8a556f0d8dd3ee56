"""Who boots an image."""

from bootsvc.image_users import Users, renamed, users
from bootsvc.registry import Registry
from bootsvc.store import Snapshot

SNAPSHOT = Snapshot(
    nodes={
        "n1": {"image name": "a"},
        "n2": {"profiles": ["p"]},
        "n3": {"profiles": ["p"], "image name": "b", "comment": "a"},
        "broken": {"image name": "a", "network devices": {"default": {"ipaddr": "no address"}}},
    },
    profiles={"p": {"image name": "a"}, "q": {"image name": "b"}},
)


def test_nodes_by_their_own_word_or_a_profiles_and_profiles() -> None:
    registry = Registry.build(SNAPSHOT)
    found = users(SNAPSHOT, registry, "a")
    assert found == Users(nodes=("broken", "n1", "n2"), profiles=("p",))
    assert str(found) == "broken, n1, n2 and profile p"
    assert str(users(SNAPSHOT, registry, "b")) == "n3 and profile q"
    assert not users(SNAPSHOT, registry, "c")


def test_a_profile_that_no_node_has_is_a_user() -> None:
    snapshot = Snapshot(profiles={"p": {"image name": "a"}})
    assert str(users(snapshot, Registry.build(snapshot), "a")) == "profile p"


def test_renamed_changes_the_name_and_nothing_else() -> None:
    after = renamed(SNAPSHOT, "a", "z")
    assert {name: entry.get("image name") for name, entry in after.nodes.items()} == {
        "n1": "z", "n2": None, "n3": "b", "broken": "z",
    }  # fmt: skip
    assert after.nodes["n3"] is SNAPSHOT.nodes["n3"]
    assert after.profiles == {"p": {"image name": "z"}, "q": {"image name": "b"}}
    assert renamed(SNAPSHOT, "nobody's", "z") == SNAPSHOT
