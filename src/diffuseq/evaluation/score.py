"""Predictions to scores: every metric for the system, a single sample, copying the source, the references.

The two last rows belong into every table: a system that does not beat copying has learned nothing, and the
references say what the best possible score is.

Legend: n sources, k candidates a source.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from diffuseq.checks import checked_whole
from diffuseq.errors import InputError, unknown_name
from diffuseq.evaluation import catalogue
from diffuseq.evaluation.measure import Measure
from diffuseq.evaluation.predictions import Predictions, check_predictions, lower_cased
from diffuseq.files import write_text
from diffuseq.metrics import significance
from diffuseq.metrics.scripts import are_foreign_to_rouge, are_unspaced
from diffuseq.metrics.significance import Statistics
from diffuseq.names import refuse_alone

MOST_CORPORA, SEEDS = 100_000, 2**63 - 1
CANDIDATES = "candidates"
_AMONG_CANDIDATES = ("self_bleu", "self_bleu_all", "div4", "div4_all")
"""How much candidates differ: nothing that a single one could have."""
_READ_ANY_SCRIPT = {"chrf", "bertscore", "copied", "exact_match", "perplexity", "mauve"}
"""Metrics that need no spaces between words."""
Case = Literal["task", "lower", "keep"]
"""Compare texts in lower case: as the task's published tables do, always, or never."""


