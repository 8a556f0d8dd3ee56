"""The bench: measures every subject, or one, and prints a table. Run it by path with the project's own Python, as root."""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

# The lab makes Debian roots; after our own folder, so that none of its modules hides one of ours.
sys.path.append(str(Path(__file__).resolve().parent.parent / "vm-lab"))

import dhcp
import dns
import full_build
import gotemplate_render
import import_registry
import is_current
import overlays
import provenance
import rebuild_one_file
import records
import reimport
import report
import serve_http
import serve_tftp
from context import Context
from figures import Report, Subject
from places import CACHE

from images.errors import Error
from images.locks import exclusive

SUBJECTS: Mapping[str, Callable[[Context], Subject]] = {
    "full_build": full_build.measure,
    "rebuild_one_file": rebuild_one_file.measure,
    "is_current": is_current.measure,
    "import_registry": import_registry.measure,
    "reimport": reimport.measure,
    "records": records.measure,
    "overlays": overlays.measure,
    "dhcp": dhcp.measure,
    "serve_http": serve_http.measure,
    "serve_tftp": serve_tftp.measure,
    "dns": dns.measure,
    "gotemplate_render": gotemplate_render.measure,
}
ROUNDS, WARMUPS = 5, 1


def main() -> int:
    arguments = _parse(sys.argv[1:])
    try:
        found = report.from_json(arguments.report.read_bytes()) if arguments.report else _measure(arguments)
    except Error as exc:
        print(f"bench: {exc.message}" + (f"\n({exc.hint})" if exc.hint else ""), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if arguments.json:
        arguments.json.write_bytes(report.to_json(found))
    print(report.markdown(found) if arguments.markdown else report.text(found), end="")
    return 0


def _parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run.py", description="Measure bootsvc against what it replaces, in turn.")
    parser.add_argument("--only", action="append", choices=list(SUBJECTS), metavar="SUBJECT", help=", ".join(SUBJECTS))
    parser.add_argument("--quick", action="store_true", help="one round without warm-up, and fewer files: an indication")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there, too")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    parser.add_argument("--report", type=Path, metavar="FILE", help="measure nothing: show what --json wrote")
    parser.add_argument("--folder", type=Path, default=CACHE / "bench" / "work", help="work here: another file system")
    return parser.parse_args(words)


def _measure(arguments: argparse.Namespace) -> Report:
    load = os.getloadavg()[0]
    if os.geteuid() != 0:
        raise Error("only root can make and unpack a root file system", hint="use sudo")
    folder: Path = arguments.folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(folder.with_name(f".{folder.name}.lock"), holder="bench"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            quick: bool = arguments.quick
            context = Context(folder=folder, quick=quick, rounds=1 if quick else ROUNDS, warmups=0 if quick else WARMUPS)
            return Report(
                date=time.strftime("%Y-%m-%d"),
                quick=quick,
                rounds=context.rounds,
                commit=provenance.commit(),
                machine=provenance.machine(folder),
                versions=provenance.versions(),
                load=load,
                cores=provenance.cores(),
                subjects=tuple(_subjects(context, arguments.only or list(SUBJECTS))),
            )
        finally:
            shutil.rmtree(folder)


def _subjects(context: Context, names: Sequence[str]) -> list[Subject]:
    found = []
    for name in names:
        context.subject = name
        try:
            found.append(SUBJECTS[name](context))
        except Error as exc:
            # The other subjects are measured all the same.
            found.append(Subject(name=name, comparisons=(), remarks=(f"NOT MEASURED: {exc.message}",)))
    return found


if __name__ == "__main__":
    sys.exit(main())
