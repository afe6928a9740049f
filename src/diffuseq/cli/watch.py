"""Watch a text form out of noise: live in a terminal, line by line in a pipe."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from diffuseq.cli.consoles import ViewConsole, redraws
from diffuseq.cli.view import choice_view, plain_choice, plain_frame, view, visible
from diffuseq.trace import Choice, Frame, Recording, append_trace

if TYPE_CHECKING:
    from diffuseq.answers import Answer
    from diffuseq.pipeline import DiffuSeqPipeline

SHORTEST_FRAME_S = 0.12
"""A frame stays at least so long in a terminal, so that fast models can be seen at work."""


def watch(
    pipe: DiffuSeqPipeline,
    source: str,
    settings: Any,
    trace: Path | None = None,
    console: Console | None = None,
    pause_s: float | None = None,
    template: str | None = None,
) -> Answer:
    """Show one source being answered, and give the answer.

    trace: a jsonl file that the frames are added to. console: where to draw, standard output by default:
    live in a terminal, a line a step elsewhere. pause_s: the shortest time that a frame is shown, 0.12 s in
    a terminal and none elsewhere. Raises `InputError` as the pipeline does.
    """
    console = console or ViewConsole()
    pause_s = (SHORTEST_FRAME_S if redraws(console) else 0.0) if pause_s is None else pause_s
    recording = Recording(pipe, source, settings, template)
    show_frames(console, source, _paced(recording, pause_s))
    show_choice(console, recording.choice)
    return _keep(recording, trace)


def record(
    pipe: DiffuSeqPipeline, source: str, settings: Any, trace: Path, template: str | None = None
) -> Answer:
    """As `watch`, without showing anything."""
    recording = Recording(pipe, source, settings, template)
    for _ in recording:
        pass
    return _keep(recording, trace)


def _keep(recording: Recording, trace: Path | None) -> Answer:
    from diffuseq.answers import Answer

    if trace is not None:
        append_trace(trace, recording.trace)
    choice = recording.choice
    return Answer(
        recording.source,
        choice.text,
        choice.candidates,
        choice.log_p,
        choice.seconds,
        choice.forwards,
        recording.unread,
    )


def show_frames(console: Console, source: str, frames: Iterable[Frame]) -> None:
    """Draw frames over each other in a terminal, and one a line elsewhere."""
    if not redraws(console):
        print_line(console, f"source  {visible(source)}")
        for frame in frames:
            print_line(console, plain_frame(frame))
        return
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        for frame in frames:
            live.update(view(source, frame, console.width, console.height), refresh=True)


def show_choice(console: Console, choice: Choice) -> None:
    if redraws(console):
        console.print(choice_view(choice, console.width))
    else:
        print_line(console, plain_choice(choice))


def print_line(console: Console, line: str) -> None:
    """Print text as it is: nothing in it is taken for markup, and nothing is wrapped."""
    console.print(Text(line), soft_wrap=True)


def _paced(frames: Iterable[Frame], pause_s: float) -> Iterator[Frame]:
    """The frames, each held until it has been seen for `pause_s`."""
    shown = 0.0
    for frame in frames:
        wait = shown + pause_s - time.monotonic()
        if shown and wait > 0:
            time.sleep(wait)
        shown = time.monotonic()
        yield frame
