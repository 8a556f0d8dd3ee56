"""The house's shape (docs of the three packages): imports point one way, and what decides knows no clock and no socket.

Each rule is a function from modules to violations, tried first on a small module that breaks it.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("images", "netboot", "bootsvc")  # each may import itself and those before it

# Codecs (bytes ↔ values) and decisions (values → values, `now` is an argument).
PURE = (
    "bootsvc.boots",
    "bootsvc.dhcp.answer",
    "bootsvc.dhcp.boot",
    "bootsvc.dhcp.complaints",
    "bootsvc.dhcp.layout",
    "bootsvc.dhcp.leases",
    "bootsvc.dhcp.networks",
    "bootsvc.dhcp.option_values",
    "bootsvc.dhcp.options",
    "bootsvc.dhcp.options_field",
    "bootsvc.dhcp.packet",
    "bootsvc.dhcp.proxy",
    "bootsvc.dhcp.request",
    "bootsvc.dhcp.reservations",
    "bootsvc.dns.answer",
    "bootsvc.dns.answer_body",
    "bootsvc.dns.cache",
    "bootsvc.dns.packet",
    "bootsvc.dns.prepared",
    "bootsvc.dns.records",
    "bootsvc.dns.reverse",
    "bootsvc.dns.settings",
    "bootsvc.dns.zone",
    "bootsvc.hostblock",
    "bootsvc.dhcp.rivals",
    "bootsvc.dhcp.room",
    "bootsvc.dhcp.settings",
    "bootsvc.dhcp.site",
    "bootsvc.discovery",
    "bootsvc.hostlist",
    "bootsvc.http.ranges",
    "bootsvc.http.settings",
    "bootsvc.image_users",
    "bootsvc.net.networks",
    "bootsvc.process.firewall",
    "bootsvc.process.unit",
    "bootsvc.restart",
    "bootsvc.tftp.packet",
    "bootsvc.tftp.session",
    "bootsvc.tftp.settings",
    "images.authfile",
    "images.challenge",
    "images.compress",
    "images.cpio",
    "images.doctor.boot",
    "images.doctor.cost",
    "images.doctor.drift",
    "images.doctor.identity",
    "images.doctor.startup",
    "images.doctor.subject",
    "images.elf",
    "images.errors",
    "images.excludes",
    "images.generation",
    "images.index",
    "images.passwd",
    "images.pax",
    "images.reference",
    "images.source.proxies",
    "images.syncuser",
    "images.tar",
    "netboot.accounts",
    "netboot.cmdline",
    "netboot.devices",
    "netboot.engine",
    "netboot.engines",
    "netboot.errors",
    "netboot.fields",
    "netboot.firmware",
    "netboot.gotemplate.builtins",
    "netboot.gotemplate.calls",
    "netboot.gotemplate.comparisons",
    "netboot.gotemplate.constants",
    "netboot.gotemplate.data",
    "netboot.gotemplate.durations",
    "netboot.gotemplate.errors",
    "netboot.gotemplate.escapes",
    "netboot.gotemplate.evaluator",
    "netboot.gotemplate.expressions",
    "netboot.gotemplate.fields",
    "netboot.gotemplate.floats",
    "netboot.gotemplate.formatting",
    "netboot.gotemplate.frames",
    "netboot.gotemplate.go_time",
    "netboot.gotemplate.lexer",
    "netboot.gotemplate.limits",
    "netboot.gotemplate.node_data",
    "netboot.gotemplate.nodes",
    "netboot.gotemplate.parser",
    "netboot.gotemplate.pipelines",
    "netboot.gotemplate.printing",
    "netboot.gotemplate.quoting",
    "netboot.gotemplate.shortcuts",
    "netboot.gotemplate.sprig",
    "netboot.gotemplate.sprig_case",
    "netboot.gotemplate.sprig_dates",
    "netboot.gotemplate.sprig_dicts",
    "netboot.gotemplate.sprig_encoding",
    "netboot.gotemplate.sprig_equality",
    "netboot.gotemplate.sprig_lists",
    "netboot.gotemplate.sprig_numbers",
    "netboot.gotemplate.sprig_paths",
    "netboot.gotemplate.sprig_regex",
    "netboot.gotemplate.sprig_semver",
    "netboot.gotemplate.sprig_string_lists",
    "netboot.gotemplate.sprig_strings",
    "netboot.gotemplate.template",
    "netboot.gotemplate.time_layouts",
    "netboot.gotemplate.used_variables",
    "netboot.gotemplate.values",
    "netboot.gotemplate.variables",
    "netboot.gotemplate.verbs",
    "netboot.gotemplate.views",
    "netboot.grub",
    "netboot.head_conf",
    "netboot.hostnames",
    "netboot.hwaddr",
    "netboot.ignition",
    "netboot.ipxe",
    "netboot.merge",
    "netboot.nettags",
    "netboot.node",
    "netboot.output_marks",
    "netboot.reads",
    "netboot.seen_server",
    "netboot.sfdisk",
    "netboot.storage",
    "netboot.storage_values",
    "netboot.systemd_names",
    "netboot.template",
    "netboot.template_steps",
    "netboot.urls",
)
IMPURE = ("asyncio", "socket", "time", "os", "logging")

# Test peers with licences that the service must not depend on.
NEVER = ("scapy", "qemu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    name: str
    tree: ast.Module
    is_package: bool = False

    def imports(self) -> Iterator[tuple[int, str]]:
        """Line and absolute dotted name of each import, inside functions too; `from a import b` gives `a.b`."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield node.lineno, alias.name
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    yield node.lineno, f"{self._origin(node)}.{alias.name}"

    def _origin(self, node: ast.ImportFrom) -> str:
        if node.level == 0:
            return node.module or ""
        parts = self.name.split(".")
        parts = parts[: len(parts) - node.level + (1 if self.is_package else 0)]
        return ".".join([*parts, node.module] if node.module else parts)


