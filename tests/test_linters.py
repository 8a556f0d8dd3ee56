"""Linters are tests: one run says all that the house minds about form.

The tools come first, then the rules that no tool has. Each of those is a function from one file's path and text to its
violations, and is tried on a text that breaks it.
"""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

Rule = Callable[[str, str], list[str]]

ROOT = Path(__file__).parent.parent
NOT_OURS = {".git", ".venv", ".cache", ".vagrant", ".hypothesis", "__pycache__", "dist", "runs"}
NOT_OURS |= {".mypy_cache", ".pytest_cache", ".ruff_cache"}

MODULE_LINES = 500
FUNCTION_LINES = 80
HOMELESS = {"util", "utils", "helper", "helpers", "common", "misc", "manager"}
SUBPROCESS = (
    "bootsvc/cli/*",
    "bootsvc/loading.py",  # parses nodes.conf beside the server
    "images/auth.py",  # credential helpers
    "images/sandbox/*.py",
    "images/source/sif.py",  # unsquashfs
)
STARTS_A_PROGRAM = re.compile(r"create_subprocess_\w+|popen|posix_spawnp?|exec[lv]p?e?")
# First segments of what netboot/urls.py serves, as a path of their own (not the end of /var/lib/warewulf/provision).
NODE_URL = re.compile(r"(?<![\w.-])/(provision|generations|blobs|report|efiboot|discover)/")


def project_files() -> Iterator[str]:
    """Every file of ours, relative to the checkout; found without git, which a minimal machine lacks."""
    for folder, folders, files in os.walk(ROOT):
        folders[:] = sorted(name for name in folders if name not in NOT_OURS)
        yield from (os.path.relpath(os.path.join(folder, name), ROOT) for name in sorted(files))


def python_files(*folders: str) -> list[str]:
    return [name for name in project_files() if name.endswith(".py") and name.split("/")[0] in folders]


def shell_scripts() -> list[str]:
    """Whatever a shell runs: by its first line, and all of netboot/init. Templates are no shell until rendered."""
    return [
        name
        for name in project_files()
        if not name.endswith((".j2", ".ww", ".py", ".toml", ".md"))
        and (name.startswith("netboot/init/") or re.match(rb"#!.*\b(ba|da)?sh\b", (ROOT / name).read_bytes()[:80]))
    ]


def check(*command: str, **environment: str) -> None:
    """Run a linter; what it says is the test's failure."""
    run = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if run.returncode != 0:
        pytest.fail(f"{' '.join(command)}\n{run.stdout}", pytrace=False)


def ruff(*arguments: str) -> Sequence[str]:
    return (sys.executable, "-m", "ruff", *arguments)


def test_ruff_format() -> None:
    check(*ruff("format", "--check", "--diff", "--quiet", "."))


def test_ruff_check() -> None:
    check(*ruff("check", "--quiet", "."))


@pytest.mark.parametrize(
    ("path", "source", "code"),
    [
        ("images/x.py", 'print("x")\n', "T201"),
        ("bootsvc/x.py", "import asyncio\n\nasyncio.create_task(f())\n", "TID251"),
        ("bootsvc/x.py", "from asyncio import gather\n", "TID251"),
        ("bootsvc/cli/x.py", 'print("x")\n', None),
    ],
)
def test_ruff_is_configured_to_catch(path: str, source: str, code: str | None) -> None:
    command = ruff("check", "--output-format=concise", f"--stdin-filename={path}", "-")
    run = subprocess.run(command, cwd=ROOT, input=source, capture_output=True, text=True)
    assert (run.returncode != 0) == (code is not None), run.stdout
    assert code is None or f" {code} " in run.stdout


def test_mypy() -> None:
    check(sys.executable, "-m", "mypy", "--no-error-summary")


def test_mypy_is_told_of_every_folder() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    assert set(settings["files"]) == {name.split("/")[0] for name in project_files() if name.endswith(".py")}


@pytest.mark.parametrize("script", shell_scripts())
def test_shellcheck(script: str, require_tool: Callable[..., Path]) -> None:
    dialect = [] if (ROOT / script).read_bytes().startswith(b"#!") else ["--shell=sh"]
    # SC2187: busybox's ash is checked as dash, which is what we want.
    check(str(require_tool("shellcheck")), "--exclude=SC2187", *dialect, script)


def module_size(path: str, text: str) -> list[str]:
    lines = len(text.splitlines())
    return [f"{lines} lines, more than {MODULE_LINES}"] if lines > MODULE_LINES else []


def function_size(path: str, text: str) -> list[str]:
    violations = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES:
                violations.append(f"line {node.lineno}: {node.name} has {lines} lines, more than {FUNCTION_LINES}")
    return violations


def homeless_name(path: str, text: str) -> list[str]:
    words = {word for part in Path(path).with_suffix("").parts for word in re.split(r"[_-]", part)}
    return [f"{word!r} is no topic: name what it is about" for word in sorted(words & HOMELESS)]


def logic_in_init(path: str, text: str) -> list[str]:
    if Path(path).name != "__init__.py":
        return []
    return [f"line {node.lineno}: holds more than names" for node in ast.parse(text).body if not _is_name(node)]


