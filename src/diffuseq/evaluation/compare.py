"""Several systems side by side: the same test sets, paired, with what is best and what may be chance.

A `Comparison` is plain data; `report` writes it down and `plots` draws it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from diffuseq.errors import InputError
from diffuseq.evaluation import catalogue
from diffuseq.evaluation.measure import CHOSEN, COPY
from diffuseq.evaluation.names import names_of_places, split_name
from diffuseq.evaluation.predictions import (
    FILE_NAME,
    Predictions,
    letters,
    other_references,
    read_predictions,
)
from diffuseq.evaluation.score import CANDIDATES, Case, Scores, Value, score
from diffuseq.files import read_text
from diffuseq.metrics.significance import holm, p_value
from diffuseq.names import refuse_alone

SIGNIFICANT = 0.05
_EXAMPLES = 6


@dataclass(frozen=True)
class Run:
    """One system on one test set, as the user named it. task: None if no task was named."""

    name: str
    path: Path
    task: str | None = None

    @classmethod
    def parse(cls, text: str) -> Run:
        """`PATH`, `NAME=PATH` or `TASK:NAME=PATH`."""
        return parse_runs([text])[0]


def parse_runs(texts: Sequence[str]) -> list[Run]:
    """The runs of `PATH`, `NAME=PATH` or `TASK:NAME=PATH`; those without a name have names that tell them apart."""
    given = [split_name(text) for text in texts]
    unnamed = [_place(Path(path)) for name, path in given if name is None]
    made = iter(names_of_places(unnamed))
    runs = []
    for label, path in given:
        task, colon, name = ("", "", next(made)) if label is None else label.rpartition(":")
        if not name.strip():
            raise InputError(f"The run {path} has no name behind its task; write TASK:NAME=PATH.")
        runs.append(Run(name, Path(path), task if colon else None))
    return runs


def _place(path: Path) -> Path:
    """What a run without a name is called by: its folder, or its file where that has a name of its own."""
    if path.name == FILE_NAME:
        return path.parent
    return path.with_suffix("") if path.is_file() else path


@dataclass(frozen=True)
class Entry:
    """A scored system. training: the contents of training.json, where the run has one."""

    name: str
    predictions: Predictions
    scores: Scores
    training: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Block:
    """The systems on one test set.

    columns: metric names. best: for each column the index of the best entry, the first of equals. worse: (entry,
    column) pairs that are significantly worse than the best. p_values: [entries][entries + 1] for `headline`, each
    entry against each other and, last, against copying; not adjusted. examples: (source, reference, answers).
    warnings: what the systems were not measured alike in.
    """

    title: str
    task: catalogue.Task
    entries: tuple[Entry, ...]
    columns: tuple[str, ...]
    headline: str
    best: dict[str, int]
    worse: frozenset[tuple[int, str]]
    p_values: tuple[tuple[float | None, ...], ...]
    examples: tuple[tuple[str, str, tuple[str, ...]], ...]
    warnings: tuple[str, ...] = ()

    def value(self, entry: int, metric: str, row: str = CHOSEN) -> Value | None:
        """A system's score; metrics of the set of candidates are found wherever they are."""
        return self.entries[entry].scores.rows[_row_of(metric, row)].values.get(metric)

    def is_best(self, entry: int, metric: str) -> bool:
        """Whether no entry has a better value."""
        found = self.best.get(metric)
        return found is not None and _value(self.entries[entry], metric) == _value(
            self.entries[found], metric
        )


@dataclass(frozen=True)
class Comparison:
    """All test sets, and the settings of the bootstrap."""

    blocks: tuple[Block, ...]
    bootstrap: int
    seed: int


