"""Each ingredient of our recipe changed alone, for equal CPU seconds, judged by the grammar.

    python benchmarks/ablations.py                                       75 processor seconds each, two seeds
    python benchmarks/ablations.py --only as-it-is,adamw,mbr-alone --seconds 240 --out runs/ablations
    python benchmarks/ablations.py --dry-run                             all of it in tiny

The base is the recipe `tiny`. Changes of the training are trained anew, with every seed; changes of the generation
are tried on the model of the unchanged recipe. A line for each: valid (share of held-out questions whose chosen
answer means the same in other words), valid among all candidates, distinct valid wordings a question, BLEU to one
reference; means over the seeds, and half of the difference between the best and the worst seed for valid.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from choosing import chosen
from counting import count, positive
from cpu_budget import train_for
from earlier import add_results, check_asked, note_asked
from grammar_systems import measure, on_the_grammar

from diffuseq.config import Config
from diffuseq.errors import InputError
from diffuseq.pipeline import DiffuSeqPipeline
from diffuseq.recipes import recipe
from diffuseq.training.corpus import Corpus

BASE = "as-it-is"


def trainings(base: Config) -> dict[str, Config]:
    """The recipe with one ingredient of its training changed, by name; what it does not have is not taken out."""
    system, training, generation = base.system, base.training, base.generation

    def network(**changes: Any) -> Config:
        return replace(base, system=replace(system, **changes))

    def course(**changes: Any) -> Config:
        return replace(base, training=replace(training, **changes))

    def seeing_all(sampler: str = "settle", **changes: Any) -> Config:
        chosen = replace(generation, sampler=sampler)
        return replace(network(attention="all", draws=2, **changes), generation=chosen)

    other: Literal["adamw", "muon"] = "adamw" if training.optimizer == "muon" else "muon"
    changed = {
        other: course(optimizer=other),
        "no-pointer": network(copy=False),
        "random-orders": network(left_to_right=0.0),
        "left-to-right": network(left_to_right=1.0),
        "two-orders": network(draws=2),
        "all-seen": seeing_all(),
        "all-seen-self-conditioning": seeing_all(self_condition=0.5),
        "all-seen-half-token-wise": seeing_all(token_wise=0.5),
        "all-seen-one-level": seeing_all("ddim", token_wise=0.0),
        "smoothing": network(label_smoothing=0.0 if system.label_smoothing else 0.1),
        "vocabulary-loss": network(vocabulary_loss=0.0 if system.vocabulary_loss else 0.5),
        "no-averaging": course(ema=0.0),
        "half-the-batch": course(batch_size=training.batch_size // 2),
        "twice-the-batch": course(batch_size=training.batch_size * 2),
        "wider-embedding": network(embedding_width=2 * system.embedding_width),
        "half-the-rate": course(
            learning_rate=training.learning_rate / 2, muon_learning_rate=training.muon_learning_rate / 2
        ),
    }
    if generation.sampler == "fixed-point":
        by_settle = replace(
            generation, sampler="settle", temperature=0.5, order_noise=0.5, sure_enough=0.95, rescore=True
        )
        changed["length-first"] = replace(network(length_first=1.0), generation=by_settle)
        changed["half-left-to-right"] = network(left_to_right=0.5)
    else:
        by_reading = replace(generation, sampler="fixed-point")
        changed["open-end"] = replace(network(length_first=0.2), generation=by_reading)
        changed["mostly-left-to-right"] = network(left_to_right=0.8)
    if system.wrong_words:
        changed["no-wrong-words"] = network(wrong_words=0.0)
    if training.weight_decay:
        changed["no-weight-decay"] = course(weight_decay=0.0)
    if system.dropout:
        changed["no-dropout"] = network(dropout=0.0)
    if training.both_directions:
        changed["one-direction"] = course(both_directions=False)
    return changed


def generations() -> dict[str, dict[str, Any]]:
    """Changes of the generation, by name, on the model of the unchanged recipe."""
    return {
        "mbr-alone": {"likelihood_weight": 0.0},
        "copies-allowed": {"copies": True},
        "far-from-the-source": {"source_weight": 0.4},
        "each-on-its-own": {"stratified": False},
        "repeats-allowed": {"repeats": True},
        "rescored": {"rescore": True},
        "surest-first": {"settle_first": "surest"},
        "sure-enough": {"sure_enough": 0.99},
        "one-length": {"length_beam": 1},
        "chance-in-the-order": {"order_noise": 0.5},
        "temperature-1": {"temperature": 1.0},
        "five-calls": {"steps": 5},
        "two-calls": {"steps": 2},
    }


@dataclass(frozen=True)
class Line:
    """One change under one seed."""

    name: str
    seed: int
    pairs: int
    scores: dict[str, float]


def lines_of(
    names: Sequence[str], seeds: int, seconds: float, corpus: Corpus, rows: Sequence[dict[str, Any]]
) -> Iterator[Line]:
    """Train and measure what was asked for; the unchanged recipe first where a generation stands on it."""
    base = recipe("tiny")
    configs = {BASE: base, **trainings(base)}
    on_base = [name for name in names if name in generations()]
    to_train = [name for name in configs if name in names or (name == BASE and on_base)]
    for seed in range(seeds):
        for name in to_train:
            config = configs[name]
            config = replace(config, training=replace(config.training, seed=seed))
            pipe, progress = train_for(config, corpus, seconds)
            ways: dict[str, dict[str, Any]] = {name: {}}
            if name == BASE:
                ways |= {way: generations()[way] for way in on_base}
            for way, changes in ways.items():
                yield Line(way, seed, progress.pairs, _scores(pipe, rows, changes))


def _scores(
    pipe: DiffuSeqPipeline, rows: Sequence[dict[str, Any]], changes: dict[str, Any]
) -> dict[str, float]:
    measured = measure(pipe, rows, changes)
    return {**measured["scores"], "forwards": measured["forwards"]}


def table(lines: Sequence[Line]) -> str:
    """Means over seeds as a Markdown table, in the order of appearance."""
    header = "| changed | pairs | valid | ± | valid of all | distinct | BLEU | calls |"
    rows = [header, "|---|" + "---:|" * 7]
    for name in dict.fromkeys(line.name for line in lines):
        same = [line for line in lines if line.name == name]
        mean = {key: fmean(line.scores[key] for line in same) for key in same[0].scores}
        valid = [line.scores["valid"] for line in same]
        cells = [name, f"{fmean(line.pairs for line in same) / 1e3:.1f} k", f"{mean['valid']:.3f}"]
        cells += [f"{(max(valid) - min(valid)) / 2:.3f}", f"{mean['valid_candidates']:.3f}"]
        cells += [f"{mean['distinct_valid']:.2f}", f"{mean['bleu']:.3f}", f"{mean['forwards']:.0f}"]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="some of the changes, with commas between; all by default")
    parser.add_argument(
        "--seconds", type=positive, default=75.0, help="processor seconds of training for each"
    )
    parser.add_argument("--seeds", type=count, default=2)
    parser.add_argument("--questions", type=count, default=200, help="held-out questions to answer")
    parser.add_argument(
        "--out", type=Path, help="folder for results.json, which keeps those of other changes"
    )
    parser.add_argument("--dry-run", action="store_true", help="a second of training, four questions")
    options = parser.parse_args(arguments)
    seconds, questions, seeds = (
        (1.0, 4, 1) if options.dry_run else (options.seconds, options.questions, options.seeds)
    )
    try:
        names = chosen(options.only, [BASE, *trainings(recipe("tiny")), *generations()], "change")
        if options.out is not None:
            asked = {"seconds": seconds, "questions": questions}
            check_asked(options.out, asked)
            note_asked(options.out, asked)
    except InputError as error:
        parser.error(str(error))
    lines: list[Line] = []
    with on_the_grammar(questions) as (corpus, rows):
        for line in lines_of(names, seeds, seconds, corpus, rows):
            lines.append(line)
            print(f"seed {line.seed} {table([line]).splitlines()[-1]}", flush=True)
            if options.out is not None:
                add_results(options.out, ("name", "seed"), [asdict(one) for one in lines])
    print(f"\n{table(lines)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
