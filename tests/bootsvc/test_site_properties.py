"""Any changes to a real site's nodes.conf: what they do not name stays, to the byte."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from bootsvc.changes import ANY, Change, apply
from bootsvc.entries import NODES, PROFILES, parse
from bootsvc.hostlist import HostlistError, compress, expand
from bootsvc.store import Snapshot, Store

TEXT = (Path(__file__).parent.parent / "fixtures/etc-warewulf/nodes.conf").read_text()
_, BEFORE = parse(TEXT, Path("nodes.conf"))
VALUES = st.one_of(st.none(), st.text(st.sampled_from("a0 :#'\"-{}[],~é\n"), min_size=1, max_size=6))
PATHS = st.sampled_from([
    ("comment",), ("image name",), ("kernel", "version"), ("kernel", "args"), ("ipmi", "password"), ("ipmi", "tags", "vlan"),
    ("network devices", "default", "ipaddr"), ("network devices", "default", "tags", "DNS"), ("network devices", "ib0"),
    ("tags", "rack"), ("tags", "odd: key"), ("runtime overlay",),
    ("filesystems", "/dev/x", "path"),    ("resources", "fstab"), ("physics inventory", "owner"),
])  # fmt: skip
CHANGES = st.one_of(
    st.builds(lambda path, value: Change(path=path, value=value), PATHS, VALUES),
    st.builds(lambda value: Change(path=("disks", ANY, "wipe_table"), value=value), st.one_of(st.none(), st.booleans())),
)
EDITS = st.dictionaries(
    st.sampled_from([*((NODES, name) for name in BEFORE.nodes), *((PROFILES, name) for name in BEFORE.profiles)]),
    st.lists(CHANGES, min_size=1, max_size=4),
    min_size=1,
    max_size=4,
)


def texts() -> dict[tuple[str, str], str]:
    """The lines of every entry."""
    found = {}
    for section in (NODES, PROFILES):
        marks = BEFORE.marks[section]
        for name, start, end in zip(BEFORE.section(section), marks.starts, [*marks.starts[1:], marks.end], strict=True):
            found[section, name] = TEXT[start:end].rstrip()
    return found


@settings(max_examples=80, deadline=None)
@given(edits=EDITS)
def test_what_is_not_changed_stays(
    tmp_path_factory: pytest.TempPathFactory, edits: dict[tuple[str, str], list[Change]]
) -> None:
    path = tmp_path_factory.mktemp("site") / "nodes.conf"
    path.write_text(TEXT)
    expected: dict[str, dict[str, Any]] = {NODES: dict(BEFORE.nodes), PROFILES: dict(BEFORE.profiles)}
    for (section, name), changes in edits.items():
        expected[section][name] = apply(expected[section][name], changes)

    def change(snapshot: Snapshot) -> Snapshot:
        return snapshot.with_entries(NODES, expected[NODES]).with_entries(PROFILES, expected[PROFILES])

    Store(path).edit(change)
    after = Store(path).load()
    assert (after.nodes, after.profiles) == (expected[NODES], expected[PROFILES])
    written = path.read_text()
    for key, text in texts().items():
        assert key in edits or text in written
    # Another reader sees the same order, and the same in all that was left alone.
    old, new = yaml.load(TEXT, yaml.BaseLoader), yaml.load(written, yaml.BaseLoader)
    for section in (NODES, PROFILES):
        assert list(new[section]) == list(old[section])
        left = [name for name in old[section] if (section, name) not in edits]
        assert [new[section][name] for name in left] == [old[section][name] for name in left]
    for comment in (
        "# nodes.conf of the Physics cluster",
        "# ---- by hardware",
        "# rack 2: the expensive ones",
        "# end of nodes",
    ):
        assert comment in written


@given(st.text(st.sampled_from("ab019[]-, x"), max_size=14))
def test_a_host_list_parses_or_says_where_it_does_not(text: str) -> None:
    found: list[str] | HostlistError
    try:
        found = expand(text)
    except HostlistError as exc:
        found = exc
    if isinstance(found, HostlistError):
        assert 1 <= found.column <= len(text) + 1
        assert found.hint
    else:
        assert found
        assert not any("[" in name or "," in name for name in found)
        assert sorted(expand(compress(found))) == sorted(found)
