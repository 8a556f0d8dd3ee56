"""What a firewall does to the first packet for one of our ports: `nft -j list ruleset`, walked as the kernel would.

iptables-nft and firewalld show up there too. A rule that is not understood is not guessed at: the verdict then says "perhaps".
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

MAX_DEPTH = 16
"""Chains that call each other; the kernel allows as many."""


class Verdict(Enum):
    PASS = "passes"
    DROP = "is dropped"
    PERHAPS = "is perhaps dropped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """The packet: a new flow from some machine on the boot network."""

    interface: str
    protocol: str
    port: int


@dataclass(slots=True)
class _Chain:
    family: str
    table: str
    name: str
    hook: str | None = None
    priority: int = 0
    policy: str = "accept"
    rules: list[Sequence[Mapping[str, Any]]] = field(default_factory=list)


class Ruleset:
    """The input chains of this machine, and those that they call."""

    def __init__(self, chains: Iterable[_Chain], sets: Mapping[tuple[str, str, str], Any]) -> None:
        self._chains = {(chain.family, chain.table, chain.name): chain for chain in chains}
        self._sets = sets

    @classmethod
    def parse(cls, text: str) -> "Ruleset":
        """Raises ValueError for what is not nft's JSON."""
        chains: dict[tuple[str, str, str], _Chain] = {}
        sets: dict[tuple[str, str, str], Any] = {}
        try:
            for entry in json.loads(text)["nftables"]:
                if (chain := entry.get("chain")) is not None:
                    made = _Chain(
                        family=chain["family"],
                        table=chain["table"],
                        name=chain["name"],
                        hook=chain.get("hook"),
                        priority=int(chain.get("prio", 0)),
                        policy=chain.get("policy", "accept"),
                    )
                    chains[made.family, made.table, made.name] = made
                elif (rule := entry.get("rule")) is not None:
                    chains[rule["family"], rule["table"], rule["chain"]].rules.append(rule.get("expr", []))
                elif (named := entry.get("set") or entry.get("map")) is not None:
                    sets[named["family"], named["table"], named["name"]] = named.get("elem", [])
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError) as exc:
            raise ValueError(f"not a ruleset of nft: {exc!r}") from exc
        return cls(chains.values(), sets)

    def judge(self, arrival: Arrival) -> tuple[Verdict, str]:
        """The verdict, and the chain that gave it. Every base chain must let a packet pass."""
        perhaps = ""
        bases = [chain for chain in self._chains.values() if chain.hook == "input" and chain.family in ("ip", "inet")]
        for base in sorted(bases, key=lambda chain: chain.priority):
            walk = _Walk(self._chains, self._sets, arrival)
            verdict = walk.run(base, 0) or base.policy
            where = f"{base.family} {base.table} {base.name}"
            if verdict in ("drop", "reject"):
                if not walk.unsure:
                    return Verdict.DROP, where
                perhaps = perhaps or where
            elif walk.unsure_drop:
                perhaps = perhaps or where
        return (Verdict.PERHAPS, perhaps) if perhaps else (Verdict.PASS, "")


