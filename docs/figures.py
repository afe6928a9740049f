"""Draws the figures of concepts.md with the package's own schedules, samplers and metrics.

python docs/figures.py            writes docs/images/concepts-*.svg
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from torch import Tensor

from diffuseq.decoding.mbr import choose, pairwise_bleu
from diffuseq.decoding.rounding import nearest
from diffuseq.diffusion.levels import mixed_levels
from diffuseq.diffusion.schedule import DiscreteSchedule, LogLinearSchedule, Schedule
from diffuseq.evaluation.plots import COLOURS, INK, QUIET, WIDTH, style
from diffuseq.pipeline import DiffuSeqPipeline
from diffuseq.sampling.ancestral import ancestral
from diffuseq.sampling.ddim import ddim
from diffuseq.sampling.dpm_solver import dpm_solver
from diffuseq.sampling.grid import uniform_time
from diffuseq.sampling.settle import settle
from diffuseq.sampling.step import Estimate

FOLDER = Path(__file__).parent / "images"
BLUE, ORANGE, GREEN = COLOURS[:3]
LINE = "#c9ced6"


def layout() -> Figure:
    """What one pair costs: the published sequence and ours, position by position."""
    figure, axes = _bare(1.5)
    source, target, whole = 14, 12, 128
    published = [
        ("source", source, BLUE),
        ("specials", 5, QUIET),
        ("target", target, ORANGE),
        ("padding, computed like a word", whole - source - 5 - target, LINE),
    ]
    ours = [("source, once", source, BLUE), ("target, every call", target, ORANGE)]
    for y, title, parts in ((1, "published", published), (0, "ours", ours)):
        left = 0
        for name, width, colour in parts:
            axes.barh(y, width, left=left, height=0.5, color=colour, edgecolor="white", linewidth=1)
            if width > 30:
                axes.text(left + width / 2, y, name, ha="center", va="center", fontsize=8, color=INK)
            left += width
        axes.text(left + 1.5, y, f"{left} positions", va="center", fontsize=8, color=QUIET)
        axes.text(0, y + 0.36, title, fontsize=8.5, fontweight="bold")
    axes.text(source / 2, -0.42, "source", ha="center", va="top", fontsize=7.5, color=BLUE)
    axes.text(source + target / 2, -0.42, "target", ha="center", va="top", fontsize=7.5, color=ORANGE)
    axes.set(xlim=(0, 156), ylim=(-0.8, 1.7))
    return figure


def schedule() -> Figure:
    """log-SNR over time: where on the way from text to noise the time is spent."""
    figure, axes = _axes(2.5)
    axes.axhspan(-6, -1, color="#eef2f7", zorder=0)
    axes.text(0.01, -5.9, "where a network has something to learn", va="bottom", fontsize=7.5, color=QUIET)
    curves: list[tuple[str, Schedule, str, str, float, float]] = [
        ("sqrt (published)", DiscreteSchedule.named("sqrt", 2000), BLUE, "-", 0.66, -0.55),
        ("cosine", DiscreteSchedule.named("cosine", 2000), GREEN, "--", 0.3, 2.9),
        ("straight in log-SNR (ours)", LogLinearSchedule(3.0, -8.0), ORANGE, "-.", 0.12, -3.6),
    ]
    times = torch.linspace(1 / 2000, 1, 400, dtype=torch.float64)
    for name, curve, colour, dashes, x, y in curves:
        axes.plot(times, curve.log_snr(times), color=colour, linestyle=dashes, linewidth=1.8)
        axes.text(x, y, name, color=colour, ha="left", fontsize=8)
    axes.set(
        xlim=(0, 1), ylim=(-9, 7), xlabel="time, from text (0) to noise (1)", ylabel="log-SNR, log α²/σ²"
    )
    return figure


def noising() -> Figure:
    """The noise that training gives every position: the published way, and token by token."""
    figure, axes = _bare(2.6)
    source = ["how", "can", "i", "learn", "chess"]
    target = ["what", "is", "the", "way", "to", "learn", "chess", "?"]
    padding = torch.zeros(4, len(target), dtype=torch.bool)
    one, _ = mixed_levels(padding, 0.0, torch.Generator().manual_seed(7))
    own, _ = mixed_levels(padding, 1.0, torch.Generator().manual_seed(21))
    words = source + target
    for x, word in enumerate(words):
        axes.text(x + 0.5, 9.2, word, ha="center", va="bottom", rotation=55, fontsize=8)
    for top, title, levels in ((9, "one level for the target", one), (4, "token-wise", own)):
        for row in range(4):
            for x in range(len(words)):
                level = 0.0 if x < len(source) else float(levels[row, x - len(source)])
                _cell(axes, x, top - 1 - row, level)
        axes.text(len(words) + 0.3, top - 2, title, ha="left", va="center", fontsize=8.5)
    axes.plot([len(source)] * 2, [0, 9], color=INK, linewidth=1.2)
    axes.text(len(source) / 2, -0.25, "source: always clean", ha="center", va="top", fontsize=8, color=QUIET)
    middle = len(source) + len(target) / 2
    axes.text(
        middle, -0.25, "target: dark clean, white noise", ha="center", va="top", fontsize=8, color=QUIET
    )
    axes.set(xlim=(0, 19), ylim=(-1, 11.6))
    return figure


def denoiser() -> Figure:
    """Our network: what is computed once for a source, and what at every call."""
    figure, axes = _bare(2.6)
    _box(axes, 0, 3.2, 2.7, "source words", BLUE)
    _box(axes, 3.4, 3.2, 2.5, "encoder", BLUE)
    _box(axes, 6.7, 3.2, 3.2, "keys, values\nof every layer", BLUE)
    _box(axes, 0, 1.0, 2.7, "noisy target\n+ level of each", ORANGE)
    _box(axes, 3.4, 1.0, 2.5, "decoder", ORANGE)
    _box(axes, 6.7, 1.0, 3.2, "vocabulary +\npointer", ORANGE)
    _box(axes, 10.6, 1.0, 2.4, "words,\nestimate x̂₀", ORANGE)
    for x, y in ((2.7, 3.7), (5.9, 3.7), (2.7, 1.5), (5.9, 1.5), (9.9, 1.5)):
        _arrow(axes, (x, y), (x + 0.7, y))
    _arrow(axes, (7.2, 3.2), (5.3, 2.05))
    _arrow(axes, (8.6, 3.2), (8.6, 2.05))
    _arrow(axes, (11.8, 1.0), (1.3, 1.0), bend=-0.16)
    axes.text(
        6.6,
        -0.25,
        "a sampler makes the next, cleaner target of it",
        ha="center",
        va="top",
        fontsize=8,
        color=QUIET,
    )
    axes.text(0, 4.45, "once a source", fontsize=8.5, fontweight="bold", color=BLUE)
    axes.text(0, 2.25, "at every call", fontsize=8.5, fontweight="bold", color=ORANGE)
    axes.set(xlim=(-0.1, 13.2), ylim=(-0.9, 5))
    return figure


def samplers() -> Figure:
    """Paths of the samplers where the best denoiser is known: two words, at −1 and +1."""
    grid = uniform_time(LogLinearSchedule(3.0, -8.0), 10)
    ratios = {t: (a, s) for t, a, s in grid.levels()}

    def denoise(x: Tensor, time: float) -> Estimate:
        alpha, sigma = ratios[time]
        return Estimate(torch.tanh(alpha * x / sigma**2))

    generator = torch.Generator().manual_seed(2)
    start = torch.randn(1, 7, 1, dtype=torch.float64, generator=generator)

    def noise(x: Tensor) -> Tensor:
        return torch.randn(x.shape, dtype=x.dtype, generator=generator)

    panels = {
        "ddim, churn 0": ddim(denoise, start, grid, noise=noise),
        "dpm-solver, order 2": dpm_solver(denoise, start, grid),
        "ancestral": ancestral(denoise, start, grid, noise=noise),
        "ddim, churn 1": ddim(denoise, start, grid, noise=noise, churn=1.0),
    }
    figure = Figure(figsize=(WIDTH, 2.9))
    for axes, (title, steps) in zip(
        figure.subplots(2, 2, sharex=True, sharey=True).flat, panels.items(), strict=True
    ):
        path = torch.stack([start, *(step.x for step in steps)])[:, 0, :, 0]
        for word in (-1, 1):
            axes.axhline(word, color=LINE, linewidth=3)
        for column in path.T:
            axes.plot(
                range(len(path)), column, color=BLUE if column[-1] > 0 else ORANGE, linewidth=1, alpha=0.85
            )
        axes.set_title(title, fontsize=8.5, loc="left", pad=3)
        axes.set(xlim=(0, 10), ylim=(-2.6, 2.6), yticks=[-1, 1], yticklabels=["word A", "word B"])
        _quiet(axes)
    figure.supxlabel("network calls", fontsize=8.5, y=-0.01)
    figure.tight_layout(h_pad=0.7)
    return figure


def settling() -> Figure:
    """settle at work on a network that is surer of some words than of others."""
    figure, axes = _bare(2.3)
    words = ["what", "is", "the", "way", "to", "learn", "chess", "?"]
    sureness = torch.tensor([3.0, 5.0, 2.0, 1.0, 2.5, 4.0, 9.0, 8.0])
    logits = torch.zeros(1, len(words), len(words))
    logits[0].fill_diagonal_(1.0)
    logits = logits * sureness[None, :, None]
    padding = torch.zeros(1, len(words), dtype=torch.bool)
    steps = settle(
        lambda x, is_open: [logits[is_open]],
        lambda ids: ids[..., None].double(),
        torch.zeros(1, len(words), 1, dtype=torch.float64),
        padding,
        4,
        noise=torch.zeros_like,
        quantiles=lambda: torch.full((1, len(words)), 0.5),
        temperature=0.0,
    )
    rows = [torch.zeros(len(words), dtype=torch.bool), *(step.settled[0] for step in steps)]
    for index, settled in enumerate(rows):
        y = len(rows) - 1 - index
        axes.text(
            -0.3, y + 0.5, "start" if index == 0 else f"call {index}", ha="right", va="center", fontsize=8
        )
        for x, word in enumerate(words):
            done = bool(settled[x])
            fresh = done and not bool(rows[index - 1][x])
            _cell(axes, x * 1.5, y, 0.0 if done else 1.0, width=1.5, colour=ORANGE if fresh else BLUE)
            text, colour = (word, "white") if done else ("noise", QUIET)
            axes.text(x * 1.5 + 0.75, y + 0.47, text, ha="center", va="center", fontsize=7.5, color=colour)
    _caption(axes, "orange: settled by this call; blue: settled before, and clean for good")
    axes.set(xlim=(-1.6, 12), ylim=(-0.8, 5))
    return figure


def fixed_point_at_work() -> Figure:
    """The model that comes with the package, answering in few calls."""
    pipe = DiffuSeqPipeline.from_pretrained("qqp")
    settings = pipe.settings(candidates=1, seed=9)
    (prompt,) = pipe.prepare(["how do i learn to play chess well?"], settings)
    drafts = []
    for draft in pipe.run([prompt], settings):
        drafts.append(
            [pipe.tokenizer.decode([token]) for token in draft.tokens[0, ~draft.padding[0]].tolist()]
        )
    rests = next(index for index, words in enumerate(drafts) if words == drafts[-1])
    rows = drafts[: rests + 2]  # the last call changes nothing, by which it is known that all is final
    figure, axes = _bare(0.45 * len(rows) + 0.5)
    for index, words in enumerate(rows):
        y = len(rows) - 1 - index
        axes.text(-0.3, y + 0.5, f"call {index + 1}", ha="right", va="center", fontsize=8)
        before = rows[index - 1] if index else []
        same = [place < len(before) and before[place] == word for place, word in enumerate(words)]
        for x, word in enumerate(words):
            is_final = all(same[:x])
            _cell(axes, x * 1.5, y, 0.0 if is_final else 1.0, width=1.5, colour=BLUE if same[x] else ORANGE)
            colour = "white" if is_final else QUIET
            axes.text(x * 1.5 + 0.75, y + 0.47, word, ha="center", va="center", fontsize=7.5, color=colour)
    _caption(axes, "orange: final since this call; blue: final before; pale: may still move")
    longest = max(map(len, rows))
    axes.set(xlim=(-1.6, 1.5 * max(longest, 8)), ylim=(-0.8, len(rows)))
    return figure


def decoding() -> Figure:
    """Rounding to the nearest word, and the choice among candidates by minimum Bayes risk."""
    figure = Figure(figsize=(WIDTH, 3.9))
    top, bottom = figure.subplots(2, 1, height_ratios=(1.0, 1.25))
    _rounding(top)
    candidates = (
        "how do i learn chess ?",
        "what is a way to learn chess ?",
        "what is the best way to learn chess ?",
        "what is the way to learn chess ?",
        "where can chess way learn ?",
    )
    matrix, best = pairwise_bleu(candidates), choose([candidates])[0]
    for i, text in enumerate(candidates):
        y = len(candidates) - 1 - i
        weight = "bold" if i == best else "normal"
        bottom.text(-0.2, y + 0.5, text, ha="right", va="center", fontsize=8, fontweight=weight)
        for j in range(len(candidates)):
            if i != j:
                _cell(bottom, j, y, 1 - float(matrix[i, j]))
                bottom.text(
                    j + 0.5, y + 0.47, f"{matrix[i, j]:.2f}"[1:], ha="center", va="center", fontsize=7.5
                )
        total = float(matrix[i].sum() - matrix[i, i])
        bottom.text(5.25, y + 0.5, f"{total:.2f}", va="center", fontsize=8, fontweight=weight)
    bottom.text(2.5, 5.25, "BLEU with each other one", ha="center", fontsize=8, color=QUIET)
    bottom.text(5.25, 5.25, "sum", fontsize=8, color=QUIET)
    bottom.set(xlim=(-6.1, 6.3), ylim=(0, 5.7))
    bottom.axis("off")
    figure.subplots_adjust(left=0.01, right=0.99, top=0.99, bottom=0.01, hspace=0.08)
    return figure


def learning() -> Figure:
    """Accuracy over noise levels, of a network and of the nearest embedding."""
    figure, axes = _axes(2.3)
    log_snr = [2, 1, 0, -1, -2, -2.5, -3, -3.5, -4, -5, -6, -7]
    network = [1.0, 1.0, 1.0, 1.0, 0.88, 0.75, 0.62, 0.49, 0.39, 0.29, 0.26, 0.24]
    alone = [1.0, 1.0, 1.0, 1.0, 0.61, 0.28, 0.11, 0.04, 0.02, 0.0, 0.0, 0.0]
    axes.axvspan(-6, -1, color="#eef2f7", zorder=0)
    axes.plot(log_snr, network, color=ORANGE, marker="o", markersize=3.5)
    axes.plot(log_snr, alone, color=BLUE, marker="s", markersize=3.5, linestyle="--")
    axes.text(-3.4, 0.64, "network", color=ORANGE, fontsize=8)
    axes.text(-2.65, 0.08, "nearest embedding,\nno network", color=BLUE, fontsize=8, ha="right")
    axes.set(
        xlim=(2.2, -7.2),
        ylim=(0, 1.05),
        xlabel="log-SNR (text on the left, noise on the right)",
        ylabel="words right",
    )
    return figure


def yardsticks() -> Figure:
    """Paraphrases of QQP by sentence-BLEU, beside copying the source."""
    figure, axes = _axes(1.7)
    rows = [
        ("Transformer", 0.2722),
        ("DiffuSeq, best of 10", 0.2413),
        ("copying the source", 0.2307),
        ("DiffuSeq, one sample", 0.1847),
    ]
    for y, (name, value) in enumerate(reversed(rows)):
        copied = name.startswith("copying")
        axes.barh(
            y,
            value,
            height=0.62,
            color=LINE if copied else BLUE,
            hatch="///" if copied else None,
            edgecolor=QUIET if copied else BLUE,
            linewidth=0.6,
        )
        axes.text(value + 0.004, y, f"{value:.3f}", va="center", fontsize=8)
    axes.axvline(0.2307, color=QUIET, linewidth=0.8, linestyle=":")
    axes.set(
        yticks=range(4),
        yticklabels=[name for name, _ in reversed(rows)],
        xlim=(0, 0.32),
        xlabel="sentence-BLEU to the reference",
    )
    axes.grid(visible=False)
    return figure


FIGURES: dict[str, Callable[[], Figure]] = {
    "layout": layout,
    "schedule": schedule,
    "noising": noising,
    "learning": learning,
    "denoiser": denoiser,
    "samplers": samplers,
    "fixed-point": fixed_point_at_work,
    "settling": settling,
    "decoding": decoding,
    "yardsticks": yardsticks,
}


def draw(folder: Path) -> list[Path]:
    """Write every figure into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, make in FIGURES.items():
        path = folder / f"concepts-{name}.svg"
        with style():
            make().savefig(path, bbox_inches="tight", pad_inches=0.06, metadata={"Date": None})
        text = re.sub(r"\s*<metadata>.*?</metadata>", "", path.read_text(), flags=re.DOTALL)
        path.write_text("\n".join(line.rstrip() for line in text.splitlines()) + "\n")
        paths.append(path)
    return paths


