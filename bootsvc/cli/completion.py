"""Shell completion: `wwctl completion SHELL` prints the script, and here are the live names that it offers."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

from bootsvc.cli.command import HintedUsageError, Invocation, Verb
from images.errors import Error

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_WWCTL_COMPLETE"


def _completer(find: Callable[[Invocation], Iterable[str]]) -> Complete:
    """Offers what `find` finds; after a comma, the rest of the list."""

    def complete(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        before, comma, last = incomplete.rpartition(",")
        try:
            found = sorted(find(ctx.find_object(Invocation) or Invocation()))
        except Error:
            # A broken file is no reason to write between a person's keystrokes.
            return []
        return [CompletionItem(before + comma + name) for name in found if name.startswith(last)]

    return complete


def _folders(path: Path) -> Iterable[str]:
    try:
        return [entry.name for entry in path.iterdir() if entry.is_dir()]
    except OSError:
        return []


def _overlays(invocation: Invocation) -> Iterable[str]:
    from bootsvc.cli.names import overlay_names

    return overlay_names(invocation.config())


def _images(invocation: Invocation) -> Iterable[str]:
    from bootsvc.cli.names import image_names

    return image_names(invocation.config())


def _nodes(invocation: Invocation) -> Iterable[str]:
    return invocation.store().load().nodes


def _profiles(invocation: Invocation) -> Iterable[str]:
    return invocation.store().load().profiles


nodes, profiles, images, overlays = map(_completer, (_nodes, _profiles, _images, _overlays))

_BY_FLAG = {"profile": profiles, "image": images, "runtime-overlays": overlays, "system-overlays": overlays}


def of_field(flag: str) -> Complete | None:
    """The completer of a value flag, or None when its value is free."""
    return _BY_FLAG.get(flag)


def _script(shell: str) -> None:
    """Print the script that teaches a shell to complete wwctl's commands and names.

    \b
    bash  wwctl completion bash > /etc/bash_completion.d/wwctl
    zsh   wwctl completion zsh > /usr/local/share/zsh/site-functions/_wwctl
    fish  wwctl completion fish > /etc/fish/completions/wwctl.fish
    """
    ctx = click.get_current_context()
    if shell not in SHELLS:
        raise HintedUsageError(f"no completion for the shell {shell!r}", f"there is one for {', '.join(SHELLS)}", ctx)
    print(script(shell, ctx.find_root().command), end="")


def script(shell: str, root: click.Command) -> str:
    """What teaches the shell, one of SHELLS, to complete the command `root`."""
    kind = get_completion_class(shell)
    assert kind is not None
    # Not `source()`: that first runs the shell to ask its version.
    instance = kind(root, {}, "wwctl", VARIABLE)
    return instance.source_template % instance.source_vars() + "\n"


def _shells(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> Sequence[CompletionItem]:
    return [CompletionItem(shell) for shell in SHELLS if shell.startswith(incomplete)]


completion = Verb(
    "completion",
    callback=_script,
    params=[click.Argument(["shell"], metavar="SHELL", shell_complete=lambda *given: list(_shells(*given)))],
    help=_script.__doc__,
)
