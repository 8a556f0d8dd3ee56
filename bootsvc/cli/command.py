"""The shape of every `wwctl` command: nouns with verbs and their aliases, the global flags, and what a verb is given."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bootsvc.cli.terminal import warn

if TYPE_CHECKING:
    # Imported when a verb needs them: the YAML reader takes a third of the time of `wwctl --help`.
    from bootsvc.config import Config
    from bootsvc.store import Store

_LEFT_OUT = "bootsvc does not talk to BMCs; `ipmitool` does, and `wwctl node list -i` shows their addresses"
HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}
_PACKAGES = ("bootsvc", "netboot", "images")


@dataclass(slots=True)
class Invocation:
    """One call of `wwctl`: its global flags, and the configuration, loaded when a verb first asks for it."""

    warewulfconf: Path | None = None
    emptyconf: bool = False
    debug: bool = False
    _config: "Config | None" = field(default=None, repr=False)

    def config(self) -> "Config":
        """warewulf.conf of --warewulfconf, else of $WAREWULFCONF, else the usual one; its warnings are shown once.

        With --emptyconf all defaults, and no file.
        """
        from bootsvc.config import Config

        if self._config is None:
            self._config = Config() if self.emptyconf else Config.load(self.named_conf())
            for warning in self._config.warnings:
                warn(warning)
        return self._config

    def named_conf(self) -> Path | None:
        """The warewulf.conf that this call or its environment names."""
        named = self.warewulfconf or os.environ.get("WAREWULFCONF")
        return Path(named) if named else None

    def store(self) -> "Store":
        """nodes.conf, where the configuration says it is."""
        from bootsvc.store import Store

        paths = self.config().paths
        return Store(paths.nodes_conf, paths.nodes_cache)


class HintedUsageError(click.UsageError):
    """A command line that cannot be, and what was probably meant."""

    def __init__(self, message: str, hint: str | None, ctx: click.Context | None = None) -> None:
        super().__init__(message, ctx)
        self.hint = hint


class Noun(click.Group):
    """A group whose verbs have other names too; those work everywhere and are shown in each verb's help."""

    def __init__(self, *args: Any, aliases: Mapping[str, Sequence[str]] | None = None, **attrs: Any) -> None:
        attrs.setdefault("context_settings", HELP_OPTIONS)
        super().__init__(*args, **attrs)
        self.verbs_by_alias = {alias: verb for verb, names in (aliases or {}).items() for alias in names}
        self.params += global_options()

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, self.verbs_by_alias.get(cmd_name, cmd_name))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise no_such_command(ctx, args[0], [*self.list_commands(ctx), *self.verbs_by_alias])
        return super().resolve_command(ctx, args)


def no_such_command(ctx: click.Context, name: str, known: Sequence[str]) -> HintedUsageError:
    """The error for a word that is no command."""
    # Seldom, and so not loaded by every command.
    from difflib import get_close_matches

    found = get_close_matches(name, known, n=1)
    hint = f"did you mean `{ctx.command_path} {found[0]}`?" if found else f"`{ctx.command_path} --help` lists them"
    hint = _LEFT_OUT if f"{ctx.command_path} {name}" in ("wwctl power", "wwctl node console", "wwctl node sensors") else hint
    return HintedUsageError(f"`{ctx.command_path}` has no command {name!r}", hint, ctx)


_BOOLEANS = ("true", "false")


class Verb(click.Command):
    """A command that takes the global flags also after its own name, as Warewulf does.

    As there, a flag that may have a value (`--write=false`) stands for true alone, whatever word follows, unless that is true
    or false; and one that needs none may have such a value (`--force=true`).
    """

    words_before_command = 1
    """Where what follows flags and words is another command's (`allow_interspersed_args` is false): so many words come before
    it, of which the last may be its own."""

    def __init__(self, *args: Any, **attrs: Any) -> None:
        attrs.setdefault("context_settings", HELP_OPTIONS)
        super().__init__(*args, **attrs)
        taken = {name for param in self.params for name in param.opts}
        self.params += [option for option in global_options() if not taken & set(option.opts)]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, self.spelled_out(ctx, args))

    def spelled_out(self, ctx: click.Context, args: Sequence[str]) -> list[str]:
        """`--write` as `--write=true`, for the parser would take the next word for its value; `--force=true` as `--force`."""
        options = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        names = {name: option.type is click.BOOL for option in options if not option.is_flag for name in option.opts}
        values = {f"{name}={value}" for option in options if option.is_flag for name in option.opts for value in _BOOLEANS}
        end = None if ctx.allow_interspersed_args else self.words_before_command
        done: list[str] = []
        left, words = list(args), 0
        while left and left[0] != "--" and words != end:
            arg = left.pop(0)
            if arg in values:
                done += [arg.removesuffix("=true")] if arg.endswith("=true") else []
                continue
            is_boolean = names.get(arg)
            if is_boolean and (not left or left[0] not in _BOOLEANS):
                arg = f"{arg}=true"
            elif is_boolean is not None and left:
                done.append(arg)
                arg = left.pop(0)
            elif not arg.startswith("-"):
                words += 1
            done.append(arg)
        return done + left


Noun.command_class = Verb


def global_options(*, hidden: bool = True) -> list[click.Option]:
    """-v, -d and --warewulfconf; shown in the help of `wwctl` itself only."""
    return [
        click.Option(["-v", "--verbose"], is_flag=True, hidden=hidden, expose_value=False, callback=_verbose,
                     help="Say more about what is done."),
        click.Option(["-d", "--debug"], is_flag=True, hidden=hidden, expose_value=False, callback=_debug,
                     help="Say everything, with tracebacks."),
        click.Option(["--warewulfconf"], metavar="PATH", hidden=hidden, expose_value=False, callback=_warewulfconf,
                     help="Another warewulf.conf (also $WAREWULFCONF)."),
        click.Option(["--loglevel"], type=int, metavar="N", hidden=True, expose_value=False, callback=_loglevel,
                     help="As Warewulf counts: 10 debug, 15 verbose, 20 as usual."),
        click.Option(["--emptyconf"], is_flag=True, hidden=True, expose_value=False, callback=_emptyconf,
                     help="Do without a warewulf.conf."),
    ]  # fmt: skip


def _verbose(ctx: click.Context, _param: click.Parameter, given: bool) -> None:
    root = logging.getLogger()
    if given and root.level > logging.INFO:
        root.setLevel(logging.INFO)


def _debug(ctx: click.Context, _param: click.Parameter, given: bool) -> None:
    if given:
        # Ours alone: a netlink library writes down each message of the kernel, hundreds of lines every few seconds.
        _verbose(ctx, _param, given)
        for package in _PACKAGES:
            logging.getLogger(package).setLevel(logging.DEBUG)
        ctx.ensure_object(Invocation).debug = True


def _loglevel(ctx: click.Context, param: click.Parameter, level: int | None) -> None:
    if level is not None:
        _verbose(ctx, param, level <= 15)
        _debug(ctx, param, level <= 10)


def _emptyconf(ctx: click.Context, _param: click.Parameter, given: bool) -> None:
    if given:
        ctx.ensure_object(Invocation).emptyconf = True


def _warewulfconf(ctx: click.Context, _param: click.Parameter, path: str | None) -> None:
    if path:
        ctx.ensure_object(Invocation).warewulfconf = Path(path)


pass_invocation: Callable[..., Any] = click.make_pass_decorator(Invocation)
