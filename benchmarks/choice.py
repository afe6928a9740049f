"""What the choice among candidates is worth: agreement, likelihood, nearness to the source, and all between.

    python benchmarks/choice.py RUN/predictions.jsonl [--weights 0 0.1] [--source-weights 0 0.4] [--no-copies]
    python benchmarks/choice.py RUN/predictions.jsonl --grammar     the built-in corpus knows what is valid
    python benchmarks/choice.py A=RUN/predictions.jsonl B=… --source-weights 0 0.1 0.2 0.4 0.8 --figure choice.svg

A row for every `likelihood_weight` with every `source_weight`: BLEU of the chosen texts, their BLEU to the source,
iBLEU; and beside them the first candidate, the best one (which no choice can beat) and copying. The predictions are
those of `generate` with several candidates; nothing is generated here. The figure shows the best of these choices
for every nearness to the source, a line for each run. Tune on validation rows.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from counting import not_negative, number
from numpy.typing import NDArray

from diffuseq.data.grammar import Grammar
from diffuseq.decoding.mbr import barred_copies, bleu_to_source, bonus, choose_from
from diffuseq.errors import InputError
from diffuseq.evaluation.compare import parse_runs
from diffuseq.evaluation.plots import COLOURS, GRID, INK, MARKERS, Figure, canvas, spread, style
from diffuseq.evaluation.predictions import Predictions, lower_cased, read_predictions
from diffuseq.metrics.bleu import pairwise_sentence_bleu, sentence_bleu
from diffuseq.metrics.novelty import ibleu

WEIGHTS = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 1000.0)
"""The last is as good as likelihood alone."""


def picks(
    predictions: Predictions, weights: Sequence[float], source_weights: Sequence[float], copies: bool
) -> dict[str, list[int]]:
    """Which candidate of each source each way of choosing takes; copies: whether that may be the source itself.
    Raises `InputError` where log-probabilities are missing and count."""
    rows = predictions.rows
    log_p = [row.log_p for row in rows if row.log_p is not None]
    if len(log_p) < len(rows) and any(weights):
        raise InputError(
            f"{predictions.files[0]} has rows without log_p; generate them anew with `diffuseq generate`."
        )
    texts = [row.candidates for row in rows]
    sizes, agreement = [len(group) for group in texts], pairwise_sentence_bleu(texts)
    barred = None if copies else barred_copies(predictions.sources, texts)
    nearness = [bleu_to_source(*each) for each in zip(texts, predictions.sources, strict=True)]
    found = {"first": [0] * len(rows)}
    for weight in weights:
        likelihood = log_p if weight else [[0.0] * size for size in sizes]
        for cost in source_weights:
            extra = [bonus(p, weight, near, cost) for p, near in zip(likelihood, nearness, strict=True)]
            name = f"weight {weight:g}" + (f", source {cost:g}" if cost else "")
            found[name] = choose_from(agreement, sizes, extra, barred)
    return found | {"best": [int(i) for i in _bleu(predictions).argmax(axis=1)]}


def _taken(predictions: Predictions, chosen: Sequence[int]) -> list[str]:
    return [group[index] for group, index in zip(predictions.candidates, chosen, strict=True)]


def _bleu(predictions: Predictions) -> NDArray[np.float64]:
    """BLEU of every candidate with the first reference [n k]."""
    columns = zip(*predictions.candidates, strict=True)
    references = [targets[0] for targets in predictions.references]
    return np.stack([sentence_bleu(list(column), references) for column in columns], axis=1)


def table(
    predictions: Predictions,
    weights: Sequence[float],
    source_weights: Sequence[float] = (0.0,),
    copies: bool = True,
    grammar: Grammar | None = None,
) -> str:
    """The rows as Markdown."""
    sources = predictions.sources
    references = [targets[0] for targets in predictions.references]

    def line(name: str, texts: list[str]) -> str:
        bleu, to_source = sentence_bleu(texts, references), sentence_bleu(texts, sources)
        numbers = [bleu.mean(), to_source.mean(), ibleu(bleu, to_source).mean()]
        if grammar is not None:
            numbers.append(
                np.mean([grammar.verdict(s, t).valid for s, t in zip(sources, texts, strict=True)])
            )
        return " | ".join([f"| {name}", *(f"{number:.4f}" for number in numbers)]) + " |"

    head = ["choice", "BLEU", "BLEU to source", "iBLEU", *(["valid"] if grammar else [])]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, chosen in picks(predictions, weights, source_weights, copies).items():
        lines.append(line(name, _taken(predictions, chosen)))
    return "\n".join([*lines, line("copying", sources)])


def front(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of points (nearness to the source, BLEU) those that no other beats in one without losing in the other."""
    kept: list[tuple[float, float]] = []
    for nearness, bleu in sorted(points, key=lambda point: (point[0], -point[1])):
        if not kept or bleu > kept[-1][1]:
            kept.append((nearness, bleu))
    return kept