def compare(
    runs: Sequence[Run | str | Path],
    task: str | None = None,
    metrics: Sequence[str] | None = None,
    bertscore_model: str | None = None,
    bertscore_layer: int | None = None,
    language_model: str | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    device: str = "cpu",
    case: Case = "task",
) -> Comparison:
    """Score all runs and compare those of one test set pairwise.

    runs: `Run`s, or paths, which may have names as `parse_runs` reads them. metrics: the columns of the tables in
    their order, the first of which decides who leads; None takes the task's. Runs belong to one block if they name
    the same task or, where none is named, answer the same sources.
    Raises `InputError` when runs of one block do not have the same sources in the same order, or different names.
    """
    refuse_alone(runs, "runs")
    if not runs:
        raise InputError("Nothing to compare; name at least one run.")
    read = [(run, read_predictions(run.path, name=run.name)) for run in _as_runs(runs)]
    blocks = []
    groups = _group(read, task)
    for label, members in groups.items():
        _check_names([run.name for run, _ in members])
        _check_alignment([predictions for _, predictions in members])
        named = members[0][0].task or task
        entries = tuple(
            Entry(
                run.name,
                predictions,
                score(
                    predictions,
                    task=named,
                    metrics=metrics,
                    bertscore_model=bertscore_model,
                    bertscore_layer=bertscore_layer,
                    language_model=language_model,
                    bootstrap=bootstrap,
                    seed=seed,
                    device=device,
                    case=case,
                ),
                read_training(run.path),
            )
            for run, predictions in members
        )
        block = _block(label, catalogue.find_task(named), entries, metrics, bootstrap, seed)
        apart = [] if named else _apart(label, groups, task)
        blocks.append(replace(block, warnings=(*apart, *block.warnings)))
    return Comparison(tuple(blocks), bootstrap, seed)


def _as_runs(runs: Sequence[Run | str | Path]) -> list[Run]:
    """The runs with those that are given as texts or paths read by `parse_runs`."""
    named = iter(parse_runs([os.fspath(run) for run in runs if isinstance(run, str | os.PathLike)]))
    found = []
    for run in runs:
        if not isinstance(run, Run | str | os.PathLike):
            raise InputError(f"A run is of the type {type(run).__name__}; give a Run, or a path.")
        found.append(replace(run, path=Path(run.path)) if isinstance(run, Run) else next(named))
    return found


def read_training(path: Path) -> dict[str, Any]:
    """The training.json of the run that predictions belong to: beside them, or a folder above; empty
    where there is none. Raises `InputError` for one that is not JSON."""
    folder = path if path.is_dir() else path.parent
    for place in (folder, folder / "model", folder.parent):
        file = place / "training.json"
        if file.is_file():
            try:
                found = json.loads(read_text(file))
            except (OSError, ValueError, RecursionError):
                raise InputError(f"{file} is not JSON; train again or remove it.") from None
            return found if isinstance(found, dict) else {}
    return {}


def _group(
    read: Sequence[tuple[Run, Predictions]], task: str | None
) -> dict[str, list[tuple[Run, Predictions]]]:
    """Runs by test set: by the task they name, else by their sources."""
    groups: dict[str, list[tuple[Run, Predictions]]] = {}
    unnamed: dict[tuple[str, ...], str] = {}
    for run, predictions in read:
        if run.task or task:
            label = catalogue.find_task(run.task or task).title
            label = label if label != "Other" else run.task or task or label
        else:
            key = tuple(sorted(map(letters, predictions.sources)))
            label = unnamed.setdefault(key, f"Test set {len(unnamed) + 1}")
        groups.setdefault(label, []).append((run, predictions))
    return groups


def _apart(label: str, groups: dict[str, list[tuple[Run, Predictions]]], task: str | None) -> list[str]:
    """A sentence where runs without a task are not compared with others without one, which answer other sources."""
    others = [
        (run.name, predictions)
        for other, members in groups.items()
        for run, predictions in members
        if other != label and not (run.task or task)
    ]
    if not others:
        return []
    own, names = set(map(letters, groups[label][0][1].sources)), ", ".join(name for name, _ in others)
    shared = max(len(own & set(map(letters, predictions.sources))) for _, predictions in others)
    return [
        f"Not compared with {names}, for the sources are others ({shared:,} of {len(own):,} are the same); answer "
        "one test set with all runs to compare them."
    ]


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"Two runs on one test set are called {name!r}; tell them apart by NAME=PATH.")


def _check_alignment(group: Sequence[Predictions]) -> None:
    first = group[0]
    for other in group[1:]:
        if len(other.rows) != len(first.rows):
            raise InputError(
                f"{other.files[0]} has {len(other.rows)} rows, but {first.files[0]} has {len(first.rows)};"
                " a comparison needs the same test set (name the task of a run as TASK:NAME=PATH)."
            )
        for number, (ours, theirs) in enumerate(zip(first.sources, other.sources, strict=True), start=1):
            if letters(ours) != letters(theirs):
                raise InputError(
                    f"{other.files[0]}:{number}: the source differs from row {number} of {first.files[0]};"
                    " a comparison needs the same sources in the same order."
                )


