import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bootsvc.store import DEFAULT_PROFILE, NODES, Entry, Snapshot, Store
from bootsvc.yamlfile import YamlError
from images.errors import Error

FILE = """\
# ours
nodeprofiles:
  default: {init: /sbin/init}
nodes:
  n1:
    image name: rocky-9  # pinned
    resources:
      fstab:
      - {spec: a, freq: 0}
# end
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "nodes.conf").write_text(FILE)
    return Store(tmp_path / "nodes.conf")


def files(store: Store) -> list[str]:
    return sorted(path.name for path in store.path.parent.iterdir())


def with_node(snapshot: Snapshot, name: str, entry: Entry) -> Snapshot:
    return snapshot.with_entries(NODES, {**snapshot.nodes, name: entry})


def without_node(snapshot: Snapshot, name: str) -> Snapshot:
    return snapshot.with_entries(NODES, {other: entry for other, entry in snapshot.nodes.items() if other != name})


def test_load(store: Store) -> None:
    snapshot = store.load()
    assert snapshot.profiles == {"default": {"init": "/sbin/init"}}
    assert snapshot.nodes == {
        "n1": {"image name": "rocky-9", "resources": {"fstab": [{"spec": "a", "freq": 0}]}},
    }
    assert snapshot.identity == store.identity()


def test_edit_keeps_all_else(store: Store) -> None:
    result = store.edit(lambda snapshot: with_node(snapshot, "n2", {"comment": "no"}))
    assert store.path.read_text() == FILE.replace("# end", '  n2:\n    comment: "no"\n# end')
    assert result == store.load()
    assert files(store) == ["nodes.conf", "nodes.conf.lock"]


def test_edit_without_a_change_writes_nothing(store: Store) -> None:
    before = store.identity()
    store.edit(lambda snapshot: snapshot)
    assert store.identity() == before


def test_refused_change_leaves_the_file(store: Store) -> None:
    def refuse(snapshot: Snapshot) -> Snapshot:
        raise Error("no")

    with pytest.raises(Error, match="no"):
        store.edit(refuse)
    assert store.path.read_text() == FILE


def test_missing_file_holds_the_default_profile_and_is_made(tmp_path: Path) -> None:
    store = Store(tmp_path / "etc" / "warewulf" / "nodes.conf")
    assert store.load() == Snapshot(profiles={"default": DEFAULT_PROFILE})
    store.edit(lambda snapshot: with_node(snapshot, "n1", {"init": "x"}))
    assert store.load().profiles == {"default": DEFAULT_PROFILE}
    assert store.load().nodes == {"n1": {"init": "x"}}
    assert store.path.stat().st_mode & 0o777 == 0o644


def test_empty_file_stays_without_profiles(store: Store) -> None:
    store.path.write_text("")
    store.edit(lambda snapshot: with_node(snapshot, "n1", {}))
    assert store.path.read_text() == "nodes:\n  n1: {}\n"


def test_mode_stays(store: Store) -> None:
    store.path.chmod(0o640)
    store.edit(lambda snapshot: with_node(snapshot, "n2", {}))
    assert store.path.stat().st_mode & 0o777 == 0o640


@pytest.mark.root
def test_owner_stays(store: Store) -> None:
    os.chown(store.path, 12, 34)
    store.edit(lambda snapshot: with_node(snapshot, "n2", {}))
    assert (store.path.stat().st_uid, store.path.stat().st_gid) == (12, 34)


def test_symbolic_link_is_followed(store: Store, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere" / "nodes.conf"
    link.parent.mkdir()
    link.symlink_to("../nodes.conf")
    Store(link).edit(lambda snapshot: with_node(snapshot, "n2", {}))
    assert link.is_symlink()
    assert list(store.load().nodes) == ["n1", "n2"]
    assert [path.name for path in link.parent.iterdir()] == ["nodes.conf"]


def test_other_sections_stay(store: Store) -> None:
    store.path.write_text("WW_INTERNAL: 45\nnodes:\n  n1: {}\nmine: [a, 1]\n")
    store.edit(lambda snapshot: without_node(with_node(snapshot, "n2", {}), "n1"))
    assert store.path.read_text() == "WW_INTERNAL: 45\nnodes:\n  n2: {}\nmine: [a, 1]\n"


def test_merge_key_can_be_overridden_and_written_out(store: Store) -> None:
    store.path.write_text("nodes:\n  n1: &a\n    init: x\n  n2:\n    <<: *a\n    root: y\n")
    store.edit(lambda snapshot: with_node(snapshot, "n2", {"init": "z", "root": "y"}))
    assert store.path.read_text() == "nodes:\n  n1: &a\n    init: x\n  n2:\n    <<: *a\n    root: y\n    init: z\n"
    store.edit(lambda snapshot: with_node(snapshot, "n2", {"root": "y"}))
    assert store.load().nodes == {"n1": {"init": "x"}, "n2": {"root": "y"}}


def test_what_cannot_be_patched_is_refused(store: Store) -> None:
    text = "nodes:\n  n1: &a\n    init: x\n  n2: *a\n"
    store.path.write_text(text)
    with pytest.raises(Error, match="cannot be changed entry by entry"):
        store.edit(lambda snapshot: with_node(snapshot, "n1", {"init": "z"}))
    assert store.path.read_text() == text


def test_broken_file_is_never_written(store: Store) -> None:
    store.path.write_text("nodes:\n  n1: [\n")
    with pytest.raises(YamlError):
        store.edit(lambda snapshot: with_node(snapshot, "n2", {}))
    assert store.path.read_text() == "nodes:\n  n1: [\n"


def test_error_names_the_entry(store: Store) -> None:
    store.path.write_text("nodes:\n  n1: text\n")
    with pytest.raises(YamlError, match=r"nodes\.conf:2:7: nodes\.n1: expected keys and values"):
        store.load()


def test_directory_in_its_place(tmp_path: Path) -> None:
    with pytest.raises(Error, match="cannot read"):
        Store(tmp_path).load()


ADD_TEN = """
import sys
from pathlib import Path
from bootsvc.store import NODES, Store
for index in range(10):
    new = {f"w{sys.argv[2]}-{index}": {"init": "x"}}
    Store(Path(sys.argv[1])).edit(lambda snapshot: snapshot.with_entries(NODES, {**snapshot.nodes, **new}))
