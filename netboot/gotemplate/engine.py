"""`.ww`: the Go-template engine as one of the overlay engines (`netboot.engines`)."""

from netboot.engine import Template


class GoEngine:
    """Makes templates of text."""

    def parse(self, source: str) -> Template:
        """Raises TemplateError with the line."""
        # The engine is read where there is a template for it: half a second that other sites' commands do not pay.
        from netboot.gotemplate.rendering import parse

        return parse(source)
