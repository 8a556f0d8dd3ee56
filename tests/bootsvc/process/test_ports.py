"""Ports that two services of ours would need are found before one of them cannot have it."""

from pathlib import Path

import pytest

from bootsvc.config import Config
from bootsvc.process.ports import find_clashes, ports_of

DNS = "dns (`bootsvc: dns: enabled`, "


def load(folder: Path, text: str) -> Config:
    conf = folder / "warewulf.conf"
    conf.write_text(text)
    return Config.load(conf)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("warewulf: {port: 9873}\n", []),
        ("warewulf: {port: 69}\n", []),
        ("warewulf:\n  port: 53\nbootsvc: {dns: {enabled: false}}\n", []),
        ("warewulf: {port: 9874}\n", []),
        ("warewulf: {tls: true, tls port: 0}\n", []),
        (
            "warewulf:\n  port: 53\n",
            [
                (
                    "TCP port 53 is wanted by " + DNS + "by default) and by http (`warewulf: port`, {conf}:2)",
                    "set `bootsvc: dns: enabled: false`, or change `warewulf: port`",
                )
            ],
        ),
        (
            "bootsvc:\n  dns:\n    enabled: true\nwarewulf:\n  tls: true\n  port: 53\n  tls port: 53\n",
            [
                (
                    "TCP port 53 is wanted by "
                    + DNS
                    + "{conf}:3) and by http (`warewulf: port`, {conf}:6) and by http (`warewulf: tls port`, {conf}:7)",
                    "set `bootsvc: dns: enabled: false`, or change `warewulf: port`, or change `warewulf: tls port`",
                )
            ],
        ),
        (
            "warewulf:\n  port: 9874\n  tls: true\n",
            [
                (
                    "TCP port 9874 is wanted by http (`warewulf: port`, {conf}:2) "
                    "and by http (`warewulf: tls port`, by default)",
                    "change `warewulf: port`, or change `warewulf: tls port`",
                )
            ],
        ),
    ],
)
def test_two_services_on_one_port(tmp_path: Path, text: str, said: list[tuple[str, str]]) -> None:
    config = load(tmp_path, text)
    found = [(clash.message, clash.hint) for clash in find_clashes(config)]
    assert found == [(message.format(conf=config.source), hint) for message, hint in said]


def test_a_tls_port_of_zero_is_the_usual_one(tmp_path: Path) -> None:
    assert ("tcp", 9874) in ports_of(load(tmp_path, "warewulf: {tls: true, tls port: 0}\n"))