@dataclass(frozen=True)
class Value:
    """A score with the ends of its 95 % bootstrap interval (None where the metric allows none)."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Row:
    """The scores of one way of answering. `statistics` are kept for comparisons and not written."""

    title: str
    values: dict[str, Value]
    statistics: dict[str, Statistics] = field(repr=False, compare=False)


@dataclass(frozen=True)
class Scores:
    """What `score` gives. rows: chosen, single, copy, references, and candidates (how much they vary).

    chosen: the answer to each source.
    """

    name: str
    task: str
    files: tuple[str, ...]
    num_sources: int
    num_candidates: int
    num_references: tuple[int, int]
    signatures: dict[str, str]
    rows: dict[str, Row]
    warnings: tuple[str, ...]
    cost: dict[str, float | None]
    bootstrap: int
    seed: int
    chosen: tuple[str, ...] = field(repr=False)

    def value(self, row: str, metric: str) -> float | None:
        """One number, or None where it was not measured."""
        found = self.rows[row].values.get(metric) if row in self.rows else None
        return None if found is None else found.value

    def to_dict(self) -> dict[str, Any]:
        """The contents of scores.json."""
        return {
            "format": 1,
            "name": self.name,
            "task": self.task,
            "files": list(self.files),
            "sources": self.num_sources,
            "candidates": self.num_candidates,
            "references": {"fewest": self.num_references[0], "most": self.num_references[1]},
            "intervals": f"95 %, paired bootstrap, {self.bootstrap} corpora, seed {self.seed}"
            if self.bootstrap
            else "none",
            "warnings": list(self.warnings),
            "cost": self.cost,
            "metrics": {
                name: {**_described(catalogue.METRICS[name]), "signature": signature}
                for name, signature in self.signatures.items()
            },
            "rows": {
                name: {
                    "title": row.title,
                    "scores": {metric: asdict(value) for metric, value in row.values.items()},
                }
                for name, row in self.rows.items()
            },
        }

    def write(self, path: Path) -> None:
        """Write scores.json in one piece."""
        write_text(path, json.dumps(self.to_dict(), ensure_ascii=False, indent=1) + "\n")


def score(
    predictions: Predictions,
    task: str | None = None,
    metrics: Sequence[str] | None = None,
    bertscore_model: str | None = None,
    bertscore_layer: int | None = None,
    language_model: str | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    device: str = "cpu",
    case: Case = "task",
) -> Scores:
    """Score the predictions of one system.

    task: a task or data set name, for its extra metrics (SARI for simplification). metrics: names of
    `catalogue.METRICS`; None takes all that need no network, and with a model those that need it.
    bootstrap: resampled corpora for the intervals, 0 for none. Raises `InputError` for unknown names and
    for a metric that was asked for and whose model or library is missing; one that compares candidates is left
    out with a warning where a source has one. Every signature says so where all texts were put in
    lower case.
    """
    check_predictions(predictions)
    bootstrap = checked_whole("bootstrap", bootstrap, 0, MOST_CORPORA)
    seed = checked_whole("seed", seed, -SEEDS, SEEDS)
    refuse_alone(metrics, "metrics")
    if metrics is not None and not metrics:
        raise InputError("No metric is named; name one or more, or leave the choice out.")
    if case not in get_args(Case):
        raise unknown_name("case", case, get_args(Case))
    chosen_task = catalogue.find_task(task)
    lowercase = chosen_task.lowercase if case == "task" else case == "lower"
    predictions = lower_cased(predictions) if lowercase else predictions
    wanted, warnings = _wanted(predictions, chosen_task, metrics, bertscore_model, language_model)
    _check_networks(wanted, bertscore_model, bertscore_layer, language_model)
    measure = Measure(predictions, bertscore_model, bertscore_layer, language_model, seed, device)
    text_metrics = [metric.name for metric in wanted if metric.group == "text"]
    rows = {
        name: _row(title, {metric: answers(metric) for metric in text_metrics}, bootstrap, seed)
        for name, title, answers in measure.answers()
    }
    size = len(predictions.rows[0].candidates)
    candidates = {
        metric.name: measure.of_candidates(metric.name)
        for metric in wanted
        if metric.group == "set" and (size > 1 or metric.name not in _AMONG_CANDIDATES)
    }
    rows[CANDIDATES] = _row(f"all {size} candidates", candidates, bootstrap, seed)
    counts = [len(row.references) for row in predictions.rows]
    return Scores(
        name=predictions.name,
        task=chosen_task.name,
        files=tuple(str(file) for file in predictions.files),
        num_sources=len(predictions.rows),
        num_candidates=size,
        num_references=(min(counts), max(counts)),
        signatures={
            metric.name: measure.signature(metric.name) + ("|texts:lower-cased" if lowercase else "")
            for metric in wanted
        },
        rows=rows,
        warnings=(*predictions.warnings, *warnings, *_blind_to(predictions, wanted)),
        cost={
            "forwards": _mean([row.forwards for row in predictions.rows]),
            "seconds_per_source": _mean([row.seconds for row in predictions.rows]),
        },
        bootstrap=bootstrap,
        seed=seed,
        chosen=tuple(measure.chosen),
    )


def _row(title: str, measured: Mapping[str, Statistics | float], bootstrap: int, seed: int) -> Row:
    values, statistics = {}, {}
    for metric, found in measured.items():
        if isinstance(found, float):
            values[metric] = Value(found)
            continue
        statistics[metric] = found
        ends = significance.interval(found.resample(bootstrap, seed)) if bootstrap else (None, None)
        values[metric] = Value(found.score(), *ends)
    return Row(title, values, statistics)


def _wanted(
    predictions: Predictions,
    task: catalogue.Task,
    names: Sequence[str] | None,
    bertscore_model: str | None,
    language_model: str | None,
) -> tuple[list[catalogue.Metric], list[str]]:
    """The metrics to measure, and what has to be said about those that are left out."""
    several = any(len(row.references) > 1 for row in predictions.rows)
    library = find_spec("sacrebleu") is not None
    if names is not None:
        wanted = catalogue.find_metrics(list(names))
        if language_model is None and any(metric.needs == "language model" for metric in wanted):
            raise InputError("Perplexity and MAUVE need a language model; name one with --language-model.")
        return wanted, _without_candidates(predictions, wanted)
    has = {
        "": True,
        "several references": several,
        "sacrebleu": library,
        "encoder": bertscore_model is not None,
        "language model": language_model is not None,
    }
    wanted = [
        metric
        for metric in catalogue.METRICS.values()
        if has[metric.needs] and (metric.name != "sari" or "sari" in task.extra)
    ]
    if library:
        return wanted, []
    return wanted, ["sacreBLEU, chrF and SARI were left out; `pip install diffuseq[metrics]` adds them."]


def _check_networks(
    wanted: Sequence[catalogue.Metric],
    bertscore_model: str | None,
    bertscore_layer: int | None,
    language_model: str | None,
) -> None:
    """Raise `InputError` for a network, or a layer of one, that no metric asks for."""
    needs = {metric.needs for metric in wanted}
    for name, value, need, metrics in (
        ("bertscore_model", bertscore_model, "encoder", "bertscore"),
        ("bertscore_layer", bertscore_layer, "encoder", "bertscore"),
        ("language_model", language_model, "language model", "perplexity or mauve"),
    ):
        if value is not None and need not in needs:
            raise InputError(
                f"{name} is {value}, but nothing that is measured needs it; add {metrics} to the metrics, or leave "
                "it out."
            )


def _without_candidates(predictions: Predictions, wanted: Sequence[catalogue.Metric]) -> list[str]:
    """Which of the metrics that were asked for a single candidate a source does not have, in words."""
    missing = [metric.title for metric in wanted if metric.name in _AMONG_CANDIDATES]
    if not missing or len(predictions.rows[0].candidates) > 1:
        return []
    return [f"Left out, for a source has one candidate alone: {', '.join(missing)}."]


def _blind_to(predictions: Predictions, wanted: Sequence[catalogue.Metric]) -> list[str]:
    """Which metrics see little of the script that the references are in."""
    references = [row.references[0] for row in predictions.rows]
    names, notes = {metric.name for metric in wanted}, []
    if are_unspaced(references) and names - _READ_ANY_SCRIPT:
        notes.append(
            "The references have no spaces between words, so that what counts words (BLEU, sacreBLEU, dist, div, "
            "length) takes whole texts for one: go by chrF and exact match, or put blanks between the words."
        )
    if are_foreign_to_rouge(references) and names & {"rouge1", "rouge2", "rougeL"}:
        notes.append(
            "ROUGE counts words of a–z and 0–9 alone, and most letters of the references are others: leave it out."
        )
    return notes


def _described(metric: catalogue.Metric) -> dict[str, str]:
    keys = ("title", "definition", "settings", "source", "better")
    return {key: str(getattr(metric, key)) for key in keys}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
