"""Scenario files, and what is looked for in a server's log."""

import re
import subprocess
from pathlib import Path

import pytest
import scenario
from machine import Firmware
from trial import first_missing

from images.errors import Error

ALL = [scenario.load_scenario(path.stem) for path in scenario.FOLDER.glob("*.toml")]
NODES = [each for each in ALL if isinstance(each, scenario.Scenario)]
HEADS = [each for each in ALL if isinstance(each, scenario.Installation)]


def test_every_file_is_a_scenario() -> None:
    assert {each.name for each in ALL} == {path.stem for path in scenario.FOLDER.glob("*.toml")}


@pytest.mark.parametrize("loaded", NODES, ids=lambda loaded: loaded.name)
def test_what_a_node_must_show_can_be_looked_for(loaded: scenario.Scenario) -> None:
    assert loaded.segments > 1
    assert loaded.stage == ("FAILED" if loaded.unsigned else "UP")
    for pattern in (loaded.console, *loaded.server_log, *(fact.shows for fact in loaded.facts)):
        re.compile(pattern)


@pytest.mark.parametrize("loaded", HEADS, ids=lambda loaded: loaded.name)
def test_what_a_head_node_must_show_can_be_looked_for(loaded: scenario.Installation) -> None:
    """And each command is one that the node's shell can read, in lines that its terminal takes (termios(3): 4096 bytes)."""
    assert loaded.proofs
    for proof in loaded.proofs:
        re.compile(proof.shows)
        subprocess.run(["sh", "-n"], input=proof.command, text=True, check=True)
        assert max(map(len, proof.command.splitlines())) < 1000


def test_every_firmware_and_all_surroundings_are_run() -> None:
    assert {each.firmware for each in NODES} == set(Firmware)
    assert {each.surroundings for each in NODES} == set(scenario.Surroundings)
    assert {each.image for each in NODES} == set(scenario.Image)


def test_an_unknown_name_tells_the_known_ones() -> None:
    with pytest.raises(Error) as caught:
        scenario.load_scenario("no-such")
    assert "bios-pxe" in str(caught.value.hint)


def test_a_wrong_key_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (scenario.FOLDER / "bios-pxe.toml").read_text()
    (tmp_path / "x.toml").write_text(text.replace("memory", "memry"))
    monkeypatch.setattr(scenario, "FOLDER", tmp_path)
    with pytest.raises(Error, match="memry"):
        scenario.load_scenario("x")


@pytest.mark.parametrize(
    ("patterns", "missing"),
    [
        (["OFFER", "ACK .*x"], None),
        (["ACK", "OFFER"], "OFFER"),
        (["OFFER", "OFFER"], "OFFER"),
        (["NAK"], "NAK"),
        ([], None),
    ],
)
def test_the_log_must_show_all_patterns_in_their_order(patterns: list[str], missing: str | None) -> None:
    assert first_missing("DISCOVER\nOFFER y\nREQUEST\nACK x\n", patterns) == missing
