"""How a frame of a trace looks in a terminal: words by state, a bar of confidence under each.

Every state has a look besides its colour, so that it can be told apart without colours, and only the
terminal's own colours are used, so that it is legible on light and on dark.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from diffuseq.names import visible
from diffuseq.trace import Choice, Frame, Piece, State

LOOKS: dict[State, str] = {
    "noise": "bright_black",
    "new": "bold underline green",
    "changed": "italic magenta",
    "settled": "",
    "pinned": "bold reverse",
}
NOISE = "░"
BARS = "▁▂▃▄▅▆▇█"
LARGEST_VIEW = 100
"""Columns; longer lines are harder to read."""
LEAST_CANDIDATE = 16
"""Columns that a candidate needs beside its numbers, which stand below it where there are fewer."""


def view(source: str, frame: Frame, width: int, height: int) -> RenderableType:
    """A frame as a panel: the source, the first candidate with its confidence, and the others in brief."""
    inner = min(width, LARGEST_VIEW) - 4
    parts = draft_lines(frame.rows[0], inner)
    others = frame.rows[1:][: max(0, height - 7 - len(parts))]
    if others:
        parts += [Text(""), *(one_line(row, inner) for row in others)]
    title = Text(visible(source), style="bold", no_wrap=True)
    title.truncate(inner - 4, overflow="ellipsis")
    return Panel(
        Group(*parts, Text(""), status(frame, inner), legend()),
        title=title,
        title_align="left",
        width=inner + 4,
    )


def draft_lines(row: Sequence[Piece], width: int) -> list[Text]:
    """The words in lines of `width` columns, each line followed by one with a bar a word."""
    lines: list[Text] = []
    words, bars = Text(), Text()
    for piece in row:
        shown = _after(words, piece)
        if words.plain and cell_len(words.plain) + cell_len(shown) > width:
            lines += [words, bars]
            words, bars = Text(), Text()
            shown = _after(words, piece)
        gap = len(shown) - len(shown.lstrip())
        body = set_cell_size(shown[gap:], min(cell_len(shown[gap:]), width))
        _append(words, gap, body, piece.state)
        bars.append(" " * gap + _bar(piece.confidence) * cell_len(body), style="cyan")
    return [*lines, words, bars] if words.plain else lines or [Text("(empty)", style="bright_black")]


def one_line(row: Sequence[Piece], width: int) -> Text:
    """The words in one line, cut to `width` columns."""
    text = Text(no_wrap=True)
    for piece in row:
        shown = _after(text, piece)
        gap = len(shown) - len(shown.lstrip())
        _append(text, gap, shown[gap:], piece.state)
    text.truncate(width, overflow="ellipsis")
    return text


def _after(line: Text, piece: Piece) -> str:
    """What a line shows of its next piece: no space at its beginning."""
    return visible(piece.text) if line.plain else visible(piece.text).lstrip()


def _append(line: Text, gap: int, body: str, state: State) -> None:
    line.append(" " * gap)
    line.append(NOISE * cell_len(body) if state == "noise" else body, style=LOOKS[state])


def _bar(confidence: float) -> str:
    return BARS[min(len(BARS) - 1, max(0, int(confidence * len(BARS))))]


def status(frame: Frame, width: int) -> Text:
    """Where the generation is: a bar of its steps, the calls and the seconds."""
    numbers = f"  step {frame.index + 1}/{frame.total}  {calls(frame.forwards)}  {frame.seconds:.1f} s"
    room = max(8, min(30, width - len(numbers)))
    done = round(room * (frame.index + 1) / max(1, frame.total))
    return Text.assemble(("━" * done, "green"), ("─" * (room - done), "bright_black"), numbers)


def calls(count: int) -> str:
    return f"{count} call" + "s" * (count != 1)


def legend() -> Text:
    names = Text()
    for state, look in LOOKS.items():
        names.append(f"{NOISE} noise" if state == "noise" else state, style=look)
        names.append("  ")
    names.append(f"{BARS[0]}{BARS[4]}{BARS[-1]} confidence", style="cyan")
    return names


def choice_view(choice: Choice, width: int, brief: bool = False) -> RenderableType:
    """The candidates with how much each agrees with the others, the chosen one marked; brief: the others cut to
    a line each where their numbers stand beside them."""
    cost = f"{calls(choice.forwards)}, {choice.seconds:.2f} s"
    if len(choice.candidates) == 1:
        return Group(
            Text.assemble("→ ", (visible(choice.text), "bold")), Text(f"  {cost}", style="bright_black")
        )
    inner = min(width, LARGEST_VIEW)
    names = ("BLEU with the others", *(name for name, _, _ in choice.terms))
    beside = inner - 5 - sum(max(len(name), 7) + 2 for name in names) >= LEAST_CANDIDATE
    table = Table(box=None, padding=(0, 1), width=inner, show_edge=False)
    table.add_column("")
    table.add_column("candidate", ratio=1, justify="left", overflow="fold")
    for name in names if beside else ():
        table.add_column(name, justify="right", no_wrap=True)
    for row, candidate in enumerate(choice.candidates):
        chosen = row == choice.chosen
        mark, style = ("→", "bold") if chosen else (" ", "")
        values = (choice.mean_agreement(row), *(values[row] for _, _, values in choice.terms))
        numbers = [f"{value:.2f}" for value in values]
        text = Text(visible(candidate), style=style)
        if brief and beside and not chosen:
            text.no_wrap, text.overflow = True, "ellipsis"
        if not beside:
            below = ", ".join(f"{name} {number}" for name, number in zip(names, numbers, strict=True))
            text = Text.assemble(text, "\n", (below, "bright_black"))
        table.add_row(mark, text, *(numbers if beside else ()))
    note = "  The one that agrees most with the others is chosen (minimum Bayes risk)."
    if choice.terms:
        signed = (
            f" {'−' if weight < 0 else '+'} {abs(weight):g} · {name}" for name, weight, _ in choice.terms
        )
        note = f"  The largest BLEU with the others{''.join(signed)} is chosen."
    if choice.passed_over:
        note += " Copies of the source are passed over."
    return Group(table, Text(f"{note}\n  {cost}", style="bright_black"))


def plain_frame(frame: Frame) -> str:
    """A frame as one line, for pipes and files."""
    row = frame.rows[0]
    sure = sum(piece.confidence for piece in row) / max(1, len(row))
    return f"step {frame.index + 1}/{frame.total}  confidence {sure:.0%}  {visible(frame.text)}"


def plain_choice(choice: Choice) -> str:
    """The choice as lines of text: every number that decides, and the log-probability in any case."""
    lines = []
    for row, candidate in enumerate(choice.candidates):
        role = "chosen" if row == choice.chosen else "candidate"
        numbers = f"BLEU with the others {choice.mean_agreement(row):.2f}  log p {choice.log_p[row]:.2f}"
        if choice.source_weight:
            numbers += f"  BLEU with the source {choice.to_source[row]:.2f}"
        if choice.terms:
            numbers += f"  score {choice.score(row):.2f}"
        if row in choice.passed_over:
            numbers += "  passed over, the source itself"
        lines.append(f"{role} {row + 1}  {numbers}  {visible(candidate)}")
    answer = f"answer ({calls(choice.forwards)}, {choice.seconds:.2f} s)  {visible(choice.text)}"
    return "\n".join([*lines, answer] if len(choice.candidates) > 1 else [answer])
