"""`diffuseq demo`: the main job, start to end, in a few minutes on a laptop.

Trains the recipe `tiny` on the built-in corpus, shows held-out questions being paraphrased out of noise,
and ends with a table in which the grammar itself says how many answers are right.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from diffuseq.cli.consoles import ReportConsole
from diffuseq.cli.program import program
from diffuseq.cli.train import Reporter
from diffuseq.errors import InputError
from diffuseq.files import check_folder, read_text, write_text
from diffuseq.names import shown, word
from diffuseq.recipes import recipe

_SIGNED = "demo.sha256"
"""The file with the hash of the weights that a demo has left in its folder."""


@dataclasses.dataclass(frozen=True)
class Demo:
    """Train on the built-in corpus, then watch the model answer questions it has never seen."""

    out: Path = Path("runs/demo")
    """Folder of the trained model. An earlier demo's model in it is replaced."""
    questions: int = 200
    """Held-out questions that are answered for the table."""
    watched: int = 2
    """How many of them are shown forming."""
    minutes: float | None = None
    """Training time; the recipe's own unless given."""
    reuse: bool = False
    """Skip the training if --out already holds a model."""
    overwrite: bool = False
    """Train into --out whatever it holds; a run in it is deleted."""
    seed: int = 0
    """Seed of training and generation."""


def main(argv: Sequence[str]) -> int:
    options = tyro.cli(Demo, args=list(argv), prog="diffuseq demo")
    for name, least in (("questions", 1), ("watched", 0)):
        if getattr(options, name) < least:
            raise InputError(f"--{name} is {getattr(options, name)}; give a number of at least {least}.")
    check_folder(options.out)
    console = ReportConsole()
    from diffuseq.data.grammar import Grammar, build_corpus
    from diffuseq.pipeline import DiffuSeqPipeline
    from diffuseq.registry import build

    config = recipe("tiny")
    training = dataclasses.replace(config.training, seed=options.seed)
    if options.minutes is not None:
        training = dataclasses.replace(training, minutes=options.minutes)
    config = dataclasses.replace(config, training=training)
    if not (options.reuse and (options.out / "config.json").is_file()):
        status = _train(config, options, console)
        if status:
            return status
    pipe = DiffuSeqPipeline.from_pretrained(options.out, "cpu")
    rows = build_corpus(num_train=0, num_valid=0, num_test=options.questions)["test"]

    untrained = DiffuSeqPipeline(
        build(pipe.config.system, pipe.tokenizer.special), pipe.tokenizer, pipe.config
    )
    settings = pipe.settings(seed=options.seed)
    _watch(pipe, [row["src"] for row in rows[: options.watched]], settings, console)
    console.rule(f"{options.questions} held-out questions")
    scored = [
        ("untrained", _score(untrained, rows, settings, Grammar())),
        ("trained", _score(pipe, rows, settings, Grammar())),
    ]
    console.print(_table(scored, settings))
    console.print(
        f"The model is in {escape(shown(options.out))}. Ask it something: [bold]"
        + escape(f'echo "{rows[-1]["src"]}" | {program()} generate {word(options.out)} --watch')
        + "[/bold]",
        soft_wrap=True,
    )
    return 0


def _train(config: Any, options: Demo, console: Console) -> int:
    """Train, and note whose run it is. The status is 0, or that of the signal which ended it."""
    from diffuseq.training.run import train
    from diffuseq.training.signals import TrainingStopped

    if _may_replace(options.out):
        _sign(options.out)  # so that one which is killed before it has weights may be replaced too
    elif not options.overwrite:
        raise InputError(
            f"{options.out} holds something else than an earlier demo; choose another --out, or --overwrite it "
            "(--reuse shows a model that is there)."
        )
    console.rule(f"Training on the built-in corpus, {config.training.minutes:g} minutes")
    try:
        with Reporter(console) as reporter:
            train(config, "grammar", options.out, overwrite=True, on_event=reporter)
    except TrainingStopped as stopped:
        _sign(options.out)
        advice = "--reuse shows what the model has learned so far, and the demo without it starts anew."
        print(f"diffuseq: {stopped.what}; {advice}", file=sys.stderr)
        return stopped.code
    _sign(options.out)
    return 0


def _may_replace(out: Path) -> bool:
    """Whether `out` is the demo's own folder, empty, or as an earlier demo has left it: one whose weights have
    changed since then (`train --resume`) is a run of the user's."""
    if out == Demo.out or not out.exists() or not any(out.iterdir()):
        return True
    try:
        return read_text(out / _SIGNED) == _weights_of(out)
    except (OSError, ValueError):
        return False


def _sign(out: Path) -> None:
    write_text(out / _SIGNED, _weights_of(out))


def _weights_of(out: Path) -> str:
    """A hash of the weights in a folder; an empty line where there are none."""
    from diffuseq.weights import hash_weights

    try:
        return hash_weights(out) + "\n"
    except FileNotFoundError:
        return "\n"


def _watch(pipe: Any, sources: Sequence[str], settings: Any, console: Console) -> None:
    from diffuseq.cli.watch import watch

    for source in sources:
        console.rule("out of noise")
        watch(pipe, source, settings, console=console)


def _score(pipe: Any, rows: Sequence[dict[str, Any]], settings: Any, grammar: Any) -> dict[str, float]:
    """Everything that the table shows of one model."""
    from diffuseq.metrics.bleu import sentence_bleu
    from diffuseq.metrics.diversity import self_bleu

    sources, references = [row["src"] for row in rows], [row["trg"] for row in rows]
    began = time.perf_counter()
    answers = pipe.answer_all(sources, settings)
    seconds = (time.perf_counter() - began) / len(rows)
    chosen = [answer.text for answer in answers]
    candidates = [answer.candidates for answer in answers]
    verdict = grammar.score_answers(sources, candidates, chosen)
    return {
        **verdict,
        "bleu": float(sentence_bleu(chosen, references).mean()),
        "copy_bleu": float(sentence_bleu(sources, references).mean()),
        "self_bleu": float(self_bleu(candidates).mean()),
        "seconds": seconds,
        "forwards": answers[0].forwards,
    }


def _table(scored: Sequence[tuple[str, dict[str, float]]], settings: Any) -> Table:
    sampler = f", sampler {settings.sampler}" if hasattr(settings, "sampler") else ""
    title = f"chosen out of {settings.candidates} candidate{'s' * (settings.candidates != 1)}{sampler}"
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name, _ in scored:
        table.add_column(name, justify="right")
    lines = [
        ("valid paraphrases (same meaning, other words)", "valid", ".0%"),
        ("valid among all candidates", "valid_candidates", ".0%"),
        (f"distinct valid answers of {settings.candidates}", "distinct_valid", ".2f"),
        ("BLEU to the one reference", "bleu", ".3f"),
        ("BLEU of copying the source", "copy_bleu", ".3f"),
        ("self-BLEU of the candidates (lower is more diverse)", "self_bleu", ".3f"),
        ("seconds a question", "seconds", ".3f"),
        ("network calls a candidate", "forwards", ".0f"),
    ]
    for title, key, form in lines:
        if settings.candidates > 1 or key != "self_bleu":  # which takes two
            table.add_row(title, *(format(scores[key], form) for _, scores in scored))
    return table
