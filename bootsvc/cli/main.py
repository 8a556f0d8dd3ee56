"""`wwctl`: finds the noun's module, and is the one place where errors become sentences and exit codes."""

import contextlib
import errno
import io
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import click

from bootsvc.cli.command import HELP_OPTIONS, Invocation, global_options, no_such_command
from bootsvc.cli.loading import load
from bootsvc.cli.terminal import complain, say
from images.errors import Error


class Noun(NamedTuple):
    """Where a noun's command is: an attribute of a module that is imported when the noun is used.

    With `vocabulary` the attribute is a function of it that makes the command.
    """

    module: str
    attribute: str
    help: str
    vocabulary: str | None = None
    hidden: bool = False


NOUNS = {
    "container": Noun("bootsvc.cli.image.noun", "command", "Import containers, and change the images of them.", "container"),
    "image": Noun("bootsvc.cli.image.noun", "command", "The same as container, in Warewulf 4.7's words.", "image"),
    "vnfs": Noun("bootsvc.cli.image.noun", "command", "The same as image.", "image", hidden=True),
    "node": Noun("bootsvc.cli.records", "node", "Add, change, list and watch nodes."),
    "nodes": Noun("bootsvc.cli.records", "node", "The same as node.", hidden=True),
    "profile": Noun("bootsvc.cli.records", "profile", "Add, change and list profiles, which hold what nodes have in common."),
    "profiles": Noun("bootsvc.cli.records", "profile", "The same as profile.", hidden=True),
    "overlay": Noun("bootsvc.cli.overlay.noun", "overlay", "List, change and build what nodes get on top of their image."),
    "configure": Noun("bootsvc.cli.configure.noun", "configure", "Configure this server: hosts file, NFS, ssh keys, TLS."),
    "ssh": Noun("bootsvc.cli.ssh", "ssh", "Run a command on nodes."),
    "clean": Noun("bootsvc.cli.clean", "clean", "Remove downloads, and what was built for nodes that are gone."),
    "server": Noun("bootsvc.cli.server", "server", "Serve DHCP, TFTP, HTTP and DNS to the nodes."),
    "upgrade": Noun("bootsvc.cli.upgrade", "upgrade", "Bring configuration of older Warewulfs up to 4.7."),
    "completion": Noun("bootsvc.cli.completion", "completion", "Print the completion script of a shell."),
    "genconfig": Noun("bootsvc.cli.genconfig", "genconfig", "Print or write documents and configuration.", hidden=True),
    "cnf": Noun("bootsvc.cli.genconfig", "genconfig", "The same as genconfig.", hidden=True),
    "version": Noun("bootsvc.cli.version", "version", "Print the version."),
    "vers": Noun("bootsvc.cli.version", "version", "The same as version.", hidden=True),
}  # fmt: skip


class ReaderGone(Exception):
    """Who read standard output has closed it. No OSError: click would end the process with a status of its own."""


class Root(click.Group):
    """The nouns, each imported only when it is used, so that `wwctl --help` is quick."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with _noticing_readers():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _noticing_readers():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, noun in NOUNS.items() if not noun.hidden]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        noun = NOUNS.get(cmd_name)
        if noun is None:
            return None
        found = getattr(load(noun.module), noun.attribute)
        command: click.Command = found(noun.vocabulary) if noun.vocabulary else found
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in NOUNS:
            raise no_such_command(ctx, args[0], list(NOUNS))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, NOUNS[name].help) for name in self.list_commands(ctx)])


@contextlib.contextmanager
def _noticing_readers() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as exc:
        raise ReaderGone from exc


def command() -> click.Group:
    """The `wwctl` command."""
    root = Root(
        "wwctl",
        help="Import container images, and boot stateless nodes with them.",
        context_settings=HELP_OPTIONS,
        params=list(global_options(hidden=False)),
    )
    return click.version_option(package_name="bootsvc", message="wwctl (bootsvc) %(version)s")(root)


def main() -> int:
    """The command line of this process; returns the exit code."""
    _open_standard_streams()
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s: %(message)s")
    return run(sys.argv[1:])


def _open_standard_streams() -> None:
    """Whoever closed one of them gets /dev/null: else the next file that is opened, a lock say, would take its number.

    What is said on them can be said in any encoding.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        # A name that the terminal's encoding cannot say is no reason to stop.
        sys.stdout.reconfigure(errors="backslashreplace")


def run(args: Sequence[str]) -> int:
    """Run one command line. Exit codes: 0, 1 a user's error, 2 usage, 130 interrupt; a verb may return its own."""
    invocation = Invocation()
    try:
        result = command().main(args=list(args), prog_name="wwctl", standalone_mode=False, obj=invocation)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.NoArgsIsHelpError as exc:
        say(exc.ctx.get_help() if exc.ctx else exc.message)
        return 0
    except click.UsageError as exc:
        return _complain(*_usage(exc), code=2)
    except click.ClickException as exc:
        return _complain(exc.format_message(), None, code=1)
    except (click.Abort, KeyboardInterrupt):
        return _complain("interrupted", None, code=130)
    except (ReaderGone, BrokenPipeError):
        # The reader has gone; the interpreter would complain once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Error as exc:
        if invocation.debug:
            traceback.print_exc()
        return _complain(exc.message, exc.hint, code=exc.exit_status)
    except OSError as exc:
        if invocation.debug:
            traceback.print_exc()
        return _complain(*_refusal(exc), code=1)
    except Exception as exc:
        if invocation.debug:
            traceback.print_exc()
        hint = None if invocation.debug else "this is a bug in wwctl; --debug shows where"
        return _complain(f"internal error: {type(exc).__name__}: {exc}", hint, code=1)


def _refusal(error: OSError) -> tuple[str, str]:
    """What the operating system refuses is no bug, even where nobody foresaw it."""
    if error.errno == errno.ENOENT and error.filename is None:
        # So getcwd(2) fails, for all that take a relative path.
        return "the current folder does not exist any more", "go to another one with `cd`"
    if isinstance(error.filename, bytes):
        place = os.fsdecode(error.filename)
    else:
        place = str(error.filename) if error.filename is not None else "standard output, or a file"
    if isinstance(error, PermissionError) and os.geteuid() != 0:
        return f"only root can use {place}", "use sudo"
    return f"{place}: {error.strerror or error}", "look at it and its file system; --debug shows what wanted it"


def _usage(error: click.UsageError) -> tuple[str, str | None]:
    """One sentence and the closest thing that exists."""
    path = error.ctx.command_path if error.ctx else "wwctl"
    hint = getattr(error, "hint", None) or f"`{path} --help` shows how it is used"
    if isinstance(error, click.NoSuchOption):
        found = error.possibilities
        close = f"did you mean {found[0]}?" if found else hint
        return f"`{path}` has no flag {error.option_name}", close
    message, _, choice = error.format_message().rstrip(".").partition(". Recognized values: ")
    if choice:
        hint = "write true or false"
    message = message.replace("a valid integer range", "a whole number")
    return message[:1].lower() + message[1:], hint


def _complain(message: str, hint: str | None, *, code: int) -> int:
    complain(message, hint)
    return code
