"""Inference speed: BLEU against sentences a second over numbers of calls, for every sampler of a model.

Gong et al. (ICLR 2023), Section 4.4. One answer a source; autoregressive and iterative systems are points, by
their own settings.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args, get_type_hints

from diffuseq.config import WORD_BY_WORD, DiffusionGeneration
from diffuseq.errors import InputError
from diffuseq.evaluation.analyses.drawing import Label, Look, put_labels, rule
from diffuseq.evaluation.analyses.result import Analysis, Data, Limits, Progress
from diffuseq.evaluation.analyses.subjects import HeldOut, Subject
from diffuseq.evaluation.plots import Figure, canvas, log_ticks, style
from diffuseq.metrics.significance import Statistics, interval

SAMPLERS: tuple[str, ...] = get_args(get_type_hints(DiffusionGeneration)["sampler"])
REPEATS = 3
"""The fastest of so many runs counts, where they are quick."""
QUICK_S = 5.0


@dataclass(frozen=True)
class Point:
    """One way of answering. sampler: "" for a system that has but one; calls: network calls an answer."""

    subject: int
    sampler: str
    calls: int
    sentences_per_second: float
    bleu: float
    low: float
    high: float


@dataclass(frozen=True)
class Measured:
    """All points, the sampler that each model comes with, and what models refused."""

    names: tuple[str, ...]
    looks: tuple[Look, ...]
    points: tuple[Point, ...]
    own_samplers: tuple[str, ...]
    notes: tuple[str, ...]


def analyse(subjects: Sequence[Subject], test: HeldOut, limits: Limits, progress: Progress) -> Analysis:
    """Measure and draw."""
    measured = measure(subjects, test, limits, progress)
    columns = ("model", "sampler", "calls", "sentences_per_second", "bleu", "low", "high")
    rows = [
        (measured.names[p.subject], p.sampler, p.calls, p.sentences_per_second, p.bleu, p.low, p.high)
        for p in measured.points
    ]
    data = Data("speed", columns, tuple(rows))
    return Analysis("Inference speed", (draw(measured, len(test.sources)),), (data,), measured.notes)


def measure(subjects: Sequence[Subject], test: HeldOut, limits: Limits, progress: Progress) -> Measured:
    """Time every model in every way that it can answer; a way it refuses is noted and left out."""
    points, notes = [], []
    for index, subject in enumerate(subjects):
        for sampler, settings in ways(subject, limits):
            refusal = subject.accepts(settings, test.sources[0])  # warms the model up as well
            if refusal is not None:
                note = f"{subject.name} by {sampler or 'its own way'} is left out: {refusal}"
                notes += [] if note in notes else [note]
                continue
            with progress(f"{subject.name}{_by(sampler, settings)}", len(test.sources)) as advance:
                points.append(_time(index, sampler, subject, settings, test, advance))
    if not points:
        raise InputError("No model can answer one source a time; nothing to measure the speed of.")
    looks = tuple(Look.of(index, subject.family) for index, subject in enumerate(subjects))
    names = tuple(subject.name for subject in subjects)
    return Measured(names, looks, tuple(points), tuple(map(_own_sampler, subjects)), tuple(notes))


def ways(subject: Subject, limits: Limits) -> list[tuple[str, Any]]:
    """(sampler, settings) of every way of answering that is tried; one answer a source."""
    own = replace(subject.own, candidates=1, seed=limits.seed)
    if isinstance(own, DiffusionGeneration):
        return [
            (sampler, replace(_for_sampler(own, sampler), steps=calls))
            for sampler in SAMPLERS
            for calls in limits.calls
        ]
    if subject.family == "autoregressive" and own.strategy != "greedy":
        return [("greedy", replace(own, strategy="greedy")), (own.strategy, own)]
    if subject.family == "diffusion":
        return [("", replace(own, steps=calls)) for calls in limits.calls]
    return [("", own)]


def _own_sampler(subject: Subject) -> str:
    """The sampler of the model's own settings; that of `Point`."""
    own = subject.own
    if isinstance(own, DiffusionGeneration):
        return own.sampler
    return str(own.strategy) if subject.family == "autoregressive" and own.strategy != "greedy" else ""