"""


def test_processes_at_once_lose_no_change(store: Store) -> None:
    commands = [[sys.executable, "-c", ADD_TEN, str(store.path), str(worker)] for worker in range(3)]
    workers = [subprocess.Popen(command) for command in commands]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0]
    assert set(store.load().nodes) == {"n1"} | {f"w{worker}-{index}" for worker in range(3) for index in range(10)}
    assert "# end" in store.path.read_text()


ENDLESS = """
import sys
from pathlib import Path
from bootsvc.store import NODES, Store
store, count = Store(Path(sys.argv[1])), 0
while True:
    count += 1
    store.edit(lambda snapshot: snapshot.with_entries(NODES, {"n1": {"comment": str(count) * 2000}}))
    print(count, flush=True)
"""


def test_killed_writer_leaves_a_whole_file(store: Store) -> None:
    for stop_after in (1, 3, 6):
        arguments = [sys.executable, "-c", ENDLESS, str(store.path)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
            assert process.stdout
            for _ in range(stop_after):
                assert process.stdout.readline()
            process.send_signal(signal.SIGKILL)
        comment = store.load().nodes["n1"]["comment"]
        assert len(comment) % 2000 == 0
        # The lock died with the process, and what it left behind goes with the next change.
        store.edit(lambda snapshot: without_node(with_node(snapshot, "n2", {"init": "x"}), "n1"))
        assert files(store) == ["nodes.conf", "nodes.conf.lock"]
        store.path.write_text(FILE)