def load() -> list[Module]:
    modules = []
    for path in (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))):
        is_package = path.name == "__init__.py"
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if is_package else parts)
        modules.append(Module(name=name, tree=ast.parse(path.read_text(), str(path)), is_package=is_package))
    return modules


def made(**sources: str) -> list[Module]:
    """Small modules for a rule's own test; `__` in a name stands for a dot."""
    return [Module(name=name.replace("__", "."), tree=ast.parse(source)) for name, source in sources.items()]


def within(name: str, packages: Iterable[str]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def upward_imports(modules: Iterable[Module]) -> list[str]:
    violations = []
    for module in modules:
        above = PACKAGES[PACKAGES.index(module.name.split(".")[0]) + 1 :]
        violations += [f"{module.name}:{line} imports {name}" for line, name in module.imports() if within(name, above)]
    return violations


def impure_imports(modules: Iterable[Module]) -> list[str]:
    return [
        f"{module.name}:{line} imports {name}"
        for module in modules
        if module.name in PURE
        for line, name in module.imports()
        if within(name, IMPURE)
    ]


def peer_imports(modules: Iterable[Module]) -> list[str]:
    return [
        f"{module.name}:{line} imports {name}" for module in modules for line, name in module.imports() if within(name, NEVER)
    ]


def cycles(modules: Iterable[Module]) -> list[str]:
    """Each import cycle once, as `a → b → a`; imports under TYPE_CHECKING count, as the layers are wrong there too."""
    modules = list(modules)
    names = {module.name for module in modules}
    edges = {module.name: sorted(_targets(module, names)) for module in modules}
    found: dict[frozenset[str], str] = {}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            cycle = trail[trail.index(name) :]
            found.setdefault(frozenset(cycle), " → ".join([*cycle, name]))
        elif name not in done:
            for target in edges[name]:
                visit(target, (*trail, name))
            done.add(name)

    for name in edges:
        visit(name, ())
    return list(found.values())


def _targets(module: Module, names: set[str]) -> set[str]:
    """The modules that a module's imports name: `a.b.c` means module `a.b.c`, else name c of module `a.b`."""
    targets = set()
    for _, name in module.imports():
        target = name if name in names else name.rpartition(".")[0]
        if target in names:
            targets.add(target)
    return targets - ({module.name} if module.is_package else set())


RULES = {
    "imports point one way": upward_imports,
    "codecs and decisions are pure": impure_imports,
    "the service imports no test peer": peer_imports,
    "no import cycle": cycles,
}

BROKEN: Mapping[str, list[Mapping[str, str]]] = {
    "imports point one way": [
        {"images__cpio": "import netboot.node"},
        {"images__cpio": "from bootsvc import config"},
        {"netboot__ipxe": "def f():\n    from bootsvc.config import Config"},
    ],
    "codecs and decisions are pure": [
        {"bootsvc__dhcp__packet": "import socket"},
        {"bootsvc__dhcp__answer": "from time import monotonic"},
        {"bootsvc__tftp__session": "import asyncio.events"},
        {"images__cpio": "import os.path"},
        {"netboot__ipxe": "from logging import getLogger"},
    ],
    "the service imports no test peer": [
        {"bootsvc__dhcp__service": "from scapy.all import sniff"},
        {"images__sandbox": "import qemu.qmp"},
    ],
    "no import cycle": [
        {"images__a": "import images.b", "images__b": "from images import a"},
        {"images__a": "from images.b import x", "images__b": "import images.c", "images__c": "from images.a import y"},
        {"images__a": "from . import b", "images__b": "from .a import x"},
    ],
}

ALLOWED: Mapping[str, Mapping[str, str]] = {
    "imports point one way": {"bootsvc__app": "import netboot.node\nimport images.cpio", "netboot__x": "import images"},
    "codecs and decisions are pure": {
        "bootsvc__dhcp__service": "import asyncio, socket, time, os, logging",
        "images__cpio": "from timeit import x",
    },
    "the service imports no test peer": {"bootsvc__x": "import qemulike\nfrom images import scapy"},
    "no import cycle": {"images__a": "import images.b\nfrom images import c", "images__b": "import images.c", "images__c": ""},
}


def test_every_pure_name_exists() -> None:
    names = {module.name for module in load()}
    assert sorted(set(PURE) - names) == [], "renamed, and no longer watched"


@pytest.mark.parametrize("rule", RULES)
def test_rule_holds(rule: str) -> None:
    modules = load()
    assert len(modules) > 10, "the packages were not found"
    violations = RULES[rule](modules)
    assert not violations, f"{rule}:\n  " + "\n  ".join(violations)


@pytest.mark.parametrize(("rule", "sources"), [(rule, sources) for rule in RULES for sources in BROKEN[rule]])
def test_rule_catches(rule: str, sources: Mapping[str, str]) -> None:
    assert len(RULES[rule](made(**sources))) == 1


@pytest.mark.parametrize("rule", RULES)
def test_rule_allows(rule: str) -> None:
    assert RULES[rule](made(**ALLOWED[rule])) == []