def _block(
    title: str,
    task: catalogue.Task,
    entries: tuple[Entry, ...],
    metrics: Sequence[str] | None,
    bootstrap: int,
    seed: int,
) -> Block:
    measured = {name for entry in entries for row in entry.scores.rows.values() for name in row.values}
    wanted = task.columns if metrics is None else dict.fromkeys(metrics)
    columns = tuple(name for name in wanted if name in measured)
    if not columns:
        raise InputError(
            f"{title}: none of the named metrics is to be had of one candidate a source; name another, say bleu."
        )
    headline = columns[0]
    best, worse = {}, set()
    for metric in columns:
        found = _best(entries, metric)
        if found is None:
            continue
        best[metric] = found
        rivals = [i for i in range(len(entries)) if i != found and _statistics(entries[i], metric)]
        if not bootstrap or not _statistics(entries[found], metric):
            continue
        chances = [_p(entries[i], entries[found], metric, bootstrap, seed) for i in rivals]
        adjusted = holm([chance for chance in chances if chance is not None])
        worse |= {(i, metric) for i, p in zip(rivals, adjusted, strict=True) if p < SIGNIFICANT}
    p_values = tuple(
        tuple(
            None if i == j else _p(entry, entries[j] if j < len(entries) else None, headline, bootstrap, seed)
            for j in range(len(entries) + 1)
        )
        for i, entry in enumerate(entries)
    )
    return Block(
        title,
        task,
        entries,
        columns,
        headline,
        best,
        frozenset(worse),
        p_values,
        _examples(entries),
        tuple(_warnings(entries, columns)),
    )


def _warnings(entries: Sequence[Entry], columns: Sequence[str]) -> Iterator[str]:
    first = entries[0]
    for entry in entries[1:]:
        if differing := other_references(first.predictions, entry.predictions):
            yield (
                f"{entry.name} has other references than {first.name} in {differing:,} of"
                f" {len(entry.predictions.rows):,} rows; scores against different references say little about who"
                " is better."
            )
    unlike = [catalogue.METRICS[name].title for name in columns if not _is_alike(entries, name)]
    if unlike:
        yield (
            f"Not measured alike, and so not compared: {', '.join(unlike)} (numbers of candidates or references"
            " differ; the signatures say which)."
        )


def _is_alike(entries: Sequence[Entry], metric: str) -> bool:
    """Whether all entries that have a metric have it by one signature."""
    return len({e.scores.signatures[metric] for e in entries if _value(e, metric) is not None}) <= 1


def _best(entries: Sequence[Entry], metric: str) -> int | None:
    """The entry with the best value; None where no way is better, numbers are not comparable, or there is nobody to
    beat."""
    better = catalogue.METRICS[metric].better
    values = [_value(entry, metric) for entry in entries]
    known = [i for i, value in enumerate(values) if value is not None]
    if better == "neither" or len(known) < 2 or not _is_alike(entries, metric):
        return None
    sign = 1 if better == "higher" else -1
    return max(known, key=lambda i: sign * (values[i] or 0.0))


def _value(entry: Entry, metric: str) -> float | None:
    return entry.scores.value(_row_of(metric, CHOSEN), metric)


def _statistics(entry: Entry, metric: str, row: str = CHOSEN) -> Any:
    return entry.scores.rows[_row_of(metric, row)].statistics.get(metric)


def _row_of(metric: str, row: str) -> str:
    """The row of the scores that has a metric which is asked of `row`: one of the set of candidates has its own."""
    return CANDIDATES if catalogue.METRICS[metric].group == "set" else row


def _p(entry: Entry, other: Entry | None, metric: str, bootstrap: int, seed: int) -> float | None:
    """The p-value between two systems, or between a system and copying (`other` None), which has no candidates."""
    ours = _statistics(entry, metric)
    theirs = _statistics(other, metric) if other else _statistics(entry, metric, COPY)
    if ours is None or theirs is None or not bootstrap:
        return None
    if other is None and catalogue.METRICS[metric].group == "set":
        return None
    if other is not None and not _is_alike((entry, other), metric):
        return None
    return p_value(ours, theirs, bootstrap, seed)


def _examples(entries: Sequence[Entry]) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """Rows at even distances through the test set, with everybody's answer."""
    rows = entries[0].predictions.rows
    count = min(_EXAMPLES, len(rows))
    picked = [(2 * i + 1) * len(rows) // (2 * count) for i in range(count)]
    return tuple(
        (
            rows[i].source.strip(),
            rows[i].references[0].strip(),
            tuple(entry.scores.chosen[i].strip() for entry in entries),
        )
        for i in picked
    )
