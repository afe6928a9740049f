"""What `gpu.py` measures: a trained system by every way of generating, and the speed of the machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from earlier import check_same
from gpu_call import Call, Results, say
from gpu_jobs import Job

from diffuseq.answers import Answer
from diffuseq.baselines.configs import AutoregressiveGeneration, IterativeGeneration
from diffuseq.config import DiffusionGeneration
from diffuseq.data.pairs import Pair
from diffuseq.evaluation.predictions import Prediction, Predictions, write_predictions
from diffuseq.evaluation.score import score
from diffuseq.pipeline import DiffuSeqPipeline

CALLS, CANDIDATES = (1, 2, 5, 10, 20, 50), (1, 2, 5, 10, 20)

Way = tuple[str, str, dict[str, Any]]


def ways(job: Job, splits: Sequence[str], dials: bool) -> Iterator[Way]:
    """(split, name, changed settings): how the trained system generates; all but the first on valid only."""
    generation = job.config.generation
    for split in splits:
        yield split, "own settings", {}
    if isinstance(generation, AutoregressiveGeneration):
        yield "valid", "10 samples", {"candidates": 10, "strategy": "sample", "temperature": 0.7}
    elif isinstance(generation, IterativeGeneration):
        yield "valid", "10 samples", {"candidates": 10, "temperature": 0.7}
    if dials and job.dials and isinstance(generation, DiffusionGeneration):
        for count in CANDIDATES:
            yield "valid", f"{count} candidates", {"candidates": count}
        for calls in CALLS:
            yield "valid", f"{calls} calls", {"steps": calls}


def measure(
    pipe: DiffuSeqPipeline, job: Job, call: Call, split: str, changes: dict[str, Any]
) -> dict[str, Any]:
    """The scores of one way of generating; the predictions of the recipe's own are kept."""
    pairs = call.pairs(job.task, split)
    answers = answer(pipe, pairs, pipe.settings(**changes))
    if not changes:
        rows = predictions(pairs, answers).rows
        write_predictions(call.out / job.name / f"{split}.predictions.jsonl", rows)
    return scored(predictions(pairs, answers), job.task, bootstrap=0 if changes or call.dry else 1000)


def answer(pipe: DiffuSeqPipeline, pairs: Sequence[Pair], settings: Any) -> list[Answer]:
    """Answers of all sources."""
    return pipe.answer_all([pair.source for pair in pairs], settings)


def predictions(pairs: Sequence[Pair], answers: Sequence[Answer]) -> Predictions:
    """What `score` takes."""
    rows = tuple(Prediction.of(pair, answer) for pair, answer in zip(pairs, answers, strict=True))
    return Predictions("gpu", rows, ())


def scored(found: Predictions, task: str, bootstrap: int) -> dict[str, Any]:
    """Scores as plain numbers: the rows with their metrics (and intervals, where there are), and the cost."""
    scores = score(found, task, bootstrap=bootstrap)
    rows = {
        name: {
            metric: [v.value, v.low, v.high] if bootstrap and v.low is not None else v.value
            for metric, v in row.values.items()
        }
        for name, row in scores.rows.items()
    }
    return {"sources": scores.num_sources, "rows": rows, "cost": scores.cost}


def run_speed(call: Call) -> bool:
    """`diffuseq bench` on this machine."""
    from diffuseq.evaluation.speed import PARTS
    from diffuseq.evaluation.speed import measure as measure_speed
    from diffuseq.evaluation.speed.machine import describe_machine

    results, size = Results.open(call.out / "speed.json"), "tiny" if call.dry else "base"
    check_same(results.path, "dry-run", results.values.get("dry_run", call.dry), call.dry)
    results.put("dry_run", value=call.dry)
    results.put("machine", value=describe_machine(device()))
    for part in PARTS:
        if results.has("parts", part):
            continue
        if call.is_over:
            return False
        say(f"speed: {part}")
        ((_, table),) = measure_speed(size, [part], device())
        results.put("parts", part, value=table.to_dict())
    return True


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
