"""The lab's command: `lab.py list`, `lab.py run [SCENARIO…]`, `lab.py record [NAME…]`. Run it by path with the project's
own Python, as root.
"""

import argparse
import sys
import time
from collections.abc import Sequence

from head_trial import run_installation
from recorder import CLIENTS, record_clients, record_scenario
from scenario import FOLDER, Installation, Scenario, load_scenario
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
    record = commands.add_parser("record", help="run them and write what they said as captures for the tests")
    record.add_argument("names", nargs="*", metavar="name", help=f"a scenario, or {CLIENTS!r}; none: all that tests replay")
    arguments = parser.parse_args()
    try:
        if arguments.command == "list":
            return _list()
        names = getattr(arguments, "names", [])
        return _record_all(names) if arguments.command == "record" else _run_all(_scenarios(names))
    except Error as exc:
        Steps().failed(exc.message, exc.hint)
        return 1
    except KeyboardInterrupt:
        return 130


def _list() -> int:
    for path in sorted(FOLDER.glob("*.toml")):
        print(f"{path.stem:22} {load_scenario(path.stem).description}")
    return 0


def _scenarios(names: Sequence[str]) -> list[Scenario | Installation]:
    """Those named, or all of them."""
    return [load_scenario(name) for name in names or sorted(path.stem for path in FOLDER.glob("*.toml"))]


def _record_all(names: Sequence[str]) -> int:
    scenarios = _scenarios([name for name in names if name != CLIENTS]) if set(names) != {CLIENTS} else []
    nodes = [each for each in scenarios if isinstance(each, Scenario) and (names or each.recorded)]
    status = _run_all(nodes, record=True) if nodes else 0
    if status == 0 and (not names or CLIENTS in names):
        print(f"\n{CLIENTS}: DHCP clients of operating systems, each in a namespace")
        status = run_isolated(CLIENTS, record_clients, Steps())
    return status


def _run_all(scenarios: Sequence[Scenario | Installation], *, record: bool = False) -> int:
    failed = []
    took = []
    for scenario in scenarios:
        begin = time.monotonic()
        status = _run(scenario, record=record)
        took.append(f"{time.monotonic() - begin:7.1f} s  {scenario.name}")
        if status >= 128:
            return status
        if status != 0:
            failed.append(scenario.name)
    print("", *took, sep="\n")
    print(f"{len(scenarios) - len(failed)} passed, {len(failed)} failed {' '.join(failed)}".rstrip())
    return 1 if failed else 0


def _run(scenario: Scenario | Installation, *, record: bool) -> int:
    print(f"\n{scenario.name}: {scenario.description}")
    steps = Steps()
    if isinstance(scenario, Installation):
        with steps.step("Make the root file system of a head node"):
            root, kernel = scenario.prepare()
        return run_isolated(scenario.name, lambda lab: run_installation(lab, scenario, root, kernel), steps)
    with steps.step(f"Make the {scenario.image.value} root file system"):
        root, kernel = scenario.prepare()
    trial = record_scenario if record else run_scenario
    return run_isolated(scenario.name, lambda lab: trial(lab, scenario, root, kernel), steps)


if __name__ == "__main__":
    sys.exit(main())
