"""Diversity ensures quality: what minimum Bayes risk makes of 1, 2, … candidates, and at which diversity.

Gong et al. (ICLR 2023), Section 4.4 and Figure 3. A system whose candidates are all alike gains nothing from
more of them; one whose candidates differ and are good does.

Legend: n sources, k candidates a source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from diffuseq.decoding.mbr import choose_from
from diffuseq.errors import InputError
from diffuseq.evaluation.analyses.drawing import Label, Look, put_labels, rule
from diffuseq.evaluation.analyses.result import Analysis, Data, Limits, Progress
from diffuseq.evaluation.analyses.subjects import HeldOut, Subject
from diffuseq.evaluation.catalogue import DIVERSITY_CANDIDATES
from diffuseq.evaluation.plots import Figure, canvas, style
from diffuseq.metrics.bleu import pairwise_sentence_bleu
from diffuseq.metrics.diversity import div_n, self_bleu
from diffuseq.metrics.significance import Statistics, interval

_CORPORA = 1000


@dataclass(frozen=True)
class Sample:
    """A model's candidates at one temperature (None: it has none).

    bleu: of the chosen of the first 1 … k candidates; low and high: the ends of its 95 % interval.
    average: BLEU of an average candidate. self_bleu, div4: of the first three candidates.
    """

    subject: int
    temperature: float | None
    bleu: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    average: float
    self_bleu: float
    div4: float


@dataclass(frozen=True)
class Measured:
    """All samples, and for models that have one the BLEU of their own deterministic answer, by index."""

    names: tuple[str, ...]
    looks: tuple[Look, ...]
    samples: tuple[Sample, ...]
    single: dict[int, float]
    own_ways: tuple[str, ...]
    notes: tuple[str, ...]

    def best(self, subject: int) -> Sample:
        """The temperature at which all candidates together are best."""
        mine = [sample for sample in self.samples if sample.subject == subject]
        return max(mine, key=lambda sample: sample.bleu[-1])


def analyse(subjects: Sequence[Subject], test: HeldOut, limits: Limits, progress: Progress) -> Analysis:
    """Measure and draw."""
    measured = measure(subjects, test, limits, progress)
    rows = [
        (measured.names[s.subject], s.temperature, k + 1, s.bleu[k], s.low[k], s.high[k])
        for s in measured.samples
        for k in range(len(s.bleu))
    ]
    curve = Data(
        "diversity-candidates", ("model", "temperature", "candidates", "bleu", "low", "high"), tuple(rows)
    )
    points = [
        (measured.names[s.subject], s.temperature, s.average, s.bleu[-1], s.self_bleu, s.div4)
        for s in measured.samples
    ]
    columns = ("model", "temperature", "bleu_average_candidate", "bleu_chosen", "self_bleu", "div4")
    own = [(measured.names[i], value) for i, value in measured.single.items()]
    data = [curve, Data("diversity-plane", columns, tuple(points))]
    if own:
        data.append(Data("diversity-deterministic", ("model", "bleu"), tuple(own)))
    return Analysis("Diversity ensures quality", tuple(draw(measured)), tuple(data), measured.notes)


def measure(subjects: Sequence[Subject], test: HeldOut, limits: Limits, progress: Progress) -> Measured:
    """Draw candidates at every temperature that a model has, and the model's own single answer."""
    samples, single, notes = [], {}, []
    for index, subject in enumerate(subjects):
        temperatures, refused = _temperatures(subject, test, limits)
        notes += refused
        for temperature in temperatures:
            settings = subject.sampling(limits.candidates, limits.seed, temperature)
            what = f"{subject.name}: candidates" + ("" if temperature is None else f" at {temperature:g}")
            with progress(what, len(test.sources)) as advance:
                answers = subject.pipe.answer_all(test.sources, settings, advance)
            groups = [test.compared(answer.candidates) for answer in answers]
            samples.append(_sample(index, temperature, groups, test))
        if subject.is_deterministic:
            own = replace(subject.own, candidates=1, seed=limits.seed)
            with progress(f"{subject.name}: own answer", len(test.sources)) as advance:
                answers = subject.pipe.answer_all(test.sources, own, advance)
            single[index] = float(test.bleu([answer.text for answer in answers]).mean())
    looks = tuple(Look.of(index, subject.family) for index, subject in enumerate(subjects))
    names, ways = tuple(s.name for s in subjects), tuple(s.own_way for s in subjects)
    return Measured(names, looks, tuple(samples), single, ways, tuple(notes))


def _temperatures(subject: Subject, test: HeldOut, limits: Limits) -> tuple[list[float | None], list[str]]:
    """Those that the model serves, and why it refuses the others. Its own one if it serves none of them."""
    served: list[float | None] = []
    notes: list[str] = []
    if subject.has_temperature:
        for temperature in limits.temperatures:
            refusal = subject.accepts(subject.sampling(2, limits.seed, temperature), test.sources[0])
            if refusal is None:
                served.append(temperature)
            else:
                notes.append(f"{subject.name} at temperature {temperature:g} is left out: {refusal}")
    if served:
        return served, notes
    refusal = subject.accepts(subject.sampling(2, limits.seed), test.sources[0])
    if refusal is not None:
        raise InputError(f"{subject.name} cannot give several candidates: {refusal}")
    return [None], notes


