"""What every test may use: golden files, tools that may be missing, and BOOTSVC_CI=1, under which no test may skip."""

import os
import shutil
import signal
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

pytest_plugins = ["registries", "artefacts", "boot_network"]
IN_CI = os.environ.get("BOOTSVC_CI") == "1"


def pytest_configure() -> None:
    """A run in the background (`make test &`, nohup) ignores these, and so would every program that a test starts."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write golden files anew; each test that changes one fails")


@pytest.fixture
def require_tool() -> Callable[..., Path]:
    """`require_tool("atftp")` is the program's path; without it the test is skipped, naming the Debian package."""

    def require(program: str, *, package: str | None = None) -> Path:
        path = shutil.which(program)
        if path is None:
            pytest.skip(f"{program} is missing (Debian package {package or program})")
        return Path(path)

    return require


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[Path, bytes | str], None]:
    """`golden(path, actual)` compares with a file; `--update-golden` writes it, and fails when that changes it."""
    update: bool = request.config.getoption("--update-golden")

    def compare(path: Path, actual: bytes | str) -> None:
        raw = actual.encode() if isinstance(actual, str) else actual
        expected = path.read_bytes() if path.exists() else None
        if update and raw != expected:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(raw)
            pytest.fail(f"{path} was written anew: read its diff, then run without --update-golden", pytrace=False)
        assert expected is not None, f"{path} does not exist: --update-golden writes it"
        if isinstance(actual, str):
            assert actual == expected.decode()
        else:
            assert raw == expected

    return compare


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root") or item.get_closest_marker("lab"):
            item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _forbid_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _forbid_skip(report)
    return report


def _forbid_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """A machine that is set up by .ci/setup lacks nothing: there a skip hides a missing package."""
    if IN_CI and report.outcome == "skipped" and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped, though BOOTSVC_CI=1 is set: {reason}"