def _for_sampler(settings: DiffusionGeneration, sampler: str) -> DiffusionGeneration:
    """The settings with another sampler, without what belongs to the old one alone."""
    if settings.sampler == sampler:
        return settings
    changes: dict[str, Any] = {"sampler": sampler, "eta": None, "stochastic": False, "published_v2": False}
    if sampler in WORD_BY_WORD:
        changes |= {"clamp_from": None, "truncate": None}
    return replace(settings, **changes)


def _time(index: int, sampler: str, subject: Subject, settings: Any, test: HeldOut, advance: Any) -> Point:
    best, runs = float("inf"), 0
    while runs == 0 or (runs < REPEATS and best < QUICK_S):
        began = time.perf_counter()
        answers = subject.pipe.answer_all(test.sources, settings, advance if runs == 0 else None)
        best, runs = min(best, time.perf_counter() - began), runs + 1
    statistics = Statistics.of_mean(test.bleu([answer.text for answer in answers]))
    low, high = interval(statistics.resample(1000, 0))
    calls = max(answer.forwards for answer in answers)
    return Point(index, sampler, calls, len(test.sources) / best, statistics.score(), low, high)


def draw(measured: Measured, num_rows: int) -> Figure:
    """Lines over numbers of calls, one a sampler; points for the others. Up and to the right is better."""
    with style():
        figure, axes = canvas(height=3.6)
        axes.set_xscale("log")
        lines: list[Label] = []
        points: list[Label] = []
        for index, sampler in dict.fromkeys((p.subject, p.sampler) for p in measured.points):
            mine = [p for p in measured.points if (p.subject, p.sampler) == (index, sampler)]
            name = measured.names[index] + (f", {sampler}" if sampler else "")
            _line(axes, mine, measured.looks[index], is_main=sampler == measured.own_samplers[index])
            slowest = min(mine, key=lambda p: p.sentences_per_second)
            label = Label(name, slowest.sentences_per_second, slowest.bleu, measured.looks[index].colour)
            (lines if len(mine) > 1 else points).append(label)
        speeds = [p.sentences_per_second for p in measured.points]
        width = (max(speeds) / min(speeds)) ** 0.4 * 1.3  # room for the names at both sides, on a log axis
        axes.set_xlim(min(speeds) / (width if lines else 1.2), max(speeds) * (width if points else 1.2))
        axes.margins(y=0.12)
        log_ticks(axes)
        rule(axes)
        axes.set_xlabel("sentences a second (log) → faster")
        axes.set_ylabel("BLEU → better")
        put_labels(axes, lines, left=True)
        put_labels(axes, points)
    caption = (
        f"BLEU against speed, one answer to each of {num_rows:,} sources, on one machine. Numbers beside"
        " points are network calls, of the sampler that the model comes with (filled). Up and to the right is"
        " better; calls that a curve no longer climbs for are wasted. Autoregressive and iterative systems"
        " are points."
    )
    return Figure("speed", "Quality against speed", caption, figure)


def _line(axes: Any, points: Sequence[Point], look: Look, is_main: bool) -> None:
    """One way of answering over its numbers of calls."""
    x, y = [p.sentences_per_second for p in points], [p.bleu for p in points]
    line = _LINES.get(points[0].sampler, "-")
    fill = look.colour if is_main else "white"
    axes.plot(x, y, color=look.colour, linestyle=line, marker=look.marker, markersize=5, mfc=fill)
    if not is_main or len(points) == 1:
        return
    for p in points:
        axes.annotate(
            f"{p.calls}",
            (p.sentences_per_second, p.bleu),
            xytext=(0, 5),
            textcoords="offset points",
            ha="center",
            fontsize=6.5,
            color=look.colour,
        )


_LINES = {
    "fixed-point": "-",
    "settle": (0, (3, 1)),
    "ddim": (0, (5, 2)),
    "ancestral": (0, (1, 1.3)),
    "dpm-solver": (0, (4, 1.5, 1, 1.5)),
}


def _by(sampler: str, settings: Any) -> str:
    calls = f" at {settings.steps} calls" if hasattr(settings, "steps") else ""
    return f" by {sampler}{calls}" if sampler else calls
