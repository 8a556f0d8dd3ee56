"""`wwctl server`: the appliance in the foreground."""

import asyncio
import logging

import click

from bootsvc.cli.command import Invocation, Verb, pass_invocation


@click.command(cls=Verb)
@pass_invocation
def server(invocation: Invocation) -> None:
    """Serve DHCP, TFTP and HTTP to the nodes until interrupted.

    Changes of nodes.conf and warewulf.conf take effect by themselves.
    """
    from bootsvc.app import serve

    root = logging.getLogger()
    for handler in root.handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    if root.level > logging.INFO:
        root.setLevel(logging.INFO)
    asyncio.run(serve(invocation.config()))
