"""How tables of images are shown: columns for people, `--json` and `--yaml` for programs; sizes and times in words."""

import contextlib
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

import click
import msgspec

F = TypeVar("F", bound=Callable[..., object])


def format_options(command: F) -> F:
    """`--json` and `--yaml`; the verb gets `form` as None, `json` or `yaml`."""
    for name, short in (("yaml", "-y"), ("json", "-j")):
        command = click.option(short, f"--{name}", "form", flag_value=name, default=None, help=f"As {name.upper()}.")(command)
    return command


def dump(rows: Sequence[msgspec.Struct] | msgspec.Struct, form: str) -> str:
    """The rows as JSON or YAML, ended by a newline; times in UTC, sizes in bytes."""
    plain = msgspec.to_builtins(rows)
    if form == "json":
        import json

        return json.dumps(plain, indent=2, ensure_ascii=False) + "\n"
    import yaml

    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def aside(form: str | None) -> contextlib.AbstractContextManager[object]:
    """While it lasts, and standard output is a program's, what a verb says to people goes to standard error."""
    return contextlib.redirect_stdout(sys.stderr) if form else contextlib.nullcontext()


def size_text(size: int) -> str:
    """Bytes in powers of 1024, as Warewulf: `512 B`, `1.4 GiB`."""
    if size < 1024:
        return f"{size} B"
    value, unit = float(size), ""
    for unit in "KMGTPE":
        value /= 1024
        if value < 1024 or unit == "E":
            break
    return f"{value:.1f} {unit}iB"


def rfc822(moment: datetime) -> str:
    """A time in this machine's zone, as Warewulf prints it: `02 Jan 06 15:04 MST`."""
    return moment.astimezone().strftime("%d %b %y %H:%M %Z")
