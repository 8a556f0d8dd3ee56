"""What a person sees of a run: numbered steps, each with its time, and the output of what they ran, set in."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console as Screen
from rich.text import Text


class Steps:
    """Prints the steps of one run; colours only on a terminal."""

    def __init__(self) -> None:
        self._screen = Screen(highlight=False, soft_wrap=True)
        self._start = time.monotonic()
        self._times: list[tuple[str, float]] = []

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """One step: its title when it begins, its time when it ends."""
        number = len(self._times) + 1
        begin = time.monotonic()
        self._screen.print(Text.assemble((f"{number:2} ", "bold cyan"), (title, "bold")))
        try:
            yield
        except BaseException:
            self._screen.print(Text(f"   ✗ after {time.monotonic() - begin:.1f} s", style="red"))
            raise
        seconds = time.monotonic() - begin
        self._times.append((title, seconds))
        self._screen.print(Text(f"   ✓ {seconds:.1f} s", style="green"))

    def command(self, text: str) -> None:
        """Show a command as it was typed."""
        self._screen.print(Text.assemble("   ", ("$ " + text, "yellow")))

    def output(self, text: str) -> None:
        """Show what a command printed."""
        for line in text.rstrip().splitlines():
            self._screen.print(Text.assemble("   ", ("│ ", "dim"), line))

    def note(self, text: str) -> None:
        self._screen.print(Text(f"   {text}", style="dim"))

    def held(self, fact: str) -> None:
        """A fact that was just proved."""
        self._screen.print(Text.assemble("   ", ("✓ ", "green"), fact))

    def failed(self, message: str, hint: str | None) -> None:
        self._screen.print(Text(f"FAILED: {message}", style="bold red"))
        if hint:
            self.output(hint)

    def summary(self) -> None:
        """All steps with their times, and the whole."""
        self._screen.print()
        for title, seconds in self._times:
            self._screen.print(Text.assemble(f"   {seconds:6.1f} s  ", title))
        self._screen.print(Text(f"   {time.monotonic() - self._start:6.1f} s  in all", style="bold"))
