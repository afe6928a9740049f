"""The figures of a comparison: column width, readable in grey and by colour-blind eyes, labelled directly.

Every figure says what it shows in a caption of its own. matplotlib is optional (`diffuseq[plots]`).
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffuseq.errors import InputError
from diffuseq.evaluation.catalogue import METRICS
from diffuseq.evaluation.compare import Block
from diffuseq.evaluation.fonts import fallbacks, letters_missing, tell_of
from diffuseq.evaluation.measure import COPY, SINGLE
from diffuseq.files import atomic_file

WIDTH = 4.6
"""Inches; a column of text."""
INK, QUIET, GRID = "#1f2430", "#6b7280", "#e5e7eb"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7f7f7f", "#000000")
"""Okabe and Ito's palette, blue and vermilion first; markers differ as well."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

_BETTER = {"higher": " → better", "lower": " ← better", "neither": ""}
"""Beside the name of an axis: where it is better."""
_CORNER = {"higher": "Up and to the right", "lower": "Down and to the right", "neither": "To the right"}


@dataclass(frozen=True)
class Figure:
    """A drawn figure: a name for its files, the caption that says what to see, and the drawing."""

    name: str
    title: str
    caption: str
    drawing: Any

    def svg(self) -> str:
        """The drawing as an svg element to stand inside an html page; text stays text."""
        with style(), letters_missing():
            buffer = io.StringIO()
            self.drawing.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
        text = re.sub(r"<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)
        text = text[text.index("<svg") :]
        # Identifiers are local to a file, but one page holds many figures.
        text = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{self.name}-", text)
        return re.sub(
            r'<svg [^>]*?viewBox="([^"]*)"[^>]*>',
            rf'<svg viewBox="\1" role="img" aria-label="{self.title}">',
            text,
            count=1,
        )

    def save(self, folder: Path) -> list[Path]:
        """Write NAME.svg and NAME.png into a folder."""
        paths = []
        for suffix, options in (("svg", {"metadata": {"Date": None}}), ("png", {"dpi": 220})):
            path = folder / f"{self.name}.{suffix}"
            with style(), atomic_file(path) as temporary, letters_missing() as missing:
                self.drawing.savefig(temporary, format=suffix, bbox_inches="tight", **options)
            paths.append(path)
        tell_of(missing)
        return paths


FIGURES = ("ranking", "diversity", "speed")
"""What the names of figures end in."""


def figures(block: Block, prefix: str) -> list[Figure]:
    """The figures of one test set, as far as its systems have the numbers for them."""
    drawn = [ranking(block, f"{prefix}-ranking")]
    if len(_points(block, "div4")) > 0:
        drawn.append(plane(block, f"{prefix}-diversity"))
    if len(_timed(block)) > 1:
        drawn.append(speed(block, f"{prefix}-speed"))
    return drawn


def ranking(block: Block, name: str) -> Figure:
    """Each system's headline score with its interval, a single sample beside it, copying as a line."""
    metric = METRICS[block.headline]
    is_lower = metric.better == "lower"
    order = sorted(
        range(len(block.entries)), key=lambda i: _score(block, i, block.headline), reverse=not is_lower
    )
    with style():
        figure, axes = canvas(height=0.9 + 0.42 * len(order))
        for place, i in enumerate(order):
            colour, value = COLOURS[i % len(COLOURS)], block.value(i, block.headline)
            if value is None:
                continue
            if value.low is not None and value.high is not None:
                axes.plot([value.low, value.high], [place, place], color=colour, linewidth=2.2, zorder=3)
            axes.plot(value.value, place, marker="o", color=colour, markersize=6.5, zorder=4)
            single = block.value(i, block.headline, SINGLE)
            if single is not None and single.value != value.value:
                axes.plot(
                    single.value, place, marker="o", color=colour, mfc="white", markersize=5.5, zorder=4
                )
            axes.annotate(
                _number(value.value, metric.decimals),
                (value.value, place),
                xytext=(0, 7),
                textcoords="offset points",
                ha="center",
                color=INK,
                fontsize=8,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
            )
        copy = block.entries[0].scores.value(COPY, block.headline)
        if copy is not None:
            axes.axvline(copy, color=QUIET, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
            axes.annotate(
                f"copying the source {_number(copy, metric.decimals)}",
                (copy, len(order) - 0.45),
                xytext=(-4, 0),
                textcoords="offset points",
                ha="right",
                va="center",
                color=QUIET,
                fontsize=7.5,
            )
        axes.set_yticks(range(len(order)), [block.entries[i].name for i in order])
        axes.set_ylim(len(order) - 0.2, -0.7)
        axes.set_xlabel(metric.title)
        axes.grid(axis="x", color=GRID, linewidth=0.7)
        axes.tick_params(axis="y", length=0)
        axes.margins(x=0.12)
    caption = (
        f"{metric.title} of the answers ({metric.definition}): filled is the chosen answer with its 95 %"
        " interval, hollow a single sample."
    )
    if metric.better != "neither" and copy is not None:
        side = "Right" if is_lower else "Left"
        caption += f" {side} of the dashed line, not changing the source would be better."
    return Figure(name, f"{block.title}: {metric.title}", caption, figure)


def plane(block: Block, name: str) -> Figure:
    """Quality against diversity; the good corner is on the right."""
    metric = METRICS[block.headline]
    points = _points(block, "div4")
    with style():
        figure, axes = canvas(height=3.2)
        _scatter(block, axes, points)
        axes.set_xlabel("div-4: distinct over all 4-grams of three candidates → more diverse")
        axes.set_ylabel(f"{metric.title}{_BETTER[metric.better]}")
    caption = (
        f"Quality against diversity. {_CORNER[metric.better]} is better; a system on the left gives the same answer"
        " three times (⅓ is the floor), so several candidates cannot help it."
    )
    return Figure(name, f"{block.title}: quality and diversity", caption, figure)


def speed(block: Block, name: str) -> Figure:
    """Quality against sentences a second, where the runs have recorded the time."""
    metric = METRICS[block.headline]
    points = [(i, 1 / seconds, _score(block, i, block.headline)) for i, seconds in _timed(block)]
    with style():
        figure, axes = canvas(height=3.2)
        axes.set_xscale("log")
        _scatter(block, axes, points)
        log_ticks(axes)
        axes.set_xlabel("sources answered a second, all candidates (log) → faster")
        axes.set_ylabel(f"{metric.title}{_BETTER[metric.better]}")
    caption = (
        "Quality against speed of generation, everything included."
        f" {_CORNER[metric.better]} is better; speeds are"
        " comparable only between runs on the same machine."
    )
    return Figure(name, f"{block.title}: quality and speed", caption, figure)


def _points(block: Block, metric: str) -> list[tuple[int, float, float]]:
    found = [(i, block.value(i, metric)) for i in range(len(block.entries))]
    return [(i, value.value, _score(block, i, block.headline)) for i, value in found if value is not None]


def _timed(block: Block) -> list[tuple[int, float]]:
    times = [(i, entry.scores.cost["seconds_per_source"]) for i, entry in enumerate(block.entries)]
    return [(i, seconds) for i, seconds in times if seconds]


def _score(block: Block, entry: int, metric: str) -> float:
    value = block.value(entry, metric)
    return 0.0 if value is None else value.value


def _scatter(block: Block, axes: Any, points: Sequence[tuple[int, float, float]]) -> None:
    """Points with their names beside them, moved apart where they would overlap; where that takes them away from
    their points, in a column with a line from each to its point."""
    for i, x, y in points:
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        axes.plot(x, y, marker=marker, color=colour, markersize=7, linestyle="none", zorder=3)
    axes.margins(x=0.18, y=0.22)
    axes.grid(color=GRID, linewidth=0.7)
    low, high = axes.get_ylim()
    gap = (high - low) * 0.085
    places = spread([y for _, _, y in points], gap)
    if any(abs(place - y) > gap for (_, _, y), place in zip(points, places, strict=True)):
        _names_in_a_column(block, axes, points)
        return
    middle = axes.transAxes.inverted()
    for (i, x, y), place in zip(points, places, strict=True):
        right = middle.transform(axes.transData.transform((x, y)))[0] > 0.6
        axes.annotate(
            block.entries[i].name,
            (x, place),
            xytext=(-8 if right else 8, 0),
            textcoords="offset points",
            ha="right" if right else "left",
            va="center",
            color=INK,
            fontsize=8,
        )


def _names_in_a_column(block: Block, axes: Any, points: Sequence[tuple[int, float, float]]) -> None:
    """The names right of the axes, from the highest point to the lowest; the figure grows with their number."""
    figure = axes.figure
    figure.set_figheight(max(figure.get_figheight(), 0.8 + 0.17 * len(points)))
    for place, (i, x, y) in enumerate(sorted(points, key=lambda point: point[2])):
        axes.annotate(
            block.entries[i].name,
            (x, y),
            xytext=(1.06, (place + 0.5) / len(points)),
            textcoords="axes fraction",
            va="center",
            color=INK,
            fontsize=8,
            arrowprops={
                "arrowstyle": "-",
                "linewidth": 0.6,
                "color": COLOURS[i % len(COLOURS)],
                "relpos": (0, 0.5),
                "shrinkA": 1,
                "shrinkB": 4,
            },
        )


def spread(values: Sequence[float], gap: float) -> list[float]:
    """The values moved as little as needed until neighbours are `gap` apart, in their order."""
    order = sorted(range(len(values)), key=values.__getitem__)
    placed: list[list[float]] = []  # runs of touching labels: [centre, number of labels]
    for i in order:
        placed.append([values[i], 1])
        while len(placed) > 1:
            (below, few), (above, many) = placed[-2:]
            if above - below >= gap * (few + many) / 2:
                break
            placed[-2:] = [[(below * few + above * many) / (few + many), few + many]]
    flat = [centre + gap * (k - (size - 1) / 2) for centre, size in placed for k in range(int(size))]
    result = [0.0] * len(values)
    for i, value in zip(order, flat, strict=True):
        result[i] = value
    return result


def _number(value: float, decimals: int) -> str:
    return f"{value:.{min(decimals, 3)}f}"


def log_ticks(axes: Any) -> None:
    """Numbers beside a logarithmic x axis whose limits are set: a narrow one, too, has several."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    low, high = axes.get_xlim()
    some = (1.0, 2.0, 5.0) if high < 100 * low else (1.0,)
    axes.xaxis.set_major_locator(MaxNLocator(5) if high < 3 * low else LogLocator(subs=some))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()


def canvas(height: float) -> tuple[Any, Any]:
    """A figure of column width and so many inches height, and its axes; to be drawn on under `style`."""
    from matplotlib.figure import Figure as Canvas

    figure = Canvas(figsize=(WIDTH, height))
    axes = figure.subplots()
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(QUIET)
    axes.tick_params(colors=QUIET, labelcolor=INK)
    axes.locator_params(axis="x", nbins=6)  # more run together where numbers have four decimals
    return figure, axes


def style() -> Any:
    """The look of every figure, as a context. Raises `InputError` without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        raise InputError(
            "The plots need matplotlib; install it with `pip install diffuseq[plots]`."
        ) from None
    return matplotlib.rc_context(
        {
            "font.size": 8.5,
            "font.family": ["sans-serif", *fallbacks()],
            "font.sans-serif": ["Inter", "Helvetica", "Arial", "DejaVu Sans"],
            "axes.labelcolor": INK,
            "text.color": INK,
            "svg.fonttype": "none",
            "svg.hashsalt": "diffuseq",
            "text.parse_math": False,  # names and words may have dollar signs
            "figure.facecolor": "white",
        }
    )
