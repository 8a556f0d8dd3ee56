"""The lab's command: `lab.py list`, `lab.py run [SCENARIO…]`. Run it by path with the project's own Python, as root."""

import argparse
import sys
import time
from collections.abc import Sequence

from scenario import FOLDER, Scenario, load_scenario
from session import run_isolated
from steps import Steps
from trial import run_scenario

from images.errors import Error


def main() -> int:
    parser = argparse.ArgumentParser(prog="lab.py", description="Boot virtual machines over the network, and check them.")
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("list", help="the scenarios")
    run = commands.add_parser("run", help="run scenarios, one after the other; exits 0 when all of them held")
    run.add_argument("names", nargs="*", metavar="name", help="as `list` shows them; none: all of them")
    arguments = parser.parse_args()
    try:
        return _list() if arguments.command == "list" else _run_all(getattr(arguments, "names", []))
    except Error as exc:
        Steps().failed(exc.message, exc.hint)
        return 1
    except KeyboardInterrupt:
        return 130


def _list() -> int:
    for path in sorted(FOLDER.glob("*.toml")):
        print(f"{path.stem:22} {load_scenario(path.stem).description}")
    return 0


def _run_all(names: Sequence[str]) -> int:
    scenarios = [load_scenario(name) for name in names or sorted(path.stem for path in FOLDER.glob("*.toml"))]
    failed = []
    took = []
    for scenario in scenarios:
        begin = time.monotonic()
        status = _run(scenario)
        took.append(f"{time.monotonic() - begin:7.1f} s  {scenario.name}")
        if status >= 128:
            return status
        if status != 0:
            failed.append(scenario.name)
    print("", *took, sep="\n")
    print(f"{len(scenarios) - len(failed)} passed, {len(failed)} failed {' '.join(failed)}".rstrip())
    return 1 if failed else 0


def _run(scenario: Scenario) -> int:
    print(f"\n{scenario.name}: {scenario.description}")
    steps = Steps()
    with steps.step(f"Make the {scenario.image.value} root file system"):
        root, kernel = scenario.prepare()
    return run_isolated(scenario.name, lambda lab: run_scenario(lab, scenario, root, kernel), steps)


if __name__ == "__main__":
    sys.exit(main())
