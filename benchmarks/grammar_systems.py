"""Every system learns the built-in corpus for equal CPU seconds, at equal size; the grammar judges them.

    python benchmarks/grammar_systems.py                                  all systems, four minutes each
    python benchmarks/grammar_systems.py --systems levt,cmlm --seconds 120 --out runs/grammar
    python benchmarks/grammar_systems.py --dry-run                        all of it in tiny

One thread; only the training's own processor time counts, so a busy machine changes nothing. A line for every
way of generating: valid (share of held-out questions whose chosen answer means the same in other words, which
a copy never does), valid among all candidates, distinct valid wordings a question, BLEU to one reference.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from choosing import chosen
from counting import count, positive
from cpu_budget import train_for
from earlier import add_results, check_asked, note_asked

from diffuseq.baselines.configs import (
    AutoregressiveGeneration,
    CMLMConfig,
    DiffusionLMConfig,
    Gpt2Config,
    GpvaeT5Config,
    GruConfig,
    GuidedGeneration,
    IterativeGeneration,
    LevTConfig,
    TransformerConfig,
)
from diffuseq.config import Config
from diffuseq.data.grammar import Grammar, build_corpus
from diffuseq.errors import InputError
from diffuseq.memory import prepare_memory
from diffuseq.metrics.bleu import sentence_bleu
from diffuseq.pipeline import DiffuSeqPipeline
from diffuseq.recipes import recipe
from diffuseq.training.corpus import GRAMMAR, Corpus, prepare_corpus
from diffuseq.training.tracking import ignore

CANDIDATES = 4
_SIZES: dict[str, Any] = {"heads": 4, "width": 128, "dropout": 0.0}
_LAYERS: dict[str, Any] = {**_SIZES, "encoder_layers": 2, "decoder_layers": 3, "feed_forward": 384}
_POSITIONS = 64


@dataclass(frozen=True)
class Entry:
    """A system of the comparison: its config, and its ways of generating by name, as changed settings."""

    config: Config
    ways: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Result:
    """A line of the table. forwards and seconds are those of a question's candidates."""

    system: str
    way: str
    parameters: int
    train_seconds: float
    steps: int
    pairs: int
    forwards: float
    seconds: float
    scores: dict[str, float] = field(default_factory=dict)
    samples: list[tuple[str, str]] = field(default_factory=list)


def systems() -> dict[str, Entry]:
    """Every system at about the size of the recipe `tiny` (2 + 3 layers of 128), with that recipe's text."""
    autoregressive = AutoregressiveGeneration(max_length=32)
    drawn = {"candidates": CANDIDATES, "strategy": "sample"}
    written = {"greedy": {}, "beam of 5": {"strategy": "beam"}, "sampling": drawn}
    own_latents = {"greedy": {"candidates": CANDIDATES}, "beam of 5": {"strategy": "beam"}}
    decoder = {**_LAYERS, "norm": "pre", "max_length": _POSITIONS}
    return {
        "diffuseq": Entry(recipe("tiny"), {"10 calls": {"candidates": CANDIDATES}}),
        "transformer": _entry(
            TransformerConfig(**decoder, label_smoothing=0.0), autoregressive, written, 2e-3
        ),
        "gru": _entry(GruConfig(layers=1, width=128, hidden=192, dropout=0.0), autoregressive, written, 3e-3),
        "gpt2": _entry(
            Gpt2Config(weights="random", layers=5, **_SIZES, max_length=80), autoregressive, written, 2e-3
        ),
        "gpvae-t5": _entry(
            GpvaeT5Config(weights="random", layers=2, head_width=32, feed_forward=384, **_SIZES),
            autoregressive,
            own_latents,
            2e-3,
        ),
        "levt": _entry(
            LevTConfig(**decoder, max_insertions=31, label_smoothing=0.0, from_empty=0.3, roll_in_noise=0.2),
            IterativeGeneration(steps=9),
            {"edits": {}, "drawn": {"candidates": CANDIDATES, "temperature": 0.7}},
            3e-3,
            optimizer="muon",
        ),
        "cmlm": _entry(
            CMLMConfig(**decoder, label_smoothing=0.0),
            IterativeGeneration(steps=10),
            {
                "5 lengths": {"length_beam": 5},
                "drawn": {"candidates": CANDIDATES, "length_beam": 2, "temperature": 0.7},
            },
            2e-3,
        ),
        "diffusion-lm": _entry(
            DiffusionLMConfig(
                **_SIZES,
                layers=4,
                feed_forward=384,
                embedding_width=64,
                time_width=64,
                sequence_length=34,
                classifier_layers=2,
                classifier_heads=4,
                classifier_width=128,
                classifier_feed_forward=384,
            ),
            GuidedGeneration(candidates=CANDIDATES, steps=100, update_rate=0.3),
            {"guided": {}, "unguided": {"guidance": 0.0}},
            2e-3,
        ),
    }


