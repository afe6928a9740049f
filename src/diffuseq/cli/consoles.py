"""Where commands write: names and texts as they are, and what becomes of it when the reader of a pipe has left."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from diffuseq.cli import streams


class PlainConsole(Console):
    """Leaves `:100:` what it is; rich makes a picture of it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(emoji=False, **options)


class ViewConsole(PlainConsole):
    """For what is only shown, which ends with its reader."""

    def on_broken_pipe(self) -> None:
        """Raise the `BrokenPipeError` at hand, which is no error to `main`; rich would leave with 1."""
        raise


def redraws(console: Console) -> bool:
    """Whether it is a terminal that can show one thing over another. One that cannot (TERM=dumb, as Emacs' shell)
    gets what a pipe gets."""
    return console.is_terminal and not console.is_dumb_terminal


class ReportConsole(PlainConsole):
    """For what is told of work that leaves files: it goes on when nobody reads any more."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        streams.flush_or_drop()
