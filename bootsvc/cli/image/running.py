"""`wwctl container exec` and `shell`."""

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import click

from bootsvc.cli import completion
from bootsvc.cli.command import HintedUsageError, Invocation, Noun, Verb, pass_invocation
from bootsvc.cli.image.building import run_build
from bootsvc.cli.image.site import catalog as open_catalog
from bootsvc.cli.image.site import need_root
from bootsvc.cli.image.users import complete_sync, sync_users, syncuser_option
from bootsvc.cli.image.vocabulary import Vocabulary
from bootsvc.cli.terminal import say, warn
from bootsvc.config import Config
from images.catalog import Catalog
from images.errors import Error
from images.locks import Lock
from images.sandbox.bind import Bind, BindMode, parse_bind
from images.sandbox.operations import TopEntry
from images.sandbox.run import SandboxRequest, run_locked
from images.sandbox.view import SandboxView

SHELLS = ("/bin/bash", "/bin/sh")
EXIT_SCRIPTS = ("/etc/warewulf/image_exit.sh", "/etc/warewulf/container_exit.sh")
"""The first of them that an image has is run in it after a command that succeeded."""
PROMPT = r"\w\$ "
RESOLVER = (Path("/etc/resolv.conf"), PurePosixPath("/etc/resolv.conf"))
"""Every sandbox has it, and read-only; Warewulf's own warewulf.conf lists it as writable."""


class ExitScriptFailed(Error):
    def __init__(self, words: Vocabulary, name: str, script: str, status: int) -> None:
        super().__init__(
            f"{script} of {name!r} ended with status {status}, so {name} is not built",
            hint=f"correct the script, then run `wwctl {words.noun} build {name}`",
        )


