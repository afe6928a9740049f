"""Several trained models into one: minimum Bayes risk distillation, by the verbs of `diffuseq` alone.

    python benchmarks/distil.py --models qqp runs/transformer --data DATA/qqp --out runs/agreed --sources 20000

Every model answers the same training sources with a few candidates; of each source's candidates together the best
few, by their BLEU with all others less what nearness to the source costs, become targets; and the first model goes
on with these pairs (Finkelstein & Freitag, 2024, "MBR and QE Finetuning"). OUT/model is what comes of it. Killed,
the same command goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

from children import call, ended_together
from counting import count, not_negative, positive
from earlier import check_asked, note_asked

from diffuseq.baselines.configs import AutoregressiveGeneration
from diffuseq.checkpoint import find_model, load_config
from diffuseq.config import EnsembleConfig
from diffuseq.data.pairs import find_split, read_pairs
from diffuseq.errors import InputError
from diffuseq.files import write_text


def main(argv: Sequence[str] | None = None) -> int:
    """Answer, combine, learn."""
    options = _options(argv)
    if len(options.models) < 2:
        raise InputError("One model has nobody to agree with; give two or more --models.")
    check_models(options.models)
    train, _ = (find_split(options.data, split) for split in ("train", "valid"))
    asked = _asked(options)
    check_asked(options.out, asked)
    note_asked(options.out, asked)
    sources = options.out / "sources.jsonl"
    if not sources.exists():
        write_text(sources, draw_sources(train, options.sources, options.seed))
    with ended_together():
        _distil(options, sources)
    return 0


def _distil(options: argparse.Namespace, sources: Path) -> None:
    with ThreadPoolExecutor(len(options.models)) as together:  # each waits for a process of its own
        folders = [options.out / f"{n}-{Path(model).name}" for n, model in enumerate(options.models, 1)]
        asked = together.map(lambda *each: _answer(*each, sources, options), options.models, folders)
        answers = list(asked)
    pairs = options.out / "pairs" / "train.jsonl"
    _diffuseq(
        "combine", *answers, "--pairs", pairs,
        "--best", options.best, "--source-weight", options.source_weight,
    )  # fmt: skip
    valid = find_split(options.data, "valid")
    (pairs.parent / valid.name).write_bytes(valid.read_bytes())
    _diffuseq(
        "train", options.recipe, "--training.start-from", options.models[0],
        "--data", pairs.parent, "--out", options.out / "model", "--resume",
        "--training.epochs", options.epochs, "--training.learning-rate", options.learning_rate,
        "--training.batch-size", options.batch_size, "--training.no-both-directions",
        "--training.ema", options.ema, "--system.dropout", options.dropout, "--training.evaluate-rows", 0,
    )  # fmt: skip


def check_models(models: Sequence[str]) -> None:
    """Raise `InputError` where one of the models is not there or the first cannot go on, before the others answer
    for hours."""
    first, *_ = [load_config(find_model(model)).system for model in models]
    if isinstance(first, EnsembleConfig):
        raise InputError(
            f"{models[0]} is an ensemble, and one network is to learn; name another of --models first."
        )


def _asked(options: argparse.Namespace) -> dict[str, Any]:
    """What the answers depend on: those of other values in OUT would be taken for these."""
    names = ("models", "sources", "seed", "candidates", "temperature")
    return {name: getattr(options, name) for name in names} | {"data": str(options.data.resolve())}


def draw_sources(train: Path, count: int, seed: int) -> str:
    """So many of the training pairs, drawn, as jsonl; all of them where there are fewer."""
    pairs = list(read_pairs(train))
    random.Random(seed).shuffle(pairs)
    rows = ({"src": pair.source, "trg": pair.target} for pair in islice(pairs, count))
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _answer(model: str, folder: Path, sources: Path, options: argparse.Namespace) -> Path:
    """One model's candidates, drawn: a beam's are too much alike to judge one another."""
    output = folder / "predictions.jsonl"
    sampling: list[object] = ["--temperature", options.temperature]
    if options.answer_batch is not None:
        sampling += ["--batch-size", options.answer_batch]
    if isinstance(load_config(find_model(model)).generation, AutoregressiveGeneration):
        sampling += ["--strategy", "sample", "--top-p", 0.95, "--stratified"]
    if not output.exists():
        _diffuseq(
            "generate", model, "--input", sources, "--output", output,
            "--candidates", options.candidates, *sampling,
        )  # fmt: skip
    return output


def _diffuseq(*words: object) -> None:
    command = [sys.executable, "-m", "diffuseq", *map(str, words)]
    if status := call(command):
        raise subprocess.CalledProcessError(status, command)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", nargs="+", required=True, help="names or folders; the first one goes on")
    parser.add_argument("--data", type=Path, required=True, help="folder with train.jsonl and valid.jsonl")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipe", default="qqp", help="whose training settings are taken")
    parser.add_argument("--sources", type=count, default=20_000)
    parser.add_argument("--candidates", type=count, default=5, help="of each model for every source")
    parser.add_argument(
        "--answer-batch", type=count, help="sources answered at once; the model's own by default"
    )
    parser.add_argument("--temperature", type=not_negative, default=0.65)
    parser.add_argument("--best", type=count, default=3, help="targets of a source, at most")
    parser.add_argument(
        "--source-weight", type=not_negative, default=0.3, help="what BLEU with the source costs"
    )
    parser.add_argument("--epochs", type=positive, default=2.0)
    parser.add_argument("--learning-rate", type=positive, default=5e-4)
    parser.add_argument("--batch-size", type=count, default=64)
    parser.add_argument("--ema", type=float, default=0.99)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InputError as error:
        print(f"distil.py: {error}", file=sys.stderr)
        sys.exit(2)
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
