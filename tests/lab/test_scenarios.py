"""Scenario files, and what is looked for in a server's log."""

import re
from pathlib import Path

import pytest
import scenario
from machine import Firmware
from trial import first_missing

from images.errors import Error


@pytest.mark.parametrize("name", [path.stem for path in scenario.FOLDER.glob("*.toml")])
def test_every_file_is_a_scenario(name: str) -> None:
    loaded = scenario.load_scenario(name)
    assert loaded.name == name
    assert loaded.segments > 1
    assert loaded.stage == ("FAILED" if loaded.unsigned else "UP")
    for pattern in (loaded.console, *loaded.server_log, *(fact.shows for fact in loaded.facts)):
        re.compile(pattern)


def test_every_firmware_and_all_surroundings_are_run() -> None:
    all_of_them = [scenario.load_scenario(path.stem) for path in scenario.FOLDER.glob("*.toml")]
    assert {each.firmware for each in all_of_them} == set(Firmware)
    assert {each.surroundings for each in all_of_them} == set(scenario.Surroundings)
    assert {each.image for each in all_of_them} == set(scenario.Image)


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
