"""Every command that a hint, a message or a finding of the doctor names is one that wwctl has, with these verbs and flags."""

import ast
import itertools
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest

from bootsvc.cli.main import command as wwctl
from images.doctor.subject import Subject

ROOT = Path(__file__).parents[3]
PACKAGES = ("bootsvc", "images", "netboot")
SPOKEN = re.compile(r"(?<![\w./-])wwctl((?: +[\w<>./=:,\[\]{}|-]+)+)")
"""`wwctl` and the words after it, up to what no command line has."""
UNKNOWN = "<any>"
NOUNS = {"words.noun": ("image", "container"), "word": ("node", "profile"), "kind": ("node", "profile")}
"""What stands for a noun in a sentence that is put together."""
LEFT_OUT = frozenset(("wwctl power", "wwctl node console", "wwctl node sensors"))
"""Warewulf's, which are answered by a sentence that says so."""
PROSE = frozenset(("is", "or", "and", "as", "to", "itself", "has", "run", "does", "found", "needs"))
"""Words after `wwctl` that speak about it."""


def sentences() -> Iterator[tuple[str, str]]:
    """Where, and the text of every string that is not a docstring; `<any>` for what is put in when it is said."""
    for path in (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))):
        tree = ast.parse(path.read_text())
        silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        silent |= {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent:
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node.value
            elif isinstance(node, ast.JoinedStr):
                for text in spellings(node):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", text


def spellings(node: ast.JoinedStr) -> Iterator[str]:
    choices: list[tuple[str, ...]] = []
    for part in node.values:
        if isinstance(part, ast.Constant):
            choices.append((str(part.value),))
            continue
        assert isinstance(part, ast.FormattedValue)
        source = ast.unparse(part.value)
        if source.endswith(".command"):
            choices.append((str(Subject.__dataclass_fields__["command"].default),))
        else:
            choices.append(NOUNS.get(source.removesuffix(".word"), (UNKNOWN,)))
    yield from map("".join, itertools.product(*choices))


cached = cache(wwctl)


def complaint(words: list[str]) -> str | None:
    """What is wrong with this command line, as far as its words are known."""
    command: click.Command = cached()
    context = click.Context(command, info_name="wwctl")
    while isinstance(command, click.Group) and words:
        if words[0] == UNKNOWN or words[0].startswith("-"):
            return None
        found = command.get_command(context, words[0])
        if found is None:
            return f"{context.command_path} has no {words[0]!r}"
        command, context, words = found, click.Context(found, info_name=words[0], parent=context), words[1:]
    if "exec" in context.command_path:
        # What follows the image's name is a command of the image's.
        words = list(itertools.takewhile(lambda word: word.startswith("-"), words))
    known = {option for param in command.get_params(context) for option in (*param.opts, *param.secondary_opts)}
    wrong = [word for word in words if word.startswith("-") and word.partition("=")[0] not in known]
    return f"{context.command_path} has no {wrong[0]!r}" if wrong else None


def mistakes(text: str) -> list[str]:
    found = []
    for match in SPOKEN.finditer(text) if text not in LEFT_OUT else ():
        words = [word.strip(".,:|") for word in match[1].split()]
        if words[0] not in PROSE and (said := complaint([word for word in words if word])):
            found.append(f"{match[0]}: {said}")
    return found


def test_every_command_that_is_named_exists() -> None:
    said = list(sentences())
    assert sum(bool(SPOKEN.search(text)) for _, text in said) > 50, "the pattern finds nothing any more"
    assert [f"{where}: {wrong}" for where, text in said for wrong in mistakes(text)] == []


def typed() -> Iterator[tuple[str, str]]:
    """Where, and each command line in the documents: in backticks, or a line set apart."""
    for path in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "vm-lab/README.md",
        *sorted((ROOT / "docs").glob("*.md")),
    ):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            for text in (*re.findall(r"`([^`]+)`", line), *([line] if line.startswith(("    ", "# wwctl")) else ())):
                if "wwctl" in text and "wwctl NOUN VERB" not in text:
                    yield f"{path.relative_to(ROOT)}:{number}", text


def test_every_command_in_the_documents_exists() -> None:
    said = list(typed())
    assert len(said) > 100
    assert [f"{where}: {wrong}" for where, text in said for wrong in mistakes(text)] == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("`wwctl image chekc NAME` says more", "has no 'chekc'"),
        ("run wwctl imgae list", "has no 'imgae'"),
        ("wwctl image delete --yess n", "has no '--yess'"),
        ("wwctl image exec <any> rm --really", None),
        ("wwctl <any> list", None),
        ("wwctl node set <any> --image <any>", None),
        ("wwctl is meant", None),
    ],
)
def test_a_wrong_one_is_noticed(text: str, wrong: str | None) -> None:
    assert bool(mistakes(text)) == (wrong is not None)
    assert wrong is None or wrong in mistakes(text)[0]
