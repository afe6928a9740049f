"""Step by step: the texts on their way, how good and how diverse they are, and when each word settles.

Gong et al. (ICLR 2023), Section 4.4: diffusion against iterative non-autoregressive systems, whose steps are
laid over each other as 0 to 100 % of the generation.

Legend: n sources, k candidates a source, l places of a text, t steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from diffuseq.answers import TextDraft
from diffuseq.evaluation.analyses.drawing import Label, Look, file_names, put_labels, rule
from diffuseq.evaluation.analyses.result import Analysis, Data, Limits, Progress
from diffuseq.evaluation.analyses.subjects import HeldOut, Subject
from diffuseq.evaluation.catalogue import DIVERSITY_CANDIDATES
from diffuseq.evaluation.plots import INK, QUIET, Figure, canvas, style
from diffuseq.metrics.bleu import sentence_bleu
from diffuseq.metrics.diversity import div_n
from diffuseq.system import Draft

MOST_STEPS = 50
"""Of a longer generation so many drafts are looked at, evenly spread."""
SHOWN_STEPS = 10
"""Columns of a heat map."""
SHOWN_WORDS = (6, 16)
"""Length of the answer that a heat map shows, in tokens: from, to."""
PARTS = 10
"""Parts that an answer is cut into for the mean settling time."""


@dataclass(frozen=True)
class Example:
    """One generation: the answer's words, and for each looked-at step the words that stood in their places
    and the confidence in them (both [t l]), the share of the way (t), and when each word settled (l)."""

    source: str
    words: tuple[str, ...]
    drafts: tuple[tuple[str, ...], ...]
    settled: tuple[float, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True)
class Course:
    """How a model's texts develop. shares: of the way, in 0…1; bleu: of an average candidate; div4: of three
    (None while there is hardly a text of four words).

    settling: mean share of the way at which a word came to stay, by tenths of the answer from its beginning
    (None for a tenth without words).
    """

    name: str
    look: Look
    shares: tuple[float, ...]
    bleu: tuple[float, ...]
    div4: tuple[float | None, ...]
    settling: tuple[float | None, ...]
    example: Example | None


def analyse(subjects: Sequence[Subject], test: HeldOut, limits: Limits, progress: Progress) -> Analysis:
    """Measure and draw."""
    courses = measure(subjects, test, limits, progress)
    development = [
        (course.name, 100 * share, bleu, div4)
        for course in courses
        for share, bleu, div4 in zip(course.shares, course.bleu, course.div4, strict=True)
    ]
    settling = [
        (course.name, 100 * (part + 0.5) / PARTS, None if share is None else 100 * share)
        for course in courses
        for part, share in enumerate(course.settling)
    ]
    words = [
        (course.name, place + 1, word, 100 * course.example.settled[place])
        for course in courses
        if course.example is not None
        for place, word in enumerate(course.example.words)
    ]
    data = (
        Data("steps-development", ("model", "percent_of_steps", "bleu", "div4"), tuple(development)),
        Data("steps-settling", ("model", "percent_of_answer", "settled_at_percent"), tuple(settling)),
        Data("steps-example", ("model", "place", "word", "settled_at_percent"), tuple(words)),
    )
    return Analysis("Step by step", tuple(draw(courses)), data)


def measure(subjects: Sequence[Subject], test: HeldOut, limits: Limits, progress: Progress) -> list[Course]:
    """Follow every model on its way; three candidates a source, by settings that make them differ."""
    recordings = []
    for subject in subjects:
        with progress(f"{subject.name}: step by step", len(test.sources)) as advance:
            recordings.append(_record(subject, test, limits.seed, advance))
    shown = _row_to_show(recordings)
    return [
        _course(subject.name, Look.of(index, subject.family), recording, test, shown)
        for index, (subject, recording) in enumerate(zip(subjects, recordings, strict=True))
    ]


@dataclass(frozen=True)
class Recording:
    """What is kept of a generation: by batch the looked-at drafts in text with their share of the way, and
    for every candidate when each of its words settled."""

    batches: list[list[list[TextDraft]]]  # [batch][t][sources of the batch]
    shares: list[float]
    settled: list[NDArray[np.float64]]  # of every candidate, [l], in 0…1


def _record(subject: Subject, test: HeldOut, seed: int, advance: Callable[[int], None]) -> Recording:
    settings = subject.sampling(DIVERSITY_CANDIDATES, seed)
    prompts = subject.pipe.prepare(test.sources, settings)
    kept: list[list[list[TextDraft]]] = []
    marks: list[list[int]] = []
    raw: list[tuple[list[NDArray[np.int64]], int]] = []
    for start in range(0, len(prompts), settings.batch_size):
        batch = prompts[start : start + settings.batch_size]
        texts, indices, tokens, count = [], [], [], 0
        for draft, is_kept in _thinned(subject.pipe.run(batch, settings)):
            count += 1
            tokens.append(_places(draft))
            if is_kept:
                texts.append(subject.pipe.readable(draft, batch))
                indices.append(count)
        kept.append(texts)
        marks.append(indices)
        raw.append((tokens, count))
        advance(len(batch))
    steps = max(count for _, count in raw)
    longest = max(marks, key=lambda indices: (indices[-1], len(indices)))
    aligned = [_held(texts, indices, longest) for texts, indices in zip(kept, marks, strict=True)]
    settled = [row for tokens, _ in raw for row in settling_steps(tokens)]
    return Recording(aligned, [index / steps for index in longest], [row / steps for row in settled])


def _thinned(drafts: Iterator[Draft]) -> Iterator[tuple[Draft, bool]]:
    """Every draft, and whether it is one of the at most `MOST_STEPS` + 1 to be looked at; the last one is."""
    before: Draft | None = None
    due = False
    for draft in drafts:
        if before is not None:
            yield before, due
        before = draft
        share, last = draft.total / MOST_STEPS, draft.index
        due = share <= 1 or int((last + 1) / share) > int(last / share)
    if before is not None:
        yield before, True


def _held(texts: list[list[TextDraft]], indices: list[int], wanted: list[int]) -> list[list[TextDraft]]:
    """The draft that stood at each of the `wanted` steps; a batch that ended early keeps its answer."""
    places = np.searchsorted(indices, wanted, side="right") - 1
    return [texts[max(0, place)] for place in places]


def _places(draft: Draft) -> NDArray[np.int64]:
    """Ids [n·k l], −1 past the end of an answer."""
    ids: NDArray[np.int64] = torch.where(draft.padding, -1, draft.tokens).cpu().numpy()
    return ids


def settling_steps(drafts: Sequence[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
    """For every text the step (from 1) at which each place came to hold its final word for good.

    drafts: ids [rows l] after each step, −1 where there is no word; l may differ from step to step.
    """
    final = drafts[-1]
    step = np.full(final.shape, len(drafts))
    still = np.ones(final.shape, dtype=bool)
    for number in range(len(drafts) - 1, 0, -1):
        still &= _as_wide(drafts[number - 1], final.shape[1]) == final
        step[still] = number
    return [row[ids >= 0] for row, ids in zip(step, final, strict=True)]


def _as_wide(ids: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    short = max(0, width - ids.shape[1])
    return np.pad(ids, ((0, 0), (0, short)), constant_values=-2)[:, :width]


def _row_to_show(recordings: Sequence[Recording]) -> int | None:
    """The first source for which all models' answers have a length that can be shown."""
    fewest, most = SHOWN_WORDS
    lengths = [
        [len(draft.words) for batch in recording.batches for draft in batch[-1]] for recording in recordings
    ]
    rows = range(len(lengths[0]))
    fits = (row for row in rows if all(fewest <= by_row[row] <= most for by_row in lengths))
    anything = (row for row in rows if all(0 < by_row[row] <= 2 * most for by_row in lengths))
    return next(fits, next(anything, None))


