"""The engines by suffix, and a template's way through one of them."""

from collections.abc import Mapping
from functools import lru_cache

from netboot.engine import Engine, HeadFiles, RenderContext, Rendering, Template
from netboot.errors import OverlayError, TemplateError
from netboot.gotemplate.engine import GoEngine
from netboot.reads import Trace
from netboot.template import Jinja

ENGINES: Mapping[str, Engine] = {".j2": Jinja(), ".ww": GoEngine()}
"""`NAME` and one of these suffixes is a template that becomes `NAME`."""

MAX_PARSED = 1024
"""Parsed templates kept; all overlays of a site together have fewer."""


def suffix_of(path: str) -> str | None:
    """The suffix that makes a file a template, None for a plain file."""
    return next((suffix for suffix in ENGINES if path.endswith(suffix)), None)


@lru_cache(maxsize=MAX_PARSED)
def parse(suffix: str, source: bytes) -> Template:
    """The template, parsed once for each content. Raises TemplateError."""
    try:
        text = source.decode()
    except UnicodeDecodeError as exc:
        line = source.count(b"\n", 0, exc.start) + 1
        raise TemplateError("the template is not UTF-8", line=line) from exc
    return ENGINES[suffix].parse(text)


def render(source: bytes, context: RenderContext, trace: Trace, files: HeadFiles, *, path: str) -> Rendering:
    """What the template at `path` (with its suffix) makes for the context's node.

    Raises OverlayError that names overlay, file, line and node.
    """
    suffix = suffix_of(path) or ""
    try:
        return parse(suffix, source).render(context, path.removesuffix(suffix), trace, files)
    except TemplateError as exc:
        raise OverlayError(
            f"overlay {context.overlay}, {path}:{exc.line or '?'}: {exc.reason} (node {context.node.id})",
            hint=exc.hint or "mend the template",
        ) from exc