def figure(fronts: dict[str, list[tuple[float, float]]], name: str) -> Figure:
    """The fronts of several runs, each with its name at its end."""
    with style():
        drawing, axes = canvas(height=3.2)
        places = spread([points[-1][1] for points in fronts.values()], 0.003)
        for number, ((run, points), place) in enumerate(zip(fronts.items(), places, strict=True)):
            colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
            axes.plot(*zip(*points, strict=True), color=colour, marker=marker, markersize=3.5, linewidth=1.3)
            axes.annotate(
                run, (points[-1][0], place), xytext=(7, 0), textcoords="offset points", va="center",
                color=INK, fontsize=8,
            )  # fmt: skip
        axes.margins(x=0.1)
        left, right = axes.get_xlim()
        axes.set_xlim(left, right + 0.3 * (right - left))  # room for the names
        axes.grid(color=GRID, linewidth=0.7)
        axes.set_xlabel("BLEU to the source → nearer to it")
        axes.set_ylabel("BLEU → better")
    caption = "The best BLEU that choices among the same candidates have, for every nearness to the source."
    return Figure(name, "BLEU against nearness to the source", caption, drawing)


def points_of(
    predictions: Predictions, weights: Sequence[float], source_weights: Sequence[float], copies: bool
) -> list[tuple[float, float]]:
    """(BLEU to the source, BLEU) of every way of choosing."""
    found = picks(predictions, weights, source_weights, copies)
    references = [targets[0] for targets in predictions.references]
    texts = [_taken(predictions, chosen) for name, chosen in found.items() if name not in ("first", "best")]
    return [
        (
            float(sentence_bleu(each, predictions.sources).mean()),
            float(sentence_bleu(each, references).mean()),
        )
        for each in texts
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("predictions", nargs="+", help="predictions.jsonl or its folder, or NAME=PATH")
    parser.add_argument("--weights", type=not_negative, nargs="+", default=list(WEIGHTS))
    parser.add_argument(
        "--source-weights",
        type=number,
        nargs="+",
        default=[0.0],
        help="what BLEU with the source costs; below 0 what it is worth",
    )
    parser.add_argument(
        "--lower", action="store_true", help="score in lower case, as the published tasks are"
    )
    parser.add_argument("--no-copies", action="store_true", help="pass over candidates that are the source")
    parser.add_argument("--grammar", action="store_true", help="the built-in grammar says what is valid")
    parser.add_argument(
        "--figure", type=Path, help="NAME.svg: draw the best choices into it and into NAME.png"
    )
    options = parser.parse_args(arguments)
    ways = options.weights, options.source_weights, not options.no_copies
    grammar = Grammar() if options.grammar else None
    fronts = {}
    try:
        runs = parse_runs(options.predictions)
        name, count = Counter(run.name for run in runs).most_common(1)[0]
        if count > 1:
            raise InputError(f"{count} runs are called {name}; give each a name of its own, as NAME=PATH.")
        for run in runs:
            predictions = read_predictions(run.path)
            predictions = lower_cased(predictions) if options.lower else predictions
            if options.figure is None:
                print(*([f"\n{run.name}\n"] if len(options.predictions) > 1 else []), end="")
                print(table(predictions, *ways, grammar))
            else:
                fronts[run.name] = front(points_of(predictions, *ways))
        if options.figure is not None:
            figure(fronts, options.figure.stem).save(options.figure.parent)
    except InputError as error:
        print(f"choice: {error}")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
