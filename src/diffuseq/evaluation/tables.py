"""The tables of a comparison as rows of cells; terminal, markdown and html write them each in its own way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from diffuseq.evaluation.catalogue import METRICS
from diffuseq.evaluation.compare import Block
from diffuseq.evaluation.measure import COPY, REFERENCES, SINGLE
from diffuseq.evaluation.published_rows import PublishedRow

CLOSER = {"higher": "↑", "lower": "↓", "neither": ""}
NOTHING = "–"
_LONGEST_NAME = 20
LEGEND = (
    "Bold: best of the systems. †: significantly worse than the best (paired bootstrap, p < .05 after Holm's"
    " correction within the column). Copying and the references are yardsticks and never bold."
)


@dataclass(frozen=True)
class Cell:
    """A cell: its text, half the width of its interval or "", whether it is best, significantly worse."""

    text: str
    interval: str = ""
    best: bool = False
    worse: bool = False


@dataclass(frozen=True)
class Table:
    """A header and rows of cells, a name first. yardsticks: how many rows at the end are no system."""

    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    yardsticks: int = 0

    def within(self, width: int) -> Iterator[tuple[Table, list[int]]]:
        """The same in tables that fit into `width` characters of a terminal, each with the names and some of the
        columns; and how wide the cells of each column are.

        Numbers are never broken; headers may be, between words, and long names. A column that is wider than all
        there is comes alone.
        """
        widths = [self._least_width(column) for column in range(len(self.header))]
        columns: list[int] = []
        for column in range(1, len(self.header)):
            if columns and self._spare(width, widths, [*columns, column]) < 0:
                yield self._with(columns, width, widths)
                columns = []
            columns.append(column)
        yield self._with(columns, width, widths)

    def _least_width(self, column: int) -> int:
        cells = [len(row[column].text) + row[column].worse for row in self.rows]
        if column == 0:
            cells = [min(max(cells), _LONGEST_NAME)]
        return max(*cells, *map(len, self.header[column].split()), 1)

    @staticmethod
    def _spare(width: int, widths: Sequence[int], columns: Sequence[int]) -> int:
        """Characters that are left of `width`; a column has a line and two spaces beside its cells."""
        return width - 1 - sum(widths[column] + 3 for column in (0, *columns))

    def _with(self, columns: Sequence[int], width: int, widths: Sequence[int]) -> tuple[Table, list[int]]:
        rows = (tuple(row[column] for column in (0, *columns)) for row in self.rows)
        header = (self.header[0], *(self.header[column] for column in columns))
        longest = max(len(text) for text in (self.header[0], *(row[0].text for row in self.rows)))
        names = max(1, min(longest, widths[0] + self._spare(width, widths, columns)))
        return Table(header, tuple(rows), self.yardsticks), [names, *(widths[column] for column in columns)]


def quality(block: Block) -> Table:
    """Scores of every system, then copying and the references."""
    headline = METRICS[block.headline]
    header = ["system", f"{headline.title}, one sample {CLOSER[headline.better]}"]
    header += [f"{METRICS[name].title} {CLOSER[METRICS[name].better]}".strip() for name in block.columns]
    rows = []
    for i, entry in enumerate(block.entries):
        single = entry.scores.value(SINGLE, block.headline)
        cells = [Cell(entry.name), Cell(_number(single, headline.decimals))]
        rows.append((*cells, *(_cell(block, i, name) for name in block.columns)))
    scores = block.entries[0].scores
    for row in (COPY, REFERENCES):
        values = [(scores.value(row, name), METRICS[name].decimals) for name in block.columns]
        rows.append((Cell(scores.rows[row].title), Cell(""), *(Cell(_number(*value)) for value in values)))
    return Table(tuple(header), tuple(rows), yardsticks=2)


def cost(block: Block) -> Table:
    """What answering and training took, where the runs say so."""
    header = (
        "system",
        "candidates",
        "calls each",
        "s a source",
        "parameters",
        "training",
        "pairs seen",
        "device",
    )
    rows = []
    for entry in block.entries:
        spent, training = entry.scores.cost, entry.training
        rows.append(
            (
                Cell(entry.name),
                Cell(str(entry.scores.num_candidates)),
                Cell(_number(spent["forwards"], 0)),
                Cell(
                    NOTHING if spent["seconds_per_source"] is None else f"{spent['seconds_per_source']:.3g}"
                ),
                Cell(_amount(training.get("parameters"))),
                Cell(_duration(training.get("seconds"))),
                Cell(_amount(training.get("pairs_seen"))),
                Cell(str(training.get("device", NOTHING))),
            )
        )
    return Table(header, tuple(rows))


def chances(block: Block) -> Table:
    """p-values of the headline metric between all systems, and against copying."""
    header = ("", *(entry.name for entry in block.entries), "copy the source")
    rows = tuple(
        (Cell(entry.name), *(Cell(NOTHING if p is None else f"{p:.3f}") for p in block.p_values[i]))
        for i, entry in enumerate(block.entries)
    )
    return Table(header, rows)


def published(rows: tuple[PublishedRow, ...]) -> Table:
    """The printed rows of a paper."""
    header = (
        "system as printed",
        "BLEU, one sample",
        "BLEU",
        "R-L",
        "BERTScore",
        "dist-1",
        "self-BLEU",
        "div-4",
        "len (published)",
    )
    return Table(
        header,
        tuple(
            (
                Cell(row.system),
                Cell(_number(row.single, 4)),
                *(
                    Cell(f"{value:.4f}")
                    for value in (row.bleu, row.rouge_l, row.bertscore, row.dist1, row.self_bleu, row.div4)
                ),
                Cell(f"{row.length:g}"),
            )
            for row in rows
        ),
    )


def _cell(block: Block, entry: int, name: str) -> Cell:
    value, decimals = block.value(entry, name), METRICS[name].decimals
    if value is None:
        return Cell(NOTHING)
    width = ""
    if value.low is not None and value.high is not None:
        width = f"±{(value.high - value.low) / 2:.{decimals}f}"
    return Cell(
        f"{value.value:.{decimals}f}", width, block.is_best(entry, name), (entry, name) in block.worse
    )


def _number(value: float | None, decimals: int) -> str:
    return NOTHING if value is None else f"{value:.{decimals}f}"


def _amount(value: object) -> str:
    """A count with the unit that keeps it short: 91.2 M."""
    if not isinstance(value, int | float):
        return NOTHING
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:g}"


def _duration(seconds: object) -> str:
    if not isinstance(seconds, int | float):
        return NOTHING
    for size, unit in ((86400, " d"), (3600, " h"), (60, " min")):
        if seconds >= size:
            return f"{seconds / size:.3g}{unit}"
    return f"{seconds:.3g} s"
