"""`wwctl version`."""

from importlib.metadata import version as installed

import click

from bootsvc.cli.command import Verb


def _version() -> None:
    """Print the version."""
    print(f"wwctl (bootsvc) {installed('bootsvc')}")


_full = click.Option(["-f", "--full"], is_flag=True, hidden=True, expose_value=False)
version = Verb("version", callback=_version, params=[_full], help=_version.__doc__)
