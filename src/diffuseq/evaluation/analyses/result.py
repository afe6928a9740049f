"""What an analysis gives, and how it is written down."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from diffuseq.evaluation.markdown import plain
from diffuseq.evaluation.plots import Figure
from diffuseq.files import write_text

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""progress(what, total): a context that gives a function to be told how many more are done."""


@contextmanager
def silent(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A `Progress` that shows nothing."""
    yield lambda more: None


@dataclass(frozen=True)
class Limits:
    """How far the analyses go.

    candidates: most candidates a source (diversity). temperatures: of the candidates (diversity). calls:
    numbers of network calls (speed). seed: of every generation.
    """

    candidates: int = 20
    temperatures: tuple[float, ...] = (0.4, 0.7, 1.0)
    calls: tuple[int, ...] = (1, 2, 5, 10, 20)
    seed: int = 0


@dataclass(frozen=True)
class Data:
    """The numbers behind figures: a name for the csv file, its columns, its rows."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]

    def csv(self) -> str:
        """The contents of the file; an empty cell is a number that there is not."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([[_cell(value) for value in row] for row in self.rows])
        return stream.getvalue()


@dataclass(frozen=True)
class Analysis:
    """One analysis: figures, their data, and what has to be said (say, which sampler a model refused)."""

    title: str
    figures: tuple[Figure, ...]
    data: tuple[Data, ...]
    notes: tuple[str, ...] = field(default=())


def write(analyses: Sequence[Analysis], folder: Path, heading: str) -> list[Path]:
    """Write the figures (svg and png), their data (csv) and analyses.md with the captions into a folder.

    Each file is written in one piece. heading: a sentence on what was analysed.
    """
    paths = [path for analysis in analyses for figure in analysis.figures for path in figure.save(folder)]
    lines = ["# Analyses", "", plain(heading), ""]
    for analysis in analyses:
        lines += [f"## {analysis.title}", ""]
        for figure in analysis.figures:
            title, caption = plain(figure.title), plain(figure.caption)
            lines += [f"![{title}]({figure.name}.svg)", "", f"*{title}.* {caption}", ""]
        lines += [f"- {plain(note)}" for note in analysis.notes]
        for data in analysis.data:
            write_text(folder / f"{data.name}.csv", data.csv())
            paths.append(folder / f"{data.name}.csv")
        lines += ["", "Data: " + ", ".join(f"[{d.name}.csv]({d.name}.csv)" for d in analysis.data), ""]
    write_text(folder / "analyses.md", "\n".join(lines))
    return [*paths, folder / "analyses.md"]


def _cell(value: object) -> object:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else value
