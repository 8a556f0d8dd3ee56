"""The bench: its statistics, the shape of what it writes, and one subject from end to end. Never how long anything took."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RUN = ROOT / "bench" / "run.py"
# Last, so that no script of the bench hides another module.
sys.path += [str(ROOT / "bench"), str(ROOT / "vm-lab")]

import report as reports  # noqa: E402
from debian_tree import set_aside  # noqa: E402
from figures import Comparison, Kind, Limit, Report, Runs, Sample, Spread, Subject, Target  # noqa: E402
from measure import Call, Command, Once, in_turn  # noqa: E402
from provenance import file_system  # noqa: E402

from images.errors import Error  # noqa: E402


def runs(*walls: float, memory: int | None = 1_000_000) -> Runs:
    return Runs(command="x", samples=tuple(Sample(wall=wall, cpu=wall / 2, memory=memory) for wall in walls))


def comparison(ours: Runs, peer: Runs, *, kind: Kind = Kind.FASTER, bound: float = 8) -> Comparison:
    return Comparison(work="building", ours=ours, peer=peer, target=Target(kind=kind, bound=bound))


def report(*comparisons: Comparison, load: float = 0.0) -> Report:
    subject = Subject(
        name="full_build",
        comparisons=comparisons,
        limits=(Limit(what="size", value=0.9, bound=0.95),),
        remarks=("a remark",),
    )
    return Report(
        date="2026-01-02",
        quick=False,
        rounds=3,
        commit="abc",
        machine={"cpu": "some cpu"},
        versions={"pigz": "2.6-1"},
        load=load,
        cores=2,
        subjects=(subject,),
    )


QUIET = comparison(runs(1, 1.1, 1.2), runs(10, 10.1, 10.2))


def test_ratios_are_taken_pair_by_pair() -> None:
    # The machine slows down threefold in the middle, for both alike.
    found = comparison(runs(1, 3, 1.25), runs(10, 30, 10))
    assert found.ratio == Spread(median=10, minimum=8, maximum=10)
    assert found.met


def test_a_share_is_ours_of_the_peers() -> None:
    found = comparison(runs(2, 4), runs(1, 1), kind=Kind.SHARE, bound=2.9)
    assert found.ratio == Spread(median=3, minimum=2, maximum=4)
    assert not found.met
    assert replace(found, target=Target(kind=Kind.SHARE, bound=3)).met


def test_spread_and_peak() -> None:
    found = runs(4, 1, 2)
    assert found.wall == Spread(median=2, minimum=1, maximum=4)
    assert found.wall.width == 1.5
    assert found.cpu.median == 1
    mixed = replace(found, samples=(*found.samples, Sample(wall=1, cpu=1, memory=7_000_000)))
    assert mixed.memory == 7_000_000
    assert runs(1, memory=None).memory is None


def test_a_quiet_machine_is_not_called_noisy() -> None:
    assert report(QUIET, load=1.0).noise == ()


def test_a_busy_machine_is_said_to_be_noisy() -> None:
    (line,) = report(QUIET, load=1.5).noise
    assert "load average" in line
    unsteady = comparison(runs(1, 1, 1), runs(10, 10, 13))
    # Two comparisons with one peer are one complaint.
    assert report(unsteady, unsteady).noise == ("full_build: the peer's runs differ by 30% of their median",)


def test_every_round_runs_each_case_in_turn_and_warm_ups_do_not_count() -> None:
    happened: list[str] = []

    def case(name: str) -> Call:
        return Call(
            function=lambda: happened.append(name),
            description=name,
            before=lambda: happened.append(f"before {name}"),
            after=lambda: happened.append(f"after {name}"),
        )

    ours, peer = in_turn([case("ours"), case("peer")], rounds=2, warmups=1, say=lambda text: None)
    one = ["before ours", "ours", "after ours", "before peer", "peer", "after peer"]
    assert happened == one * 3
    assert (len(ours.samples), len(peer.samples)) == (2, 2)
    assert (ours.command, peer.command) == ("ours", "peer")


def test_what_is_measured_once_gives_the_same_sample_again() -> None:
    happened: list[str] = []
    known: dict[str, Sample] = {}

    def peer() -> Once:
        return Once(case=Call(function=lambda: happened.append("run"), description="peer"), known=known)

    (first,) = in_turn([peer()], rounds=1, warmups=0, say=lambda text: None)
    (second,) = in_turn([peer()], rounds=1, warmups=0, say=lambda text: None)
    assert happened == ["run"]
    assert first == second


def test_a_command_costs_what_it_and_its_children_used(tmp_path: Path) -> None:
    """Fifty megabytes and some work in a child of the command; nothing of what this process has."""
    here = bytearray(300_000_000)
    work = "x = bytearray(50_000_000)\nfor _ in range(3_000_000): pass"
    command = Command(argv=["sh", "-c", '"$1" -c "$2"; echo done', "sh", sys.executable, work], log=tmp_path / "log")
    sample = command.run()
    assert (tmp_path / "log").read_text() == "done\n"
    assert sample.memory is not None
    assert 50_000_000 < sample.memory < len(here)
    assert sample.wall > 0
    assert sample.cpu > 0


def test_a_command_that_fails_ends_the_bench(tmp_path: Path) -> None:
    command = Command(argv=["sh", "-c", "echo went wrong >&2; exit 3"], log=tmp_path / "log", shown="the work")
    with pytest.raises(Error, match="the work ended with status 3") as caught:
        command.run()
    assert caught.value.hint == "went wrong"


def test_json_can_be_read_again_and_holds_what_was_computed() -> None:
    made = report(QUIET, load=1.5)
    data = reports.to_json(made)
    assert reports.from_json(data) == made
    document = json.loads(data)
    assert set(document) == {
        *("date", "quick", "rounds", "commit", "machine", "versions", "load", "cores", "subjects", "noise"),
    }
    (subject,) = document["subjects"]
    assert set(subject) == {"name", "comparisons", "limits", "remarks"}
    (found,) = subject["comparisons"]
    assert set(found) == {"work", "ours", "peer", "target", "ratio", "met"}
    assert found["target"] == {"kind": "times faster", "bound": 8}
    assert found["met"] is True
    assert set(found["ours"]) == {"command", "samples", "wall", "cpu", "memory"}
    assert found["peer"]["wall"] == {"median": 10.1, "minimum": 10, "maximum": 10.2}
    assert found["ours"]["samples"][0] == {"wall": 1, "cpu": 0.5, "memory": 1_000_000}
    assert subject["limits"] == [{"what": "size", "value": 0.9, "bound": 0.95, "unit": "", "met": True}]
    assert len(document["noise"]) == 1


def test_tables_show_target_and_verdict() -> None:
    slow = comparison(runs(5, 5, 5, memory=None), runs(10, 10, 10))
    share = comparison(runs(0.2), runs(10), kind=Kind.SHARE, bound=0.05)
    text = reports.text(report(QUIET, slow, share, load=1.5))
    lines = [line.split("  ") for line in text.splitlines() if line.startswith("building")]
    cells = [[cell.strip() for cell in line if cell] for line in lines]
    assert cells[0][3:] == ["9.18x (8.5x-10x)", "at least 8x", "0.55 / 5.05", "1 / 1", "PASS"]
    assert cells[1][3:] == ["2x (2x-2x)", "at least 8x", "2.50 / 5.00", "-- / 1", "below"]
    assert cells[2][3:] == ["2.0% (2.0%-2.0%)", "at most 5.0%", "0.10 / 5.00", "1 / 1", "PASS"]
    assert "full_build: a remark" in text
    assert "NOISY MACHINE" in text
    assert "NOISY" not in reports.text(report(QUIET))


def test_markdown_is_a_grid() -> None:
    lines = reports.markdown(report(QUIET)).splitlines()
    grid = [line for line in lines if line.startswith("|")]
    assert [line.count("|") for line in grid] == [9, 9, 9, 5, 5, 5]
    assert "- pigz 2.6-1" in lines


@pytest.mark.root
def test_quick_runs_one_subject_from_end_to_end(tmp_path: Path) -> None:
    saved = tmp_path / "report.json"
    command = [sys.executable, str(RUN), "--quick", "--only", "is_current", "--folder", str(tmp_path / "work")]
    run = subprocess.run([*command, "--json", str(saved)], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert '"is it current?", 10000 files, whole command' in run.stdout
    found = reports.from_json(saved.read_bytes())
    assert (found.quick, found.rounds) == (True, 1)
    assert found.machine["file system"]
    assert found.versions["findutils"]
    (subject,) = found.subjects
    whole, inside = subject.comparisons
    assert whole.ours.command == "wwctl image build files"
    assert whole.ours.memory is not None
    assert inside.ours.memory is None
    assert whole.peer == inside.peer
    assert not (tmp_path / "work").exists()
    shown = subprocess.run(
        [sys.executable, str(RUN), "--report", str(saved), "--markdown"], capture_output=True, text=True, timeout=60
    )
    assert shown.stdout == reports.markdown(found)


def test_a_subject_that_does_not_exist_is_a_usage_error() -> None:
    run = subprocess.run([sys.executable, str(RUN), "--only", "coffee"], capture_output=True, text=True, timeout=60)
    assert run.returncode == 2
    assert "full_build" in run.stderr


@pytest.mark.root
def test_a_tree_of_the_last_run_is_kept_on_a_disk_and_removed_in_memory(tmp_path: Path) -> None:
    memory = tmp_path / "memory"
    memory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", memory], check=True)
    try:
        for place in (tmp_path, memory):
            (place / "tree/etc").mkdir(parents=True)
            set_aside(place / "tree")
            assert list((place / "tree").iterdir()) == []
            assert (place / "tree.aside/0/etc").is_dir() == (file_system(place) != "tmpfs")
        assert file_system(memory) == "tmpfs"
    finally:
        subprocess.run(["umount", memory], check=True)
