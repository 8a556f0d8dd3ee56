"""Pages → the Markdown files of `docs/reference`: one a noun, with its verbs, and one of all."""

from collections.abc import Iterator, Sequence

from bootsvc.cli.pages import EXIT_STATUS, Page, Paragraph

NOTE = "<!-- Made by `wwctl genconfig reference docs/reference`: change the command, not this file. -->"


def reference(pages: Sequence[Page]) -> dict[str, str]:
    """The files by their names."""
    root, *rest = pages
    files = {"README.md": _text(_overview(root))}
    for noun in (page for page in rest if len(page.path) == 1):
        verbs = [page for page in rest if page.path[:1] == noun.path and len(page.path) > 1]
        files[f"{noun.name}.md"] = _text(_noun(noun, verbs))
    return files


def _text(lines: Iterator[str]) -> str:
    return "\n".join(lines).strip("\n") + "\n"


def _overview(root: Page) -> Iterator[str]:
    yield from (NOTE, "", "# wwctl", "")
    yield from _body(root, level=2)
    yield from ("## Commands", "", "| command | what it does |", "| --- | --- |")
    for name, summary in root.commands:
        yield f"| [`wwctl {name}`](wwctl-{name}.md) | {_cell(summary)} |"
    yield from ("", "## Exit status", "")
    yield from _table(("status", "means"), EXIT_STATUS)


def _noun(noun: Page, verbs: Sequence[Page]) -> Iterator[str]:
    yield from (NOTE, "", f"# {noun.title}", "")
    yield from _body(noun, level=2)
    if verbs:
        yield from ("## Commands", "", "| command | what it does |", "| --- | --- |")
        for verb in verbs:
            yield f"| [`{verb.title}`](#{verb.name}) | {_cell(verb.summary)} |"
        yield ""
    for verb in verbs:
        yield from (f"## {verb.title}", f'<a id="{verb.name}"></a>', "")
        yield from _body(verb, level=3)


def _body(page: Page, *, level: int) -> Iterator[str]:
    yield from (f"    {page.usage}", "")
    for paragraph in page.paragraphs:
        yield from (*_paragraph(paragraph), "")
    if page.aliases:
        yield from (f"Other names: {', '.join(f'`{alias}`' for alias in page.aliases)}.", "")
    if page.options:
        yield from ("## Options", "") if level == 2 else ()
        yield from _table(("option", "what it does"), [(f"`{name}`", text) for name, text in page.options])
        yield ""
    if len(page.exit_status) > len(EXIT_STATUS):
        yield from (f"Exit status: {page.exit_status[-1][1][:1].lower()}{page.exit_status[-1][1][1:]}", "")


def _paragraph(paragraph: Paragraph) -> Iterator[str]:
    if paragraph.verbatim:
        yield from (f"    {line}" for line in paragraph.text.splitlines())
    else:
        yield paragraph.text.replace("<", "&lt;")


def _table(header: tuple[str, str], rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield "| --- | --- |"
    for name, text in rows:
        yield f"| {name.replace('|', chr(92) + '|')} | {_cell(text)} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