def _is_name(node: ast.stmt) -> bool:
    """A docstring, an import, or the assignment of a literal such as __all__."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return True
    if isinstance(node, ast.Expr | ast.Assign | ast.AnnAssign) and node.value is not None:
        return not any(isinstance(part, ast.Call | ast.Lambda) for part in ast.walk(node.value))
    return False


def stray_subprocess(path: str, text: str) -> list[str]:
    if any(fnmatchcase(path, pattern) for pattern in SUBPROCESS):
        return []
    violations = []
    for node in ast.walk(ast.parse(text)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Attribute) and STARTS_A_PROGRAM.fullmatch(node.attr):
            violations.append(f"line {node.lineno}: starts a program by {node.attr}")
        violations += [f"imports {name}" for name in names if name.split(".")[0] == "subprocess"]
    return violations


def stray_url(path: str, text: str) -> list[str]:
    """A URL of a node, spelled in a string; docstrings may talk about them."""
    if path == "netboot/urls.py":
        return []
    tree = ast.parse(text)
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        f"line {node.lineno}: {node.value!r} belongs in netboot/urls.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose
        if NODE_URL.search(node.value)
    ]


def foreign_name(path: str, text: str) -> list[str]:
    """A path of the machine that somebody works on is no business of the project."""
    return [f"names the checkout's own place, {ROOT}"] if f"{ROOT}/" in text else []


BROKEN = [
    (module_size, "images/x.py", "x = 1\n" * 501),
    (function_size, "images/x.py", "def f():\n" + "    x = 1\n" * 80),
    (function_size, "images/x.py", "class C:\n    async def f(self):\n" + "        x = 1\n" * 80),
    (homeless_name, "images/tar_helpers.py", ""),
    (homeless_name, "bootsvc/common/x.py", ""),
    (logic_in_init, "images/__init__.py", "def f(): ..."),
    (logic_in_init, "images/__init__.py", "x = open('y')"),
    (logic_in_init, "images/__init__.py", "if x:\n    import y"),
    (stray_subprocess, "images/layers.py", "def f():\n    import subprocess"),
    (stray_subprocess, "bootsvc/app.py", "from subprocess import run"),
    (stray_subprocess, "bootsvc/app.py", "asyncio.create_subprocess_exec('x')"),
    (stray_url, "bootsvc/http/stages.py", "x = '/blobs/sha256:1'"),
    (stray_url, "netboot/ipxe.py", "x = f'{base}/report/{wwid}'"),
    (foreign_name, "README.md", f"see {ROOT}/README.md"),
]
FINE = [
    (module_size, "images/x.py", "x = 1\n" * 500),
    (function_size, "images/x.py", "def f():\n" + "    x = 1\n" * 79),
    (homeless_name, "images/commonality.py", ""),
    (logic_in_init, "images/__init__.py", '"""Doc."""\nfrom images.x import y\n__all__ = ["y"]'),
    (logic_in_init, "images/x.py", "def f(): ..."),
    (stray_subprocess, "bootsvc/cli/node.py", "import subprocess"),
    (stray_url, "netboot/urls.py", "x = '/blobs/sha256:1'"),
    (stray_url, "bootsvc/x.py", 'def f():\n    """Serves /blobs/DIGEST."""\n    return "/var/lib/warewulf/provision/"'),
]


def violations_of(rules: Sequence[Rule], names: Sequence[str]) -> list[str]:
    assert names, "found nothing to look at"
    return [
        f"{name}: {violation}"
        for name in names
        for rule in rules
        for violation in rule(name, (ROOT / name).read_text(errors="replace"))
    ]


def test_size_and_names() -> None:
    found = violations_of(
        [module_size, function_size, homeless_name, logic_in_init],
        python_files("bootsvc", "images", "netboot", "vm-lab", "bench"),
    )
    assert not found, "\n  ".join(["", *found])


def test_programs_are_started_in_few_places() -> None:
    ours = python_files("bootsvc", "images")
    gone = [pattern for pattern in SUBPROCESS if not any(fnmatchcase(name, pattern) for name in ours)]
    assert not gone, "moved, and no longer an exception"
    found = violations_of([stray_subprocess], python_files("bootsvc", "images", "netboot"))
    assert not found, "\n  ".join(["", *found])


def test_urls_are_spelled_once() -> None:
    # images speaks to registries, whose paths have blobs too.
    found = violations_of([stray_url], python_files("bootsvc", "netboot"))
    assert not found, "\n  ".join(["", *found])


def test_no_host_or_path_of_one_machine() -> None:
    found = violations_of([foreign_name], list(project_files()))
    assert not found, "\n  ".join(["", *found])


def test_overlays_hold_no_symlinks() -> None:
    # A wheel follows links: overlay.toml declares them instead.
    overlays = ROOT / "netboot" / "overlays"
    assert overlays.is_dir()
    links = [str(path.relative_to(ROOT)) for path in overlays.rglob("*") if path.is_symlink()]
    assert not links, "declare these in overlay.toml: " + ", ".join(links)


@pytest.mark.parametrize(("rule", "path", "text"), BROKEN)
def test_rule_catches(rule: Rule, path: str, text: str) -> None:
    assert len(rule(path, text)) == 1


@pytest.mark.parametrize(("rule", "path", "text"), FINE)
def test_rule_allows(rule: Rule, path: str, text: str) -> None:
    assert rule(path, text) == []
