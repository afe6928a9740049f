"""A progress bar that appears after two seconds, on standard error, and only in a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from diffuseq.cli.consoles import PlainConsole, redraws

PATIENCE_S = 2.0


@contextmanager
def counting(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Give a function that is told how many more are done."""
    console = PlainConsole(stderr=True)
    if not redraws(console):
        yield lambda more: None
        return
    progress = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    task = progress.add_task(what, total=total)
    began, shown = time.monotonic(), False

    def advance(more: int) -> None:
        nonlocal shown
        progress.advance(task, more)
        if not shown and time.monotonic() - began > PATIENCE_S:
            progress.start()
            shown = True

    try:
        yield advance
    finally:
        if shown:
            progress.stop()