def _rounding(axes: Any) -> None:
    """Words as points, the region of each, and an estimate that rounds to one of them."""
    chance = random.Random(4)
    names = ["best", "good", "way", "how", "what", "learn", "chess"]
    angles = [2 * math.pi * (i + 0.35 * chance.random()) / len(names) for i in range(len(names))]
    table = torch.tensor([[2.4 * math.cos(a), math.sin(a)] for a in angles])
    xs, ys = torch.meshgrid(torch.linspace(-4, 4, 401), torch.linspace(-1.6, 1.6, 161), indexing="xy")
    region = nearest(torch.stack((xs, ys), dim=-1), table)
    for i in range(len(names)):
        axes.contour(xs, ys, (region == i).float(), levels=[0.5], colors=[LINE], linewidths=0.8)
    axes.scatter(*table.T, color=BLUE, s=18, zorder=3)
    for name, (x, y) in zip(names, table.tolist(), strict=True):
        axes.annotate(name, (x, y), xytext=(5, 4), textcoords="offset points", fontsize=8)
    path = torch.tensor([[-0.5, -0.25], [0.4, 0.1], [1.0, 0.55], [1.3, 0.78]])
    axes.plot(*path.T, color=ORANGE, marker="o", markersize=3.5, linewidth=1)
    axes.annotate(
        "estimate", path[0].tolist(), xytext=(-4, -10), textcoords="offset points", fontsize=8, color=ORANGE
    )
    axes.set(xlim=(-4, 4), ylim=(-1.6, 1.6))
    axes.axis("off")


