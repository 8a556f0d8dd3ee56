"""The commands of `wwctl` as pages of a reference: what the parser knows, in one shape for manual pages and Markdown."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import click

from bootsvc.cli.command import Noun
from bootsvc.cli.main import NOUNS, command

EXIT_STATUS = (
    ("0", "Done; also: nothing to do, and no as the answer to a question."),
    ("1", "It failed; the message says why, and what was there before is there still."),
    ("2", "The command line cannot be: a command or flag that does not exist, or nothing named."),
    ("130", "Interrupted."),
)
EXIT_STATUS_OF_ANOTHER: Mapping[tuple[str, ...], str] = {
    ("ssh",): "Else the largest exit status of the command on any node; 255 is ssh's own.",
    **{(noun, verb): "Else that of the command which ran." for noun in ("container", "image") for verb in ("exec", "shell")},
}
"""Commands that end with a status which is not theirs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paragraph:
    """`verbatim` keeps its lines."""

    text: str
    verbatim: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One command; `path` are the words after `wwctl`, `options` and `commands` are pairs of name and explanation."""

    path: tuple[str, ...]
    usage: str
    paragraphs: Sequence[Paragraph]
    aliases: Sequence[str]
    options: Sequence[tuple[str, str]]
    commands: Sequence[tuple[str, str]]

    @property
    def name(self) -> str:
        """As a file is named after it."""
        return "-".join(("wwctl", *self.path))

    @property
    def title(self) -> str:
        return " ".join(("wwctl", *self.path))

    @property
    def summary(self) -> str:
        """Its first sentence, without the full stop."""
        text = self.paragraphs[0].text if self.paragraphs else ""
        return text.partition(". ")[0].removesuffix(".")

    @property
    def exit_status(self) -> Sequence[tuple[str, str]]:
        other = EXIT_STATUS_OF_ANOTHER.get(self.path)
        return (*EXIT_STATUS, ("other", other)) if other else EXIT_STATUS


def pages() -> list[Page]:
    """Every command that is not hidden: each noun, then its verbs."""
    root = command()
    return list(_walk(root, click.Context(root, info_name="wwctl", **root.context_settings), ()))


def _walk(found: click.Command, ctx: click.Context, path: tuple[str, ...]) -> Iterator[Page]:
    children = []
    if isinstance(found, click.Group):
        for name in found.list_commands(ctx):
            child = found.get_command(ctx, name)
            if child is not None and not child.hidden:
                children.append((name, child))
    made = [
        list(_walk(child, click.Context(child, parent=ctx, info_name=name, **child.context_settings), (*path, name)))
        for name, child in children
    ]
    records = (param.get_help_record(ctx) for param in found.get_params(ctx))
    yield Page(
        path=path,
        usage=" ".join((ctx.command_path, *found.collect_usage_pieces(ctx))),
        paragraphs=_paragraphs(found.help or ""),
        aliases=_aliases(ctx, path),
        options=[record for record in records if record is not None and record[1]],
        commands=[(pages[0].path[-1], pages[0].summary) for pages in made],
    )
    for pages_below in made:
        yield from pages_below


def _aliases(ctx: click.Context, path: tuple[str, ...]) -> list[str]:
    """Other names of the last word of the path."""
    if not path:
        return []
    if len(path) == 1:
        own = NOUNS[path[0]]
        same = [(own.module, own.attribute, own.vocabulary)]
        return [
            name
            for name, noun in NOUNS.items()
            if noun.hidden and (noun.module, noun.attribute, noun.vocabulary) in same and name != path[0]
        ]
    parent = ctx.parent.command if ctx.parent else None
    return [alias for alias, verb in parent.verbs_by_alias.items() if verb == path[-1]] if isinstance(parent, Noun) else []


def _paragraphs(text: str) -> list[Paragraph]:
    """As click reads a help text: a blank line ends a paragraph, and \\b keeps the lines of one."""
    lines = inspect.cleandoc(text).splitlines()
    found = []
    for blank, group in groupby(lines, key=lambda line: not line.strip()):
        if blank:
            continue
        block = list(group)
        verbatim = block[0].strip() == "\b"
        body = "\n".join(block[1:]) if verbatim else " ".join(line.strip() for line in block)
        found.append(Paragraph(text=body, verbatim=verbatim))
    return found
