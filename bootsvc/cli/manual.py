"""Pages → manual pages in man(7), section 1; without a date, so that the same commands give the same bytes."""

import re
from collections.abc import Iterator, Sequence

from bootsvc.cli.pages import Page, Paragraph

FILES = (
    ("/etc/warewulf/warewulf.conf", "The configuration of the server; also $WAREWULFCONF and --warewulfconf."),
    ("/etc/warewulf/nodes.conf", "Nodes and profiles."),
)


def manual(pages: Sequence[Page], version: str) -> dict[str, str]:
    """The files by their names."""
    return {f"{page.name}.1": "\n".join(_lines(page, pages, version)) + "\n" for page in pages}


def _lines(page: Page, pages: Sequence[Page], version: str) -> Iterator[str]:
    yield f'.TH "{_escape(page.name.upper())}" 1 "" "bootsvc {_escape(version)}" "wwctl"'
    yield ".SH NAME"
    yield f"{_escape(page.name)} \\- {_escape(page.summary)}"
    yield ".SH SYNOPSIS"
    yield f".B {_escape(page.usage)}"
    yield ".SH DESCRIPTION"
    for paragraph in page.paragraphs:
        yield from _paragraph(paragraph)
    if page.aliases:
        yield from (".PP", _line(f"Other names: {', '.join(page.aliases)}."))
    yield from _list("COMMANDS", page.commands)
    yield from _list("OPTIONS", page.options)
    yield from _list("EXIT STATUS", page.exit_status)
    yield from _list("FILES", FILES if not page.path else ())
    related = [other.name for other in pages if other.path and other.path[:-1] in (page.path, page.path[:-1]) and other != page]
    parents = [_name(page.path[:count]) for count in range(len(page.path))]
    yield from (".SH SEE ALSO", _line(", ".join(f"{name}(1)" for name in dict.fromkeys([*parents, *related]))))


def _name(path: tuple[str, ...]) -> str:
    return "-".join(("wwctl", *path))


def _paragraph(paragraph: Paragraph) -> Iterator[str]:
    if paragraph.verbatim:
        yield from (".PP", ".nf", *map(_line, paragraph.text.splitlines()), ".fi")
    else:
        yield from (".PP", _line(paragraph.text))


def _list(title: str, rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    if rows:
        yield f".SH {title}"
        for name, text in rows:
            yield from (".TP", f".B {_escape(name)}", _line(" ".join(text.split())))


def _line(text: str) -> str:
    """A line of text: what would be a request at its start is none."""
    escaped = _escape(text)
    return f"\\&{escaped}" if escaped[:1] in (".", "'") else escaped


def _escape(text: str) -> str:
    return re.sub(r'[\\\-"]', lambda found: {"\\": "\\e", "-": "\\-", '"': "\\(dq"}[found[0]], text)