def _bare(height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.subplots()
    axes.axis("off")
    figure.subplots_adjust(left=0.01, right=0.99, top=0.99, bottom=0.01)
    return figure, axes


def _axes(height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.subplots()
    _quiet(axes)
    return figure, axes


def _quiet(axes: Any) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(QUIET)
    axes.tick_params(colors=QUIET, labelcolor=INK, labelsize=8)


def _caption(axes: Any, text: str) -> None:
    axes.text(6, -0.25, text, ha="center", va="top", fontsize=8, color=QUIET)


def _cell(axes: Any, x: float, y: float, level: float, width: float = 1.0, colour: str = BLUE) -> None:
    """A square that is the more filled the cleaner it is."""
    axes.add_patch(
        FancyBboxPatch(
            (x + 0.06, y + 0.06),
            width - 0.12,
            0.88,
            boxstyle="round,pad=0,rounding_size=0.12",
            facecolor=(*_rgb(colour), 1 - level),
            edgecolor=LINE,
            linewidth=0.7,
        )
    )


def _box(axes: Any, x: float, y: float, width: float, text: str, colour: str) -> None:
    axes.add_patch(
        FancyBboxPatch(
            (x, y),
            width,
            1.0,
            boxstyle="round,pad=0,rounding_size=0.15",
            facecolor="white",
            edgecolor=colour,
            linewidth=1.4,
        )
    )
    axes.text(x + width / 2, y + 0.48, text, ha="center", va="center", fontsize=7.5)


def _arrow(axes: Any, start: tuple[float, float], end: tuple[float, float], bend: float = 0.0) -> None:
    look = {"arrowstyle": "-|>", "color": QUIET, "linewidth": 1, "shrinkA": 1, "shrinkB": 1}
    axes.annotate("", xy=end, xytext=start, arrowprops={**look, "connectionstyle": f"arc3,rad={bend}"})


def _rgb(colour: str) -> tuple[float, float, float]:
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))  # type: ignore[return-value]


if __name__ == "__main__":
    draw(FOLDER)
