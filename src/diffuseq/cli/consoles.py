"""Where commands write: what becomes of them when the reader of a pipe has left."""

from __future__ import annotations

from rich.console import Console

from diffuseq.cli import streams


class ViewConsole(Console):
    """For what is only shown, which ends with its reader."""

    def on_broken_pipe(self) -> None:
        """Raise the `BrokenPipeError` at hand, which is no error to `main`; rich would leave with 1."""
        raise


class ReportConsole(Console):
    """For what is told of work that leaves files: it goes on when nobody reads any more."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        streams.flush_or_drop()