def _course(name: str, look: Look, recording: Recording, test: HeldOut, shown: int | None) -> Course:
    bleu: list[float] = []
    div4: list[float | None] = []
    for t in range(len(recording.shares)):
        groups = [test.compared(draft.texts) for batch in recording.batches for draft in batch[t]]
        flat = [text for group in groups for text in group]
        references = [r for r, group in zip(test.references, groups, strict=True) for _ in group]
        bleu.append(float(sentence_bleu(flat, references).mean()))
        div4.append(_diversity(groups))
    example = None if shown is None else _example(recording, test, shown)
    return Course(
        name, look, tuple(recording.shares), tuple(bleu), tuple(div4), _by_part(recording.settled), example
    )


def _diversity(groups: Sequence[Sequence[str]]) -> float | None:
    """div-4; None while more than half of the sources have no candidate of four words yet."""
    empty = sum(all(len(text.split()) < 4 for text in group) for group in groups)
    return None if empty > len(groups) / 2 else float(div_n(groups).mean())


def _by_part(settled: Sequence[NDArray[np.float64]]) -> tuple[float | None, ...]:
    """The mean over the words of each tenth of the answers."""
    part = np.concatenate([np.arange(len(row)) * PARTS // max(1, len(row)) for row in settled])
    values = np.concatenate(settled)
    return tuple(float(values[part == p].mean()) if (part == p).any() else None for p in range(PARTS))


def _example(recording: Recording, test: HeldOut, row: int) -> Example:
    """The first candidate of a source."""
    drafts = [
        [draft for batch in recording.batches for draft in batch[t]][row]
        for t in range(len(recording.shares))
    ]
    words = tuple(word.strip() for word in drafts[-1].words)
    settled = recording.settled[row * DIVERSITY_CANDIDATES]
    columns = np.unique(np.linspace(0, len(drafts) - 1, min(SHOWN_STEPS, len(drafts))).round().astype(int))
    shown = tuple(
        tuple(drafts[t].words[i].strip() if i < len(drafts[t].words) else "" for i in range(len(words)))
        for t in columns
    )
    shares = tuple(recording.shares[t] for t in columns)
    return Example(test.sources[row], words, shown, tuple(float(s) for s in settled), shares)


def draw(courses: Sequence[Course]) -> list[Figure]:
    """BLEU and div-4 along the way, settling by position, and a heat map for each model; without those for which
    the answers of all models are too short."""
    figures = [_development(courses, "bleu", "BLEU of an average candidate")]
    if any(value is not None for course in courses for value in course.div4):
        figures.append(_development(courses, "div4", "div-4 of three candidates"))
    if any(value is not None for course in courses for value in course.settling):
        figures.append(_settling(courses))
    names = file_names([course.name for course in courses])
    return figures + [
        _heat_map(course, course.example, f"steps-words-{name}")
        for course, name in zip(courses, names, strict=True)
        if course.example is not None
    ]


def _development(courses: Sequence[Course], metric: str, axis: str) -> Figure:
    with style():
        figure, axes = canvas(height=2.9)
        labels = []
        for course in courses:
            pairs = zip(course.shares, getattr(course, metric), strict=True)
            points = [(100 * x, y) for x, y in pairs if y is not None]
            if not points:  # no answer is long enough to be measured
                continue
            shares, values = zip(*points, strict=True)
            look = course.look
            marker = look.marker if len(shares) <= 20 else ""
            axes.plot(
                shares,
                values,
                color=look.colour,
                linestyle=look.line,
                marker=marker,
                markersize=4,
                clip_on=False,
            )
            labels.append(Label(course.name, 100, values[-1], look.colour))
        axes.set_xlim(0, 100)
        rule(axes)
        axes.set_xlabel("share of the steps, %")
        axes.set_ylabel(axis)
        put_labels(axes, labels)
    short = "BLEU" if metric == "bleu" else "div-4"
    caption = {
        "bleu": "BLEU of the texts as they stand after each step. A curve that is high early has a readable"
        " answer long before it ends; one that climbs to the end needs all its steps.",
        "div4": "How different three candidates of a source are on their way (⅓: all alike). Diversity that"
        " falls is spent on agreement; where it stays while BLEU climbs, candidates improve and yet differ.",
    }[metric]
    return Figure(f"steps-{short.lower().replace('-', '')}", f"{short} along the generation", caption, figure)


def _settling(courses: Sequence[Course]) -> Figure:
    places = [100 * (part + 0.5) / PARTS for part in range(PARTS)]
    with style():
        figure, axes = canvas(height=2.9)
        labels = []
        for course in courses:
            points = [(x, 100 * y) for x, y in zip(places, course.settling, strict=True) if y is not None]
            if not points:  # all answers are empty
                continue
            look = course.look
            axes.plot(
                *zip(*points, strict=True),
                color=look.colour,
                linestyle=look.line,
                marker=look.marker,
                markersize=4,
            )
            labels.append(Label(course.name, points[-1][0], points[-1][1], look.colour))
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 104)
        rule(axes)
        axes.set_xlabel("position in the answer, % (beginning to end)")
        axes.set_ylabel("word settled at, % of the steps")
        put_labels(axes, labels)
    caption = (
        "When a word comes to stay, by its position in the answer: the mean share of the steps after which"
        " its place no longer changes. A level line settles everywhere at once; a rising one writes from left"
        " to right. Places of a system that inserts words are those of its final text."
    )
    return Figure("steps-settling", "When words settle, by position", caption, figure)


def _heat_map(course: Course, example: Example, name: str) -> Figure:
    """Steps across, the answer's words down; coloured where a place holds its final word for good."""
    steps, count = len(example.shares), len(example.words)
    with style():
        figure, axes = canvas(height=0.75 + 0.2 * count)
        grid = np.array([[share >= when - 1e-9 for share in example.shares] for when in example.settled])
        order = np.array([[when] * steps for when in example.settled])
        colours = np.where(grid, 0.25 + 0.6 * (1 - order), 0.0)
        axes.imshow(colours, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for place in range(count):
            for t in range(steps):
                is_dark = colours[place, t] > 0.55
                shade = "white" if is_dark else INK if grid[place, t] else QUIET
                word = _short(example.drafts[t][place], 9 if steps > 8 else 12)
                axes.text(t, place, word, ha="center", va="center", fontsize=5.2, color=shade, clip_on=True)
        axes.set_xticks(range(steps), [f"{100 * share:.0f} %" for share in example.shares], fontsize=7)
        axes.set_yticks(range(count), [str(place + 1) for place in range(count)])
        axes.tick_params(length=0)
        axes.set_xlabel("share of the steps")
        axes.set_ylabel("place in the answer")
    caption = (
        f"How {course.name} answers “{example.source}”: each row is a place of the answer, each column a"
        " step; blue is where the place already holds its final word for good (the earlier, the darker),"
        " white where the word still changes."
    )
    return Figure(name, f"When each word settles: {course.name}", caption, figure)


def _short(word: str, most: int) -> str:
    return word if len(word) <= most else word[: most - 1] + "…"
