"""`diffuseq replay FILE`: step through a trace with the arrow keys."""

from __future__ import annotations

import dataclasses
import os
import select
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from diffuseq.cli.consoles import ViewConsole, can_redraw
from diffuseq.cli.view import choice_view, view
from diffuseq.cli.watch import show_choice, show_frames
from diffuseq.trace import Trace, read_traces

KEYS = "← → step   Home End   ↑ ↓ other source   q quit"


@dataclasses.dataclass(frozen=True)
class Replay:
    """Step through what `diffuseq generate --trace FILE` wrote; a plain listing when piped."""

    file: Annotated[Path, tyro.conf.Positional]
    """The trace."""


def main(argv: Sequence[str]) -> int:
    options = tyro.cli(Replay, args=list(argv), prog="diffuseq replay")
    traces = read_traces(options.file)
    console = ViewConsole()
    if can_redraw(console) and sys.stdin.isatty():
        with _raw_keys() as next_key:
            step_through(console, traces, next_key)
        return 0
    for trace in traces:
        show_frames(console, trace.source, trace.frames)
        if trace.choice is not None:
            show_choice(console, trace.choice)
    return 0


@dataclasses.dataclass(frozen=True)
class Position:
    """Where one is: the source and the frame, both from 0."""

    source: int = 0
    frame: int = 0

    def after(self, key: str, sizes: Sequence[int]) -> Position:
        """Where a key leads, within sources of `sizes` frames."""
        last = sizes[self.source] - 1
        frame = {"left": self.frame - 1, "right": self.frame + 1, "home": 0, "end": last}.get(key, self.frame)
        source = {"up": self.source - 1, "down": self.source + 1}.get(key, self.source)
        source = min(max(0, source), len(sizes) - 1)
        if source != self.source:
            return Position(source, 0)
        return Position(source, min(max(0, frame), last))


def step_through(console: Console, traces: Sequence[Trace], next_key: Callable[[], str]) -> None:
    """Show the frame that the keys lead to, until "quit"."""
    traces = [trace for trace in traces if trace.frames]
    sizes = [len(trace.frames) for trace in traces]
    position = Position()
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            live.update(_screen(console, traces[position.source], position.frame), refresh=True)
            key = next_key()
            if key == "quit":
                break
            position = position.after(key, sizes)


def _screen(console: Console, trace: Trace, frame: int) -> RenderableType:
    """The keys, a frame, and with the last one the choice, in brief where the terminal is too low for all of it."""
    width, keys = console.width, Text(KEYS, style="bright_black")
    shown = view(trace.source, trace.frames[frame], width, console.height - 1)
    if frame + 1 < len(trace.frames) or trace.choice is None:
        return Group(keys, shown)
    whole = Group(keys, shown, choice_view(trace.choice, width))
    if len(console.render_lines(whole, pad=False)) <= console.height:
        return whole
    return Group(
        keys, view(trace.source, trace.frames[frame], width, 0), choice_view(trace.choice, width, brief=True)
    )


_SEQUENCES = {
    b"\x1b[D": "left", b"\x1bOD": "left", b"h": "left",
    b"\x1b[C": "right", b"\x1bOC": "right", b"l": "right", b" ": "right",
    b"\x1b[A": "up", b"\x1bOA": "up", b"k": "up",
    b"\x1b[B": "down", b"\x1bOB": "down", b"j": "down",
    b"\x1b[H": "home", b"\x1bOH": "home", b"\x1b[1~": "home", b"g": "home",
    b"\x1b[F": "end", b"\x1bOF": "end", b"\x1b[4~": "end", b"G": "end",
    b"q": "quit", b"\x1b": "quit", b"\x04": "quit", b"": "quit",
}  # fmt: skip


def key_of(sequence: bytes) -> str:
    """The name of a key by the bytes that a terminal sends for it; "" for one without a meaning here."""
    return _SEQUENCES.get(sequence, "")


@contextmanager
def _raw_keys() -> Iterator[Callable[[], str]]:
    """Give a function that waits for a key; the terminal is as before afterwards."""
    import termios
    import tty

    stream = sys.stdin.fileno()
    before = termios.tcgetattr(stream)

    def next_key() -> str:
        sequence = os.read(stream, 1)
        while sequence.startswith(b"\x1b") and select.select([stream], [], [], 0.05)[0]:
            sequence += os.read(stream, 1)
            if len(sequence) > 2 and (sequence[-1:].isalpha() or sequence.endswith(b"~")):
                break
        return key_of(sequence)

    try:
        tty.setcbreak(stream)
        yield next_key
    finally:
        termios.tcsetattr(stream, termios.TCSADRAIN, before)