def _entry(
    system: Any,
    generation: Any,
    ways: dict[str, dict[str, Any]],
    learning_rate: float,
    optimizer: Literal["adamw", "muon"] = "adamw",
) -> Entry:
    config = recipe("tiny")
    training = replace(config.training, batch_size=32, learning_rate=learning_rate, optimizer=optimizer)
    return Entry(replace(config, system=system, generation=generation, training=training), ways)


def measure(
    pipe: DiffuSeqPipeline, rows: Sequence[dict[str, Any]], changes: dict[str, Any]
) -> dict[str, Any]:
    """What the grammar says of the answers, BLEU, and what a question cost."""
    sources = [row["src"] for row in rows]
    began = time.process_time()
    answers = pipe.answer_all(sources, pipe.settings(**changes))
    seconds = (time.process_time() - began) / len(rows)
    texts = [answer.text for answer in answers]
    verdict = Grammar().score_answers(sources, [answer.candidates for answer in answers], texts)
    verdict["bleu"] = float(sentence_bleu(texts, [row["trg"] for row in rows]).mean())
    return {
        "scores": verdict,
        "seconds": seconds,
        "forwards": sum(answer.forwards for answer in answers) / len(answers),
        "samples": list(zip(sources[:5], texts[:5], strict=True)),
    }


def copying(rows: Sequence[dict[str, Any]]) -> Result:
    """The yardstick: every question is its own answer."""
    sources = [row["src"] for row in rows]
    scores = Grammar().score_answers(sources, [[source] for source in sources])
    scores["bleu"] = float(sentence_bleu(sources, [row["trg"] for row in rows]).mean())
    return Result("copying", "", 0, 0.0, 0, 0, 0.0, 0.0, scores)


def table(results: Sequence[Result]) -> str:
    """The results as a Markdown table."""
    header = (
        "| system | generation | parameters | pairs | valid | valid of all | distinct | BLEU | calls | s |"
    )
    lines = [header, "|---|---|" + "---:|" * 8]
    for r in results:
        cells = [r.system, r.way, f"{r.parameters / 1e6:.2f} M", f"{r.pairs / 1e3:.1f} k"]
        cells += [f"{r.scores[name]:.2f}" for name in ("valid", "valid_candidates", "distinct_valid")]
        cells += [f"{r.scores['bleu']:.3f}", f"{r.forwards:.0f}", f"{r.seconds:.3f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


@contextmanager
def on_the_grammar(questions: int) -> Iterator[tuple[Corpus, list[dict[str, Any]]]]:
    """The corpus that the recipe `tiny` trains on, and so many held-out questions; everything on one thread."""
    torch.set_num_threads(1)
    prepare_memory()
    with tempfile.TemporaryDirectory() as cache:
        corpus = prepare_corpus(GRAMMAR, Path(cache), recipe("tiny").text, 0, ignore)
        yield corpus, build_corpus(num_train=0, num_valid=questions, num_test=0)["valid"]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--systems", help=f"some of {','.join(systems())}; all by default")
    parser.add_argument(
        "--seconds", type=positive, default=240.0, help="processor seconds of training for each"
    )
    parser.add_argument("--questions", type=count, default=200, help="held-out questions to answer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, help="folder for the trained models and results.json, which keeps other systems"
    )
    parser.add_argument("--dry-run", action="store_true", help="a second of training, four questions")
    options = parser.parse_args(arguments)
    seconds, questions = (1.0, 4) if options.dry_run else (options.seconds, options.questions)
    try:
        names = chosen(options.systems, systems(), "system")
        if options.out is not None:
            asked = {"seconds": seconds, "questions": questions, "seed": options.seed}
            check_asked(options.out, asked)
            note_asked(options.out, asked)
    except InputError as error:
        parser.error(str(error))
    with on_the_grammar(questions) as (corpus, rows):
        results = [copying(rows)]
        for name in names:
            entry = systems()[name]
            config = replace(entry.config, training=replace(entry.config.training, seed=options.seed))
            pipe, progress = train_for(config, corpus, seconds)
            spent = Result(
                name,
                "",
                pipe.system.num_parameters(),
                progress.seconds,
                progress.step,
                progress.pairs,
                0.0,
                0.0,
            )
            if options.out is not None:
                pipe.save_pretrained(options.out / name)
            for way, changes in entry.ways.items():
                if options.dry_run and "steps" in vars(config.generation):
                    changes = {**changes, "steps": 2}
                results.append(replace(spent, way=way, **measure(pipe, rows, changes)))
                print(table(results[-1:]).splitlines()[-1], flush=True)
                if options.out is not None:
                    add_results(options.out, ("system", "way"), [asdict(each) for each in results])
    print(f"\n{table(results)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
