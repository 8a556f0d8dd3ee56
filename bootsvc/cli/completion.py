"""Shell completion: `wwctl completion SHELL` prints the script, and here are the live names that it offers."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
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
    return _completer_in_context(lambda _, invocation: find(invocation))


def _completer_in_context(find: Callable[[click.Context, Invocation], Iterable[str]]) -> Complete:
    """As `_completer`; `find` may look at what else stands on the command line."""

    def complete(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        before, comma, last = incomplete.rpartition(",")
        try:
            found = sorted(set(find(ctx, ctx.find_object(Invocation) or Invocation())))
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


def _kernel_versions(ctx: click.Context, invocation: Invocation) -> Iterable[str]:
    """Of the image that is named beside it, else of the images of the nodes or profiles that are, else of all images."""
    from bootsvc.cli.image.kernels import kernels_of
    from bootsvc.cli.names import image_names
    from images.catalog import Catalog, ImageNotFound

    config = invocation.config()
    chosen = {ctx.params.get("image") or ""} | _images_of(ctx, invocation)
    # Nothing is cleared away between a person's keystrokes.
    catalog = Catalog(chroots=config.paths.chroots, provision=config.paths.provision)
    for name in (chosen - {""}) or image_names(config):
        with suppress(ImageNotFound):
            yield from (kernel.version for kernel in kernels_of(catalog, name))


def _images_of(ctx: click.Context, invocation: Invocation) -> set[str]:
    """The images of the nodes or profiles that the command line names."""
    from bootsvc.cli.image.site import registry
    from bootsvc.hostlist import expand

    # An option that still lacks its value ends the parsing before names become a parameter.
    said = {name for text in (*(ctx.params.get("names") or ()), *ctx.args) for name in expand(text)}
    if not said:
        return set()
    profiles = invocation.store().load().profiles
    found = {str(profiles[name].get("image name") or "") for name in said & set(profiles)}
    return found | {node.image_name for node in registry(invocation.config()).nodes if node.id in said}


nodes, profiles, images, overlays = map(_completer, (_nodes, _profiles, _images, _overlays))
kernel_versions = _completer_in_context(_kernel_versions)

_BY_FLAG = {
    "profile": profiles,
    "image": images,
    "runtime-overlays": overlays,
    "system-overlays": overlays,
    "kernelversion": kernel_versions,
}


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
