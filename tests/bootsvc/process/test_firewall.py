"""What rules do to a packet: nft's own JSON of real rule sets, loaded in a namespace that has a firewall of its own."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from boot_network import BootNetwork

from bootsvc.process.firewall import Arrival, Ruleset, Verdict

pytestmark = pytest.mark.root

DHCP = Arrival(interface="boot0", protocol="udp", port=67)
HTTP = Arrival(interface="boot0", protocol="tcp", port=9873)

Judge = Callable[..., tuple[Verdict, str]]


@pytest.fixture
def judge(boot_network: BootNetwork, require_tool: Callable[..., Path]) -> Judge:
    require_tool("nft", package="nftables")

    def load(rules: str) -> Ruleset:
        command = ["ip", "netns", "exec", boot_network.server, "nft", "-f", "-"]
        run = subprocess.run(command, input=f"flush ruleset\n{rules}", capture_output=True, text=True, timeout=20)
        assert run.returncode == 0, run.stderr
        return Ruleset.parse(boot_network.on(boot_network.server, "nft", "-j", "list", "ruleset"))

    return lambda rules, arrival=DHCP: load(rules).judge(arrival)


def chain(*rules: str, policy: str = "accept", table: str = "inet filter", name: str = "input", priority: int = 0) -> str:
    head = f"type filter hook input priority {priority}; policy {policy}"
    return f"table {table} {{\n chain {name} {{\n{chr(10).join([head, *rules])}\n }}\n}}\n"


def test_rules_of_every_common_kind(judge: Judge) -> None:
    assert judge("") == (Verdict.PASS, "")
    assert judge(chain()) == (Verdict.PASS, "")
    assert judge(chain(policy="drop")) == (Verdict.DROP, "inet filter input")
    usual = ["ct state established,related accept", "ct state invalid drop", "iif lo accept", "meta l4proto icmp accept"]
    assert judge(chain(*usual, "tcp dport 22 accept", policy="drop"))[0] is Verdict.DROP
    assert judge(chain(*usual, "udp dport { 67, 69 } accept", policy="drop"))[0] is Verdict.PASS
    assert judge(chain(*usual, "udp dport 60-70 accept", policy="drop"))[0] is Verdict.PASS
    assert judge(chain(*usual, 'iifname "boot*" accept', policy="drop"))[0] is Verdict.PASS
    assert judge(chain(*usual, "iifname != other0 accept", policy="drop"))[0] is Verdict.PASS
    assert judge(chain("iifname boot0 udp dport 67 counter drop"))[0] is Verdict.DROP
    assert judge(chain("iifname other0 udp dport 67 drop"))[0] is Verdict.PASS
    assert judge(chain("udp dport 67 drop"), HTTP)[0] is Verdict.PASS
    assert judge(chain("tcp dport 9873 reject"), HTTP)[0] is Verdict.DROP
    assert judge(chain("th dport 9873 reject"), HTTP)[0] is Verdict.DROP
    assert judge(chain("udp dport 67 limit rate over 10/second drop"))[0] is Verdict.PASS


def test_chains_that_call_others_sets_and_maps(judge: Judge) -> None:
    called = """table inet filter {
        set ports {
            type inet_service
            elements = { 53, 67 }
        }
        map zones {
            type ifname : verdict
            elements = { "boot0" : jump inside }
        }
        chain inside {
            %s
        }
        chain input {
            type filter hook input priority 0
            policy drop
            iifname vmap @zones
        }
    }"""
    assert judge(called % "udp dport @ports accept")[0] is Verdict.PASS
    assert judge(called % "udp dport @ports return")[0] is Verdict.DROP
    assert judge((called % "accept").replace('"boot0"', '"other0"'))[0] is Verdict.DROP
    anonymous = chain('iifname vmap { "boot0" : accept, "other0" : drop }', policy="drop")
    assert judge(anonymous)[0] is Verdict.PASS


def test_what_is_not_understood_is_not_guessed_at(judge: Judge) -> None:
    assert judge(chain("ip saddr 10.0.0.0/8 accept", policy="drop"))[0] is Verdict.PERHAPS
    assert judge(chain("ip saddr 10.0.0.0/8 drop"))[0] is Verdict.PERHAPS
    assert judge(chain("ip saddr 10.0.0.0/8 drop", "accept"))[0] is Verdict.PERHAPS


def test_every_base_chain_must_let_it_pass(judge: Judge) -> None:
    later = chain(policy="drop", table="ip late", name="in", priority=100)
    assert judge(chain("accept") + later) == (Verdict.DROP, "ip late in")
    other = chain(policy="drop", table="ip6 late", name="in", priority=100)
    assert judge(chain("accept") + other)[0] is Verdict.PASS


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"nftables": [{"rule": {"family": "ip"}}]})])
def test_what_is_no_ruleset_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="not a ruleset"):
        Ruleset.parse(text)
