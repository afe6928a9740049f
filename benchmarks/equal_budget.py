"""Every system on the same pairs for equal CPU seconds, with its curve; then one table by `diffuseq compare`.

    python benchmarks/equal_budget.py --data DATA/qqp --out runs/equal --minutes 20
    python benchmarks/equal_budget.py --data DATA/qqp --out runs/equal --systems diffuseq,transformer --minutes 60
    python benchmarks/equal_budget.py --data DATA/qqp --out runs/equal --dry-run

One thread, bf16 where that is faster; only the training's own processor time counts. The systems are the small
recipes: one tokenizer, (nearly) one number of parameters, both directions of every pair. Tuned on nothing but the
validation rows, and measured on the first ROWS of them; --split test is for the final table.

OUT/SYSTEM/                 the model folder with training.json and curve.jsonl
OUT/SYSTEM/WAY/             predictions.jsonl of a way of generating
OUT/report/                 the tables of all systems that are there
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from choosing import chosen
from counting import count, positive
from cpu_budget import train_for
from earlier import check_asked, check_same, note_asked

from diffuseq.cli import compare
from diffuseq.config import Config, TextConfig
from diffuseq.data.pairs import Question, find_split, read_questions
from diffuseq.errors import InputError
from diffuseq.evaluation.predictions import Prediction, write_predictions
from diffuseq.files import write_text
from diffuseq.memory import prepare_memory
from diffuseq.pipeline import DiffuSeqPipeline
from diffuseq.recipes import recipe
from diffuseq.training.corpus import Corpus, prepare_corpus
from diffuseq.training.evaluate import look_at_answers, pipeline_answers
from diffuseq.training.loop import Progress
from diffuseq.training.tracking import ignore

LOOKS, LOOK_ROWS = 6, 100


@dataclass(frozen=True)
class Entry:
    """A system: its recipe, its quickest way of generating (for the curve), and all ways by name."""

    recipe: str
    quick: dict[str, Any]
    ways: dict[str, dict[str, Any]]


_DRAWN = {"strategy": "sample", "candidates": 10, "top_p": 0.95}
_WRITTEN = {"beam5": {"strategy": "beam", "beams": 5, "candidates": 1}, "sampled-mbr10": _DRAWN}
_GREEDY = {"strategy": "greedy", "candidates": 1}
SYSTEMS = {
    "diffuseq": Entry("qqp-small", {"candidates": 1, "temperature": 0.3}, {"mbr10": {"candidates": 10}}),
    "published": Entry(
        "qqp-paper-small",
        {"candidates": 1, "steps": 20},
        {"one-100": {"candidates": 1, "steps": 100}},
    ),
    "transformer": Entry("transformer-small", _GREEDY, _WRITTEN),
    "gru": Entry("gru-small", _GREEDY, _WRITTEN),
    "gpt2": Entry("gpt2-scratch-small", _GREEDY, _WRITTEN),
    "gpvae-t5": Entry("gpvae-t5-scratch-small", {"candidates": 1}, {"mbr10": {"candidates": 10}}),
    "levt": Entry("levt-small", {"candidates": 1}, {"edits": {"candidates": 1}}),
    "cmlm": Entry("cmlm-small", {"candidates": 1, "length_beam": 1}, {"lengths5": {}}),
    "diffusion-lm": Entry(
        "diffusion-lm-small", {"candidates": 1, "steps": 20, "guidance": 0.0}, {"guided": {"candidates": 1}}
    ),
}


def train(name: str, config: Config, corpus: Corpus, minutes: float, folder: Path) -> DiffuSeqPipeline:
    """Train one system, with its curve, and leave a model folder."""
    entry, curve = SYSTEMS[name], []
    rows = corpus.valid_pairs[:LOOK_ROWS]

    def look(pipe: DiffuSeqPipeline, progress: Progress) -> None:
        generation = replace(config.generation, **entry.quick)
        quick = DiffuSeqPipeline(pipe.system, pipe.tokenizer, replace(config, generation=generation))
        answer = pipeline_answers(quick.system, quick.tokenizer, quick.config)
        metrics, _ = look_at_answers(answer, rows, config.text.lowercase)
        values = {"cpu_minutes": progress.seconds / 60, "pairs": progress.pairs, **metrics}
        curve.append(json.dumps(values, ensure_ascii=False))
        said = f"{progress.seconds / 60:.1f} min, {progress.pairs:,} pairs, BLEU {metrics['valid_bleu']:.4f}"
        print(f"{name}: {said}", flush=True)

    pipe, progress = train_for(config, corpus, 60 * minutes, LOOKS, look)
    pipe.save_pretrained(folder)
    write_text(folder / "curve.jsonl", "\n".join(curve) + "\n")
    spent = {
        "parameters": pipe.system.num_parameters(),
        "seconds": round(progress.seconds, 1),
        "pairs_seen": progress.pairs,
        "steps": progress.step,
        "device": "cpu, one thread",
        "minutes": minutes,
        "seed": config.training.seed,
    }
    write_text(folder / "training.json", json.dumps(spent, indent=2) + "\n")
    return pipe


def answer(
    pipe: DiffuSeqPipeline, questions: Sequence[Question], changes: dict[str, Any], folder: Path
) -> None:
    """Generate for all questions, and write what `evaluate` and `compare` read."""
    settings = pipe.settings(**changes)
    began = time.process_time()
    answers = pipe.answer_all([question.source for question in questions], settings)
    seconds = (time.process_time() - began) / len(questions)
    rows = (Prediction.of(question, answer) for question, answer in zip(questions, answers, strict=True))
    write_predictions(folder / "predictions.jsonl", rows)
    write_text(
        folder / "predictions.settings.json", json.dumps(dataclasses.asdict(settings), indent=2) + "\n"
    )
    write_text(folder / "training.json", (folder.parent / "training.json").read_text(encoding="utf-8"))
    print(f"{folder.parent.name}, {folder.name}: {seconds:.3f} CPU seconds a source", flush=True)


def check_trained(folder: Path, minutes: float, seed: int) -> None:
    """Raise `InputError` where a system was trained otherwise, say in a dry run, than is asked for now."""
    before = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    for name, value in (("minutes", minutes), ("seed", seed)):
        check_same(folder, name, before.get(name, value), value)


def check_answered(place: Path, rows: int) -> None:
    """Raise `InputError` where another number of rows was answered than is asked for now."""
    with open(place / "predictions.jsonl", encoding="utf-8") as lines:
        check_same(place, "rows", sum(1 for _ in lines), rows)


def questions_of(data: Path, split: str, rows: int) -> list[Question]:
    """The first rows of a split, with their references."""
    found = read_questions(str(find_split(data, split)))
    return [question for question, _ in zip(found, range(rows), strict=False)]


def _smallest(pipe: DiffuSeqPipeline, changes: dict[str, Any]) -> dict[str, Any]:
    """A way of generating with few calls, for a dry run."""
    return {**changes, "steps": 2} if hasattr(pipe.config.generation, "steps") else changes


def _text_name(text: TextConfig) -> str:
    layout = "published" if text.published_layout else "ours"
    return f"{text.vocab_size}-{text.max_source}-{text.max_target}-{layout}"


def run(options: argparse.Namespace) -> None:
    """Train what is not trained, generate what is not generated, compare all."""
    questions = questions_of(options.data, options.split, options.rows)
    find_split(options.data, "train")
    source = {"data": str(options.data.resolve())}
    check_asked(options.out, source)
    note_asked(options.out, source)
    for name in chosen(options.systems, SYSTEMS, "system"):
        entry, folder = SYSTEMS[name], options.out / name
        config = recipe(entry.recipe)
        config = replace(config, training=replace(config.training, seed=options.seed))
        if not (folder / "training.json").is_file():
            cache = options.out / "cache" / _text_name(config.text)
            corpus = prepare_corpus(options.data, cache, config.text, LOOK_ROWS, ignore)
            train(name, config, corpus, options.minutes, folder)
        check_trained(folder, options.minutes, options.seed)
        pipe = DiffuSeqPipeline.from_pretrained(folder)
        for way, changes in entry.ways.items():
            place = folder / f"{way}{'' if options.split == 'valid' else f'-{options.split}'}"
            if not (place / "predictions.jsonl").is_file():
                answer(pipe, questions, _smallest(pipe, changes) if options.dry_run else changes, place)
            check_answered(place, len(questions))
    suffix = "" if options.split == "valid" else f"-{options.split}"
    runs = [
        f"{name}-{way}={options.out / name / (way + suffix)}"
        for name, entry in SYSTEMS.items()
        for way in entry.ways
        if (options.out / name / (way + suffix) / "predictions.jsonl").is_file()
    ]
    compare.main([*runs, "--task", options.task, "--out", str(options.out / f"report{suffix}")])


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with train.jsonl and valid.jsonl")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--systems", help=f"some of {','.join(SYSTEMS)}; all by default")
    parser.add_argument("--minutes", type=positive, default=20.0, help="CPU minutes of training for each")
    parser.add_argument("--rows", type=count, default=200, help="rows to generate for")
    parser.add_argument("--split", default="valid", choices=("valid", "test"))
    parser.add_argument("--task", default="qqp", help="whose metrics are shown")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dry-run", action="store_true", help="seconds of training, four rows")
    options = parser.parse_args(arguments)
    if options.dry_run:
        options.minutes, options.rows = 0.05, 4
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    torch.set_num_threads(1)
    prepare_memory()
    try:
        run(options)
    except InputError as error:
        print(f"equal_budget: {error}")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
