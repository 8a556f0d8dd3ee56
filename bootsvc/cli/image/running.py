"""`wwctl container exec` and `shell`."""

import os
from collections.abc import Sequence

import click

from bootsvc.cli.command import HintedUsageError, Invocation, Noun, pass_invocation
from bootsvc.cli.image.building import run_build
from bootsvc.cli.image.site import catalog as open_catalog
from bootsvc.cli.image.site import need_root
from bootsvc.cli.image.vocabulary import Vocabulary
from bootsvc.cli.terminal import warn
from images.catalog import Catalog, check_name
from images.locks import exclusive
from images.sandbox.run import SandboxRequest, parse_bind, run_locked

SHELLS = ("bin/bash", "bin/sh")
bind_option = click.option(
    "-b", "--bind", "binds", multiple=True, metavar="SRC[:DST[:ro]]", help="Show a path of this host inside."
)
build_option = click.option(
    "--build", type=bool, is_flag=False, flag_value="true", default=True, help="Build it afterwards (--build=false: do not)."
)


def add_exec(group: Noun, words: Vocabulary) -> None:
    @group.command(
        "exec",
        help=f"Run COMMAND in {words.noun} NAME, and build it again if that changed anything.",
        context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    )
    @bind_option
    @build_option
    @click.argument("name")
    @click.argument("argv", nargs=-1, required=True, metavar="COMMAND [ARG]...")
    @pass_invocation
    def exec_(invocation: Invocation, binds: tuple[str, ...], build: bool, name: str, argv: tuple[str, ...]) -> int:
        argv = argv[1:] if argv[0] == "--" else argv
        if not argv:
            raise HintedUsageError("no command to run", f"wwctl {words.noun} exec {name} COMMAND [ARG]...")
        return _run_in_image(open_catalog(invocation.config()), words, name, argv, binds, build=build)


def add_shell(group: Noun, words: Vocabulary) -> None:
    @group.command("shell", help=f"Open a shell in {words.noun} NAME, and build it again if that changed anything.")
    @bind_option
    @build_option
    @click.argument("name")
    @pass_invocation
    def shell(invocation: Invocation, binds: tuple[str, ...], build: bool, name: str) -> int:
        catalog = open_catalog(invocation.config())
        rootfs = catalog.get(name)
        wanted = [os.environ.get("SHELL", "").lstrip("/"), *SHELLS]
        found = next((path for path in wanted if path and os.path.lexists(rootfs / path)), SHELLS[-1])
        if build:
            print(f"The {words.noun} is not built again if the shell ends with a non-zero exit status.", flush=True)
        return _run_in_image(catalog, words, name, ("/" + found,), binds, build=build)


def _run_in_image(
    catalog: Catalog, words: Vocabulary, name: str, argv: tuple[str, ...], binds: Sequence[str], *, build: bool
) -> int:
    """Run, then build unless the command failed: what failed halfway must not reach a node."""
    check_name(name)
    request = SandboxRequest(
        rootfs=catalog.get(name),
        argv=argv,
        name=name,
        lock=catalog.lock_path(name),
        binds=tuple(parse_bind(bind) for bind in binds),
        environment=os.environ,
    )
    need_root(f"run a command in {words.noun} {name!r}")
    with exclusive(request.lock, holder=f"exec {name}") as lock:
        status = run_locked(request, lock)
        if status != 0:
            if build:
                warn(f"the command ended with status {status}; {name} is not built", f"wwctl {words.noun} build {name}")
            return status
        if build:
            print(words.rebuilding.format(name=name), flush=True)
            if run_build(catalog, name).unchanged:
                print(words.current, flush=True)
    return 0
