"""How fast the metrics are, against a loop over NLTK that does what the published script does.

    python benchmarks/metrics_speed.py [--sources 2500] [--candidates 10] [--subset 60]

The loop: sentence-BLEU, dist-1, self-BLEU, div-4 and MBR with NLTK, ROUGE-L with torchmetrics; it is timed
on a subset of the sources and scaled up (its cost is linear in them). Ours: the same metrics; then every
metric without a network, with 1,000 bootstrap corpora. Both of ours also score copying and the references.
Texts are made up: 8 to 14 words, candidates share most of theirs.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from counting import count
from nltk import ngrams
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from torchmetrics.functional.text.rouge import rouge_score

from diffuseq.evaluation.predictions import Prediction, Predictions
from diffuseq.evaluation.score import score

PUBLISHED = ("bleu", "rougeL", "dist1", "length_published", "self_bleu", "div4")


def make_predictions(sources: int, candidates: int, seed: int = 0) -> Predictions:
    """Made-up outputs: each text is its source with about 40 % of the words changed."""
    draw = random.Random(seed)
    words = [f"w{i}" for i in range(5000)]

    def change(text: list[str]) -> str:
        return " ".join(draw.choice(words) if draw.random() < 0.4 else word for word in text)

    rows = []
    for _ in range(sources):
        text = [draw.choice(words) for _ in range(draw.randint(8, 14))]
        answers = tuple(change(text) for _ in range(candidates))
        rows.append(Prediction(" ".join(text), (change(text),), answers))
    return Predictions("made up", tuple(rows), (Path("none"),))


def published_loop(predictions: Predictions) -> None:
    """What the published script computes, sentence by sentence."""
    smoothing = SmoothingFunction().method4

    def bleu(hypothesis: str, reference: str) -> float:
        return float(sentence_bleu([reference.split()], hypothesis.split(), smoothing_function=smoothing))

    for row in predictions.rows:
        count = len(row.candidates)
        for text in row.candidates:  # the published script reads one file a seed and scores each
            bleu(text, row.references[0])
            rouge_score(text, row.references[0], rouge_keys="rougeL")
            words = text.split()
            len(set(words)) / max(1, len(words))
        matrix = np.zeros((count, count))
        for i, hypothesis in enumerate(row.candidates):
            for j, reference in enumerate(row.candidates):
                matrix[i, j] = bleu(hypothesis, reference)
        chosen = row.candidates[int((matrix.sum(axis=1) - matrix.diagonal()).argmax())]
        bleu(chosen, row.references[0])
        rouge_score(chosen, row.references[0], rouge_keys="rougeL")
        first = row.candidates[:3]
        for i, hypothesis in enumerate(first):
            for reference in first[i + 1 :]:
                bleu(hypothesis, reference)
        len({gram for text in first for gram in ngrams(text.split(), 4)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sources", type=count, default=2500)
    parser.add_argument("--candidates", type=count, default=10)
    parser.add_argument("--subset", type=count, default=60, help="sources that the NLTK loop is timed on")
    arguments = parser.parse_args()

    predictions = make_predictions(arguments.sources, arguments.candidates)
    everything = seconds(lambda: score(predictions, task="simplification"))
    same = seconds(lambda: score(predictions, metrics=PUBLISHED, bootstrap=0))
    subset = Predictions("subset", predictions.rows[: arguments.subset], predictions.files)
    loop = seconds(lambda: published_loop(subset)) * arguments.sources / len(subset.rows)

    print(f"{arguments.sources:,} sources × {arguments.candidates} candidates")
    print(f"loop  {loop:7.1f} s          published metrics and MBR (timed on {len(subset.rows)}, scaled)")
    print(f"ours  {same:7.1f} s  {loop / same:6.1f}×  the same metrics and MBR, for four rows")
    print(
        f"ours  {everything:7.1f} s  {loop / everything:6.1f}×  all metrics without a network, intervals too"
    )


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