class _Walk:
    def __init__(self, chains: Mapping[Any, _Chain], sets: Mapping[Any, Any], arrival: Arrival) -> None:
        self._chains = chains
        self._sets = sets
        self._arrival = arrival
        self.unsure = False
        """A rule was passed over that perhaps matches and lets the packet pass."""
        self.unsure_drop = False

    def run(self, chain: _Chain, depth: int) -> str | None:
        """accept, drop or reject; None when the chain ends without a verdict."""
        if depth > MAX_DEPTH:
            return None
        for rule in chain.rules:
            verdict = self._rule(chain, rule, depth)
            if verdict == "return":
                return None
            if verdict is not None:
                return verdict
        return None

    def _rule(self, chain: _Chain, rule: Sequence[Mapping[str, Any]], depth: int) -> str | None:
        certain = True
        for statement in rule:
            (kind, value), *_ = statement.items()
            if kind == "match":
                matches = self._match(chain, value)
                if matches is False:
                    return None
                certain = certain and matches is True
            elif kind in ("counter", "log", "comment", "ct count"):
                continue
            elif kind == "limit":
                # The first packet is within every limit, unless the limit speaks of those above it.
                if value.get("inv"):
                    return None
            elif kind in ("accept", "drop", "reject", "return"):
                return self._end(kind, certain)
            elif kind in ("jump", "goto"):
                return self._call(chain, value["target"], kind, certain, depth)
            elif kind == "vmap":
                return self._vmap(chain, value, certain, depth)
            elif kind in ("xt", "meter", "queue"):
                certain = False
        return None

    def _end(self, verdict: str, certain: bool) -> str | None:
        if certain:
            return verdict
        if verdict in ("drop", "reject"):
            self.unsure_drop = True
        else:
            self.unsure = True
        return None

    def _call(self, chain: _Chain, target: str, kind: str, certain: bool, depth: int) -> str | None:
        called = self._chains.get((chain.family, chain.table, target))
        verdict = self.run(called, depth + 1) if called is not None else None
        if not certain:
            return self._end(verdict, certain) if verdict is not None else None
        return verdict or ("return" if kind == "goto" else None)

    def _vmap(self, chain: _Chain, value: Mapping[str, Any], certain: bool, depth: int) -> str | None:
        for key, verdict in self._members(chain, value.get("data")):
            if self._equal(chain, value.get("key"), key) is True:
                (kind, target), *_ = verdict.items()
                if kind in ("jump", "goto"):
                    return self._call(chain, target["target"], kind, certain, depth)
                return self._end(kind, certain)
        return None

    def _match(self, chain: _Chain, match: Mapping[str, Any]) -> bool | None:
        """None when this is about something that we know nothing of."""
        operator, left, right = match.get("op"), match.get("left"), match.get("right")
        if operator not in ("==", "!=", "in"):
            return None
        found = self._equal(chain, left, right)
        return None if found is None else found is not (operator == "!=")

    def _equal(self, chain: _Chain, left: Any, right: Any) -> bool | None:
        known = self._known(left)
        if known is None:
            return None
        values = [value[0] if isinstance(value, list) and value else value for value in self._members(chain, right)]
        return any(_contains(value, known) for value in values)

    def _known(self, left: Any) -> set[Any] | None:
        """What the packet has for one expression."""
        arrival = self._arrival
        if not isinstance(left, Mapping):
            return None
        if (meta := left.get("meta")) is not None:
            return {
                "iifname": {arrival.interface},
                "iif": {arrival.interface},
                "l4proto": {arrival.protocol},
                "nfproto": {"ipv4"},
                "protocol": {"ip"},
            }.get(meta.get("key"))
        if (payload := left.get("payload")) is not None:
            protocol, name = payload.get("protocol"), payload.get("field")
            if name == "dport":
                # A rule for another protocol's port does not match.
                return {arrival.port} if protocol in (arrival.protocol, "th") else {-1}
            if (protocol, name) == ("ip", "protocol"):
                return {arrival.protocol}
            if protocol in ("icmp", "icmpv6", "ip6", "tcp" if arrival.protocol == "udp" else "udp"):
                return {-1}
            return None
        if (ct := left.get("ct")) is not None and ct.get("key") == "state":
            return {"new"}
        return None

    def _members(self, chain: _Chain, value: Any) -> list[Any]:
        if isinstance(value, str) and value.startswith("@"):
            value = self._sets.get((chain.family, chain.table, value[1:]), [])
        if isinstance(value, Mapping) and "set" in value:
            value = value["set"]
        members = value if isinstance(value, list) else [value]
        return [member["elem"].get("val") if isinstance(member, Mapping) and "elem" in member else member for member in members]


def _contains(value: Any, known: set[Any]) -> bool:
    if isinstance(value, Mapping) and "range" in value:
        low, high = value["range"]
        return any(isinstance(one, int) and isinstance(low, int) and low <= one <= high for one in known)
    if isinstance(value, str) and value.endswith("*"):
        return any(str(one).startswith(value[:-1]) for one in known)
    return value in known if not isinstance(value, Mapping | list) else False
