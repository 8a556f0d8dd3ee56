"""Scenario files."""

from pathlib import Path

import pytest
import scenario

from images.errors import Error


@pytest.mark.parametrize("name", [path.stem for path in scenario.FOLDER.glob("*.toml")])
def test_every_file_is_a_scenario(name: str) -> None:
    loaded = scenario.load_scenario(name)
    assert loaded.name == name
    assert loaded.image in ("tiny", "odd", "debian")
    assert loaded.segments > 1
    assert loaded.stage == "UP"


def test_an_unknown_name_tells_the_known_ones() -> None:
    with pytest.raises(Error) as caught:
        scenario.load_scenario("no-such")
    assert "bios-pxe" in str(caught.value.hint)


def test_a_wrong_key_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (scenario.FOLDER / "bios-pxe.toml").read_text()
    (tmp_path / "x.toml").write_text(text.replace("memory", "memry"))
    monkeypatch.setattr(scenario, "FOLDER", tmp_path)
    with pytest.raises(Error, match="memory, memry"):
        scenario.load_scenario("x")
