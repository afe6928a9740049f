"""Each ingredient of a recipe changed alone, for equal CPU seconds, on pairs of text.

    python benchmarks/text_ablations.py --data DATA/qqp --out runs/text-ablations
    python benchmarks/text_ablations.py --data DATA/qqp --out runs/text-ablations --only no-pointer --seconds 600
    python benchmarks/text_ablations.py --data DATA/qqp --out runs/text-ablations --dry-run

One thread; only the training's own processor time counts. A line for each, on the first ROWS validation rows: nats
a word of the target, its end included, read from left to right (none for networks whose positions see all others);
BLEU of one text of the likeliest words, and of the choice by minimum Bayes risk among ten, with its BLEU with the
source and iBLEU. What was measured with the same seed stays in OUT/results.json and is not done again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from ablations import BASE, trainings
from choosing import chosen
from counting import count, positive
from cpu_budget import train_for
from earlier import add_results, check_asked, note_asked
from equal_budget import questions_of

from diffuseq.config import DiffuSeqConfig
from diffuseq.data.pairs import Question
from diffuseq.errors import InputError
from diffuseq.evaluation.likelihood import negative_log_likelihood
from diffuseq.memory import prepare_memory
from diffuseq.metrics.bleu import sentence_bleu
from diffuseq.pipeline import DiffuSeqPipeline
from diffuseq.recipes import recipe
from diffuseq.training.corpus import prepare_corpus
from diffuseq.training.tracking import ignore

CANDIDATES = 10


@dataclass(frozen=True)
class Line:
    """One change under one seed."""

    name: str
    seed: int
    pairs: int
    nats: float | None
    bleu_one: float
    bleu_mbr: float
    bleu_source: float

    @property
    def ibleu(self) -> float:
        return 0.8 * self.bleu_mbr - 0.2 * self.bleu_source


def nats_of(pipe: DiffuSeqPipeline, questions: Sequence[Question]) -> float | None:
    """Nats a word of the first references, ends included, from left to right; None where there is no such order."""
    config = pipe.system.config
    assert isinstance(config, DiffuSeqConfig)
    if config.attention != "settled":
        return None
    in_order = replace(config, left_to_right=1.0, length_first=0.0)
    pipe.system.config = in_order
    try:
        sources, targets = zip(*((q.source, q.references[0]) for q in questions), strict=True)
        return negative_log_likelihood(pipe, sources, targets, calls=1, rounds=2).total
    finally:
        pipe.system.config = config


def measure(
    name: str, seed: int, pairs: int, pipe: DiffuSeqPipeline, questions: Sequence[Question], calls: int
) -> Line:
    """What a trained network is worth."""
    sources, targets = [q.source for q in questions], [q.references[0] for q in questions]
    one = pipe.settings(candidates=1, temperature=0.0, steps=calls)
    ten = pipe.settings(
        candidates=CANDIDATES, likelihood_weight=0.0, source_weight=0.0, copies=True, steps=calls
    )
    texts = [[answer.text for answer in pipe.answer_all(sources, settings)] for settings in (one, ten)]
    bleu_one, bleu_mbr = (float(sentence_bleu(found, targets).mean()) for found in texts)
    nearness = float(sentence_bleu(texts[1], sources).mean())
    return Line(name, seed, pairs, nats_of(pipe, questions), bleu_one, bleu_mbr, nearness)


def table(lines: Sequence[Line]) -> str:
    """As a Markdown table."""
    rows = [
        "| changed | seed | pairs | nats a word | BLEU, one | MBR | to the source | iBLEU |",
        "|---|" + "---:|" * 7,
    ]
    for line in lines:
        nats = "–" if line.nats is None else f"{line.nats:.3f}"
        cells = [line.name, str(line.seed), f"{line.pairs / 1e3:.1f} k", nats]
        cells += [f"{value:.3f}" for value in (line.bleu_one, line.bleu_mbr, line.bleu_source, line.ibleu)]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def run(options: argparse.Namespace) -> None:
    """Train and measure what is not there yet."""
    base = recipe(options.recipe)
    configs = {BASE: base, **trainings(base)}
    names = chosen(options.only, configs, "change")
    questions = questions_of(options.data, "valid", options.rows)
    asked = {"data": str(options.data.resolve()), "recipe": options.recipe, "seconds": options.seconds}
    asked |= {"rows": options.rows}
    check_asked(options.out, asked)
    note_asked(options.out, asked)
    corpus = prepare_corpus(options.data, options.out / "cache", base.text, options.rows, ignore)
    for name in names:
        lines = found(options.out)
        if any((line.name, line.seed) == (name, options.seed) for line in lines):
            continue
        config = configs[name]
        config = replace(config, training=replace(config.training, seed=options.seed))
        pipe, progress = train_for(config, corpus, options.seconds)
        calls = 2 if options.dry_run else config.generation.steps
        line = measure(name, options.seed, progress.pairs, pipe, questions, calls)
        add_results(options.out, ("name", "seed"), [asdict(line)])
        print(table([line]).splitlines()[-1], flush=True)
    print(f"\n{table(found(options.out))}")


def found(out: Path) -> list[Line]:
    """What was measured so far."""
    place = out / "results.json"
    if not place.is_file():
        return []
    return [Line(**line) for line in json.loads(place.read_text(encoding="utf-8"))]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with train.jsonl and valid.jsonl")
    parser.add_argument("--out", type=Path, required=True, help="folder for results.json and what is cached")
    parser.add_argument("--recipe", default="qqp-small", help="the recipe that is changed")
    parser.add_argument("--only", help="some of the changes, with commas between; all by default")
    parser.add_argument(
        "--seconds", type=positive, default=300.0, help="processor seconds of training for each"
    )
    parser.add_argument("--rows", type=count, default=300, help="validation rows")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dry-run", action="store_true", help="a second of training, four rows, two calls")
    options = parser.parse_args(arguments)
    if options.dry_run:
        options.seconds, options.rows = 1.0, 4
    torch.set_num_threads(1)
    prepare_memory()
    try:
        run(options)
    except InputError as error:
        print(f"text_ablations: {error}")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