def _sample(subject: int, temperature: float | None, candidates: list[list[str]], test: HeldOut) -> Sample:
    groups = [(*group, reference) for group, reference in zip(candidates, test.references, strict=True)]
    matrix = pairwise_sentence_bleu(groups)  # [n k+1 k+1], the reference last
    quality = matrix[:, :-1, -1]
    curve = [chosen_of_first(matrix[:, :-1, :-1], quality, k + 1) for k in range(quality.shape[1])]
    statistics = [Statistics.of_mean(values) for values in curve]
    ends = [interval(s.resample(_CORPORA, 0)) for s in statistics]
    first = [group[:DIVERSITY_CANDIDATES] for group in candidates]
    return Sample(
        subject,
        temperature,
        tuple(s.score() for s in statistics),
        tuple(low for low, _ in ends),
        tuple(high for _, high in ends),
        float(quality.mean()),
        float(np.nanmean(self_bleu(first))),
        float(div_n(first).mean()),
    )


def chosen_of_first(
    agreement: NDArray[np.float64], quality: NDArray[np.float64], count: int
) -> NDArray[np.float64]:
    """BLEU [n] of the candidate that minimum Bayes risk chooses from the first `count`.

    agreement: BLEU between candidates [n k k]; quality: BLEU of each with the reference [n k].
    """
    picked = choose_from(agreement[:, :count, :count], [count] * len(agreement))
    return quality[np.arange(len(quality)), picked]


def draw(measured: Measured) -> list[Figure]:
    """BLEU against candidates; and two planes, against div-4 and against self-BLEU."""
    return [
        _curves(measured),
        _plane(measured, "div4", "div-4 of three candidates → more diverse"),
        _plane(measured, "self_bleu", "self-BLEU of three candidates (axis turned) → more diverse"),
    ]


def _curves(measured: Measured) -> Figure:
    with style():
        figure, axes = canvas(height=3.1)
        labels = []
        count = len(measured.samples[0].bleu)
        right = count * (1 + 0.012 * (1 + len(measured.names)))
        for index, (name, look) in enumerate(zip(measured.names, measured.looks, strict=True)):
            best = measured.best(index)
            k = range(1, len(best.bleu) + 1)
            aside = k[-1] * (1 + 0.012 * (1 + index))  # beside each other, not over each other
            axes.plot(
                [aside, aside], [best.low[-1], best.high[-1]], color=look.colour, linewidth=1.6, clip_on=False
            )
            axes.plot(k, best.bleu, color=look.colour, linestyle=look.line, linewidth=1.7)
            last, end = k[-1], best.bleu[-1]
            axes.plot(
                last, end, color=look.colour, marker=look.marker, markersize=5.5, zorder=4, clip_on=False
            )
            labels.append(Label(f"{name}{_at(best.temperature)}", right, best.bleu[-1], look.colour))
            if index in measured.single:
                value = measured.single[index]
                axes.axhline(value, color=look.colour, linewidth=1, alpha=0.75)
                labels.append(Label(f"{name}, {measured.own_ways[index]}", right, value, look.colour))
        axes.set_xticks([k for k in (1, 5, 10, 15, 20) if k < count] + [count])
        axes.set_xlim(1, count)
        rule(axes)
        axes.set_xlabel("candidates that minimum Bayes risk chooses from")
        axes.set_ylabel("BLEU of the chosen → better")
        put_labels(axes, labels)
    caption = (
        f"BLEU of the answer chosen from the first 1 to {count} candidates (with its 95 % interval at the"
        " end), each system at the best of the temperatures that were tried. A curve that climbs turns"
        " diversity into quality; a flat one has nothing to choose from. Level lines: the one answer that a"
        " system gives by its own deterministic settings, say a beam's best."
    )
    return Figure("diversity-candidates", "BLEU against candidates", caption, figure)


def _plane(measured: Measured, metric: str, axis: str) -> Figure:
    with style():
        figure, axes = canvas(height=3.1)
        labels = []
        for index, (name, look) in enumerate(zip(measured.names, measured.looks, strict=True)):
            mine = sorted((s for s in measured.samples if s.subject == index), key=lambda s: s.div4)
            x = [getattr(s, metric) for s in mine]
            chosen, average = [s.bleu[-1] for s in mine], [s.average for s in mine]
            axes.vlines(x, average, chosen, color=look.colour, linewidth=0.8, alpha=0.6)
            axes.plot(x, chosen, color=look.colour, linestyle=look.line, marker=look.marker, markersize=5.5)
            axes.plot(
                x, average, color=look.colour, linestyle="none", marker=look.marker, markersize=5, mfc="white"
            )
            labels.append(Label(name, x[-1], chosen[-1], look.colour))
        if metric == "self_bleu":
            axes.invert_xaxis()
        axes.margins(x=0.06, y=0.1)
        rule(axes)
        axes.set_xlabel(axis)
        axes.set_ylabel("BLEU → better")
        put_labels(axes, labels)
    count = len(measured.samples[0].bleu)
    caption = (
        "Quality against diversity over temperatures, colder on the left. Hollow: an average candidate;"
        f" filled: the choice out of {count}; the bar between them is what choosing is worth. Further right"
        " at the same height is more diverse at no cost."
    )
    title = "Quality against " + ("div-4" if metric == "div4" else "self-BLEU")
    return Figure(f"diversity-{metric.replace('_', '-')}", title, caption, figure)


def _at(temperature: float | None) -> str:
    return "" if temperature is None else f", T = {temperature:g}"
