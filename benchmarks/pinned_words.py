"""How much do pinned words help? BLEU of answers in which 0, 1, 2, 3 words of the reference are given.

    python benchmarks/pinned_words.py MODEL DATA.jsonl [--rows 200] [--out FOLDER]
    python benchmarks/pinned_words.py grammar grammar      the model that comes with the package, held-out questions

The words are drawn at random (by --seed) from the reference, are pinned at their places, and the answer has
the reference's length, with 0 words as well, so that nothing but the words differs. `rest` is BLEU after the
pinned words are taken out of both texts: what the words do for everything around them.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from counting import count, whole

from diffuseq.data.grammar import build_corpus
from diffuseq.data.pairs import Pair, read_pairs
from diffuseq.decoding.mbr import choose
from diffuseq.errors import InputError
from diffuseq.metrics.bleu import sentence_bleu
from diffuseq.pipeline import DiffuSeqPipeline
from diffuseq.prompts import Prompt
from diffuseq.text.template import FREE
from diffuseq.training.corpus import GRAMMAR


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("data", help="a jsonl file, or grammar")
    parser.add_argument("--rows", type=count, default=200)
    parser.add_argument("--pins", type=whole(0), nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--candidates", type=count, default=5)
    parser.add_argument("--steps", type=count)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for pinned_words.json and pinned_words.png")
    options = parser.parse_args()
    pipe = DiffuSeqPipeline.from_pretrained(options.model)
    changes = {"candidates": options.candidates, "seed": options.seed}
    settings = pipe.settings(**changes, **({"steps": options.steps} if options.steps else {}))
    least = max(options.pins) + 1
    rows = usable_rows(pipe, pairs_of(options.data), least, options.rows)
    if not rows:
        raise InputError(
            f"{options.data} has no target of {least} to {pipe.config.text.max_target} tokens that the model "
            "knows; give other --pins, or other data."
        )
    curve = [measure(pipe, rows, pins, settings, options.seed) for pins in options.pins]
    for point in curve:
        print(
            "  ".join(
                f"{name} {value:.4f}" if name != "pins" else f"pins {value}" for name, value in point.items()
            )
        )
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        report = {"model": options.model, "rows": len(rows), "settings": vars(settings), "curve": curve}
        (options.out / "pinned_words.json").write_text(json.dumps(report, indent=2) + "\n")
        draw(curve, options.out / "pinned_words.png")


Row = tuple[str, list[int]]


def pairs_of(data: str) -> Iterable[Pair]:
    """The pairs of a file, or the questions that the built-in grammar holds out."""
    if data != GRAMMAR:
        return read_pairs(Path(data))
    return (Pair(row["src"], row["trg"], tuple(row["refs"])) for row in build_corpus(100)["test"])


def usable_rows(pipe: DiffuSeqPipeline, pairs: Iterable[Pair], least: int, most_rows: int) -> list[Row]:
    """Sources with the ids of their targets, of those that are long enough for all numbers of pins."""
    unknown, longest = pipe.tokenizer.special.unknown, pipe.config.text.max_target
    rows = []
    for pair in pairs:
        ids = pipe.tokenizer.encode([pair.target])[0]
        if unknown not in ids and least <= len(ids) <= longest and len(words_of(pipe, ids)) >= least:
            rows.append((pair.source, ids))
        if len(rows) == most_rows:
            break
    return rows


def words_of(pipe: DiffuSeqPipeline, ids: Sequence[int]) -> list[list[int]]:
    """Positions of the pieces of each word."""
    words: list[list[int]] = []
    for position, piece in enumerate(pipe.tokenizer.tokens(ids)):
        if piece.startswith(" ") or not words:
            words.append([])
        words[-1].append(position)
    return words


def measure(
    pipe: DiffuSeqPipeline, rows: Sequence[Row], pins: int, settings: Any, seed: int
) -> dict[str, float]:
    """One point of the curve."""
    prompts, given = [], []
    for number, (source, ids) in enumerate(rows):
        words = words_of(pipe, ids)
        order = random.Random(f"{seed} {number}").sample(range(len(words)), len(words))
        places = {position for word in order[:pins] for position in words[word]}
        template = [token if place in places else FREE for place, token in enumerate(ids)]
        prompts.append(Prompt(source, pipe.prepare([source], settings)[0].ids, settings.seed, [template]))
        given.append(places)
    tokens = answer(pipe, prompts, settings)
    decode = pipe.tokenizer.decode
    references = [decode(ids) for _, ids in rows]
    chosen = choose([[decode(row) for row in group] for group in tokens])
    best = [group[row] for group, row in zip(tokens, chosen, strict=True)]
    exact = all(
        row[p] == ids[p] for row, (_, ids), places in zip(best, rows, given, strict=True) for p in places
    )
    assert exact, "a pinned token is missing"
    rest, rest_references = (
        [
            decode([t for p, t in enumerate(ids) if p not in places])
            for ids, places in zip(side, given, strict=True)
        ]
        for side in (best, [ids for _, ids in rows])
    )
    return {
        "pins": pins,
        "bleu": float(sentence_bleu([decode(row) for row in best], references).mean()),
        "rest": float(sentence_bleu(rest, rest_references).mean()),
    }


def answer(pipe: DiffuSeqPipeline, prompts: Sequence[Prompt], settings: Any) -> list[list[list[int]]]:
    """The ids of the candidates of each prompt; prompts of one length go together."""
    by_shape: dict[tuple[int, int], list[int]] = {}
    for row, prompt in enumerate(prompts):
        by_shape.setdefault(prompt.shape, []).append(row)
    found: dict[int, list[list[int]]] = {}
    for rows in by_shape.values():
        for start in range(0, len(rows), settings.batch_size):
            part = rows[start : start + settings.batch_size]
            last = None
            for last in pipe.run([prompts[row] for row in part], settings):  # noqa: B007
                pass
            assert last is not None
            groups: torch.Tensor = last.tokens.view(len(part), settings.candidates, -1)
            found.update(zip(part, groups.tolist(), strict=True))
    return [found[row] for row in range(len(prompts))]


def draw(curve: Sequence[dict[str, float]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 3.2), layout="constrained")
    for name, label in (("bleu", "whole answer"), ("rest", "without the pinned words")):
        axes.plot([p["pins"] for p in curve], [p[name] for p in curve], marker="o", label=label)
    axes.set(xlabel="pinned words of the reference", ylabel="sentence BLEU", ylim=(0, None))
    axes.set_xticks([p["pins"] for p in curve])
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"pinned_words: {error}")