class CommandVerb(Verb):
    """NAME and a command with flags of its own; our flags stand before NAME, or between it and the command."""

    words_before_command = 2

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        args = self.spelled_out(ctx, args)
        left = self._after_flags(ctx, args)
        name, rest = left[:1], left[1:]
        if rest and rest[0].startswith("-") and rest[0] != "--":
            command = self._after_flags(ctx, rest)
            flags = rest[: len(rest) - len(command)]
            args = [*args[: len(args) - len(left)], *flags, *name, *command]
        return super().parse_args(ctx, args)

    def _after_flags(self, ctx: click.Context, args: list[str]) -> list[str]:
        flags = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        return click.Command(self.name, params=list(flags), add_help_option=False).make_parser(ctx).parse_args(list(args))[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The flags that exec and shell have in common."""

    binds: tuple[str, ...]
    node: str | None
    build: bool
    syncuser: bool


def running_options(function: Callable[..., Any]) -> Callable[..., Any]:
    options = (
        click.option(
            "-b", "--bind", "binds", multiple=True, metavar="SRC[:DST[:ro|copy]]",
            help="Show a path of this host inside; `copy`: give the image a file of its own, which stays if it is changed.",
        ),
        click.option(
            "-n",
            "--node",
            metavar="NODE",
            shell_complete=completion.nodes,
            help="Show what that node would see, its overlays on top; changes are thrown away."
        ),
        click.option(
            "--build", type=bool, is_flag=False, flag_value="true", default=True,
            help="Build it afterwards (--build=false: do not).",
        ),
        syncuser_option,
    )  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


def add_exec(group: Noun, words: Vocabulary) -> None:
    @group.command(
        "exec",
        cls=CommandVerb,
        help=f"Run COMMAND in {words.noun} NAME, and build it again if that changed anything.",
        context_settings={"allow_interspersed_args": False},
    )
    @running_options
    @click.argument("name", shell_complete=completion.images)
    @click.argument("argv", nargs=-1, required=True, metavar="COMMAND [ARG]...")
    @pass_invocation
    def exec_(invocation: Invocation, name: str, argv: tuple[str, ...], **options: Any) -> int:
        argv = argv[1:] if argv[0] == "--" else argv
        if not argv:
            raise HintedUsageError("no command to run", f"wwctl {words.noun} exec {name} COMMAND [ARG]...")
        return _run_in_image(invocation.config(), words, name, argv, Options(**options))


def add_shell(group: Noun, words: Vocabulary) -> None:
    @group.command("shell", help=f"Open a shell in {words.noun} NAME, and build it again if that changed anything.")
    @running_options
    @click.argument("name", shell_complete=completion.images)
    @pass_invocation
    def shell(invocation: Invocation, name: str, **options: Any) -> int:
        config, chosen = invocation.config(), Options(**options)
        view = SandboxView(open_catalog(config).get(name))
        need_root(f"run a command in {words.noun} {name!r}")
        wanted = [path for path in (os.environ.get("SHELL", ""), *SHELLS) if path.startswith("/")]
        found = next((path for path in wanted if _is_file(view, path)), SHELLS[-1])
        if chosen.node is not None:
            say(f"This is what node {chosen.node} sees; changes are thrown away.")
        elif chosen.build:
            say(f"The {words.noun} is not built again if the shell ends with a non-zero exit status.")
        return _run_in_image(config, words, name, (found,), chosen)


def _run_in_image(config: Config, words: Vocabulary, name: str, argv: tuple[str, ...], options: Options) -> int:
    """Run, then build unless the command failed: what failed halfway must not reach a node."""
    catalog = open_catalog(config)
    rootfs = catalog.get(name)
    binds = _binds(config, options.binds, SandboxView(rootfs))
    need_root(f"run a command in {words.noun} {name!r}")
    readonly = catalog.is_read_only(name)
    request = SandboxRequest(
        rootfs=rootfs,
        argv=argv,
        name=name,
        lock=catalog.lock_path(name),
        binds=binds,
        environment=os.environ,
        readonly=readonly,
        prompt=words.prompt.format(name=name, mark="(ro)" if readonly else "", rest=os.environ.get("WW_PS1") or PROMPT),
    )
    build = options.build and options.node is None
    with catalog.locked(name, holder=f"exec {name}") as lock:
        complete_sync(catalog, name)
        if options.node is not None:
            request = replace(request, on_top=_node_view(config, options.node, name, rootfs))
        status = run_locked(request, lock)
        if status != 0:
            if build:
                warn(f"the command ended with status {status}; {name} is not built", f"wwctl {words.noun} build {name}")
            return status
        if request.on_top is None and not readonly:
            _run_exit_script(request, lock, words)
            if options.syncuser:
                sync_users(catalog, words, name, config.paths.sysconfdir)
        if build:
            _build(catalog, words, name)
    return 0


def _build(catalog: Catalog, words: Vocabulary, name: str) -> None:
    say(words.rebuilding.format(name=name))
    if run_build(catalog, words, name).unchanged:
        say(words.current)


def _binds(config: Config, given: Sequence[str], view: SandboxView) -> tuple[Bind, ...]:
    """Those of the command line, then warewulf.conf's, of which one whose source is missing must not stop every exec."""
    binds = [parse_bind(bind) for bind in given]
    for bind in binds:
        if bind.mode is BindMode.COPY and _is_file(view, str(bind.target)):
            warn(f"{bind.target} is not copied, for the image has a file of that name", "remove it from the image first")
    taken = {bind.target for bind in binds}
    for mount in config.image_mounts:
        if mount.dest in taken or (mount.source, mount.dest) == RESOLVER:
            continue
        if not mount.source.exists():
            warn(f"{mount.source} of `image mounts` does not exist", f"correct {config.source}")
            continue
        mode = BindMode.COPY if mount.copy else BindMode.RO if mount.readonly else BindMode.RW
        binds.append(Bind(source=mount.source, target=mount.dest, mode=mode))
    return tuple(binds)


def _node_view(config: Config, node: str, name: str, rootfs: Path) -> tuple[TopEntry, ...]:
    # The node's overlays need the template engine and the network's tools, which no other run waits for.
    from bootsvc.nodeview import node_view

    found, entries = node_view(config, node, rootfs, lambda missing: warn(missing.message, missing.hint))
    if found.image_name != name:
        warn(f"node {node} boots {found.image_name or 'no image'}, not {name}")
    return entries


def _run_exit_script(request: SandboxRequest, lock: Lock, words: Vocabulary) -> None:
    view = SandboxView(request.rootfs)
    script = next((path for path in EXIT_SCRIPTS if _is_file(view, path)), None)
    if script is None:
        return
    status = run_locked(replace(request, argv=("/bin/sh", script)), lock)
    if status != 0:
        raise ExitScriptFailed(words, request.name, script, status)


def _is_file(view: SandboxView, path: str) -> bool:
    """Whether the path leads to something in the image that is no directory."""
    with contextlib.suppress(Error):
        found = view.locate(PurePosixPath(path))
        return found.exists and not found.is_directory
    return False
