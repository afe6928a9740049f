"""Our numbers against those that the published evaluation script prints: edge cases, and real outputs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from diffuseq.evaluation.predictions import read_predictions
from diffuseq.evaluation.score import CANDIDATES, score
from diffuseq.metrics import diversity
from diffuseq.metrics.bleu import sentence_bleu
from diffuseq.metrics.rouge import rouge_l

HERE = Path(__file__).parent
NAMES = {"len": "length_published"}
METRICS = ("bleu", "bleu_swapped", "rougeL", "dist1", "length_published", "self_bleu", "div4")


REFERENCE = "DIFFUSEQ_REFERENCE"
FOLDERS = ["metrics", pytest.param("system-outputs", marks=pytest.mark.real_data)]


def place(folder: str) -> Path:
    """metrics/ stands beside this file; the outputs of a real system are not ours to ship."""
    if folder == "metrics":
        return HERE / folder
    if REFERENCE not in os.environ:
        pytest.skip(f"set {REFERENCE} to the folder with system-outputs/ (three seeds and expected.json)")
    return Path(os.environ[REFERENCE]) / folder


def expected(folder: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((place(folder) / "expected.json").read_text())
    return values


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_seed_scores_what_the_published_script_prints(folder: str) -> None:
    numbers = expected(folder)
    predictions = read_predictions(place(folder))
    references = [row.references[0] for row in predictions.rows]
    for seed, recorded in enumerate(numbers.get("files") or numbers["per_seed"]):
        texts = [row.candidates[seed] for row in predictions.rows]
        ours = {
            "bleu": sentence_bleu(texts, references).mean(),
            "bleu_swapped": sentence_bleu(references, texts).mean(),
            "rougeL": rouge_l(texts, references).mean(),
            "dist1": diversity.dist_n(texts, 1).mean(),
            "len": diversity.published_length(texts).mean(),
        }
        assert {name: ours[name] for name in recorded} == pytest.approx(recorded, abs=1e-6)


@pytest.mark.parametrize("folder", FOLDERS)
def test_mbr_and_diversity_are_those_of_the_published_script(folder: str) -> None:
    numbers = expected(folder)
    scores = score(read_predictions(place(folder)), metrics=METRICS, bootstrap=0)
    recorded = {name: value for name, value in numbers["mbr"].items() if name != "selected"}
    ours = {name: scores.value("chosen", NAMES.get(name, name)) for name in recorded}
    assert ours == pytest.approx(recorded, abs=1e-6)
    spread = (scores.value(CANDIDATES, "self_bleu"), scores.value(CANDIDATES, "div4"))
    recorded_spread = (
        numbers.get("self_bleu", numbers.get("self_bleu_first3")),
        numbers.get("div4", numbers.get("div4_first3")),
    )
    assert spread == pytest.approx(recorded_spread, abs=1e-6)


def test_mbr_chooses_the_very_texts_of_the_published_script() -> None:
    from diffuseq.decoding.mbr import choose

    candidates = read_predictions(place("metrics")).candidates
    chosen = [texts[index] for texts, index in zip(candidates, choose(candidates), strict=True)]
    assert chosen == expected("metrics")["mbr"]["selected"]


@pytest.mark.real_data
def test_copying_the_source_beats_the_system_as_recorded() -> None:
    scores = score(read_predictions(place("system-outputs")), metrics=("bleu", "rougeL"), bootstrap=0)
    recorded = expected("system-outputs")["copy_source"]
    ours = {name: scores.value("copy", name) for name in recorded}
    assert ours == pytest.approx(recorded, abs=1e-6)
    assert (scores.value("chosen", "bleu") or 0) < recorded["bleu"]
