"""Writes docs/recipes.md from the recipes themselves; a test holds the page to what this writes.

python docs/recipes_page.py
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path

import torch

from diffuseq.config import BertSizes, Config, DiffusionGeneration
from diffuseq.model.bert_denoiser import BertDenoiser
from diffuseq.recipes import DIFFUSION
from diffuseq.registry import build
from diffuseq.system import SpecialTokens
from diffuseq.systems.published import network_shape

PAGE = Path(__file__).parent / "recipes.md"
BERT_WORDS = 30_522

_QQP = "Quora questions, `prepare qqp` (144,715 pairs)"
_WIKI = "Wiki-Auto, `prepare wiki-auto` (677,751 pairs)"
_QUASAR = "Quasar-T, `prepare quasar-t` (116,953 pairs)"
_DIALOGUE = "Commonsense Conversation, `prepare commonsense-conversation` (3,382,137 pairs)"
DATA = {
    "tiny": "the built-in grammar, 100,000 pairs made on the spot; or any small set",
    "qqp": _QQP,
    "qqp-large": _QQP,
    "qqp-base": _QQP,
    "qqp-small": _QQP,
    "qqp-pretrained": _QQP,
    "wiki-auto": _WIKI,
    "quasar-t": _QUASAR,
    "dialogue": _DIALOGUE,
    "translation": "any parallel text, `prepare columns`",
    "qqp-paper": _QQP,
    "qqp-paper-small": _QQP,
    "quasar-t-paper": _QUASAR,
    "wiki-auto-paper": _WIKI,
    "dialogue-paper": _DIALOGUE,
}
"""What each recipe is meant for. Every recipe runs on any pairs; the numbers are of the published splits."""

_HEAD = """\
# Recipes

A recipe is a Python function in `src/diffuseq/recipes.py` that returns the whole config of a run. Any field
is an option: `diffuseq train qqp --training.minutes 10 --system.width 256`. `diffuseq train RECIPE --help`
shows all with their defaults, and `src/diffuseq/config.py` says what each means. A model folder stands for
its recipe too: `diffuseq train runs/mine --data data/more --out runs/more` trains anew with its settings.

**Going on from a model** (fine-tuning): `diffuseq train qqp --training.start-from qqp --data data/more
--out runs/more` begins with the weights of a model (a folder, or a name as here) and takes its sizes, its tokenizer
and its way of generating; the recipe gives the training. Give a smaller `--training.learning-rate` than the
recipe's, a half or a quarter, and a smaller budget.

**Learning from other models** (knowledge distillation): `--training.teachers runs/mine runs/transformer` learns,
of every word of every target, what these expect on average, to a share `--training.teaching`. They have to have
the same vocabulary, as all have that were trained on the same data with the same settings of `text`; ours and all
autoregressive systems but `gpvae-t5` can teach and be taught. Or learn what several models agree on (minimum Bayes
risk distillation): let each answer the training sources (`generate` with ten candidates), choose among all of them
with `diffuseq combine answers/mine answers/transformer --pairs agreed/train.jsonl`, put the validation pairs beside
that file, and go on from one of the models with `--data agreed`. What either is worth stands in
[results.md](results.md).

The recipes of the other systems are in `src/diffuseq/baselines/recipes.py`: at published sizes `transformer`,
`gru`, `gpt2-base`, `gpt2-large`, `gpvae-t5`, `levt`, `cmlm` and `diffusion-lm`; at that of `qqp`
`transformer-medium`; at that of `qqp-small` `transformer-small`, `gru-small`, `gpt2-scratch-small`,
`gpvae-t5-scratch-small`, `levt-small`, `cmlm-small` and `diffusion-lm-small`. What is as published stands in
[baselines.md](baselines.md).

Sizes count parameters with the largest vocabulary of the recipe; the smaller one of small data lowers them.
A budget is in steps, in times through the pairs (through both directions where the recipe has both), or in minutes
of training, and `--training.steps`, `--training.epochs` or `--training.minutes` puts another in its place: the
learning rate decays over whatever it is. Twenty steps into a run the command says how long all of it will take.
*This page is written by `docs/recipes_page.py`; a test compares them.*
"""


def page() -> str:
    """The page as it has to be."""
    rows = [
        "| recipe | system | parameters | budget | for |",
        "|---|---|---|---|---|",
        *(_row(name, make()) for name, make in DIFFUSION.items()),
    ]
    sections = [_section(name, make(), inspect.getdoc(make) or "") for name, make in DIFFUSION.items()]
    return "\n".join([_HEAD, *rows, "", *sections]).rstrip() + "\n"


def num_parameters(config: Config) -> int:
    """Parameters of a recipe's system, counted without making the weights."""
    words = BERT_WORDS if config.text.tokenizer else config.text.vocab_size
    with torch.device("meta"):
        if config.system.kind == "published":
            network = BertDenoiser(network_shape(config.system, words))
            return sum(parameter.numel() for parameter in network.parameters())
        system = config.system
        if getattr(system, "pretrained", None):
            system = replace(system, bert=BertSizes())  # BERT-base's
        return build(system, SpecialTokens(words, 0, 1, 2, 3, 4)).num_parameters()


def _row(name: str, config: Config) -> str:
    size = f"{num_parameters(config) / 1e6:.1f} M"
    return f"| [{name}](#{name}) | {config.system.kind} | {size} | {_budget(config)} | {_task(name)} |"


def _task(name: str) -> str:
    return DATA[name].partition(",")[0]


def _budget(config: Config) -> str:
    training = config.training
    if training.minutes is not None:
        return f"{training.minutes:g} minutes"
    if training.epochs is not None:
        return f"{training.epochs:g} times through the pairs"
    return f"{training.steps:,} steps of {training.batch_size:,} pairs"


def _section(name: str, config: Config, purpose: str) -> str:
    training, text = config.training, config.text
    system = config.system
    layers = (
        f"{system.layers} layers" if system.kind == "published" else
        f"BERT-base + {system.decoder_layers} layers" if getattr(system, "pretrained", None) else
        f"{system.encoder_layers} + {system.decoder_layers} layers"
    )  # fmt: skip
    vocabulary = f"the vocabulary of {text.tokenizer}" if text.tokenizer else (
        f"{text.algorithm} of up to {text.vocab_size:,} tokens, trained on the data"
    )  # fmt: skip
    lines = [
        f"- **network**: {layers} of width {system.width}, {system.heads} heads; "
        f"{num_parameters(config):,} parameters",
        f"- **data**: {DATA[name]}",
        f"- **text**: {vocabulary}; {_lengths(config)}",
        f"- **training**: {_budget(config)}, {_optimiser(config)}"
        + (", both directions" if training.both_directions else ""),
        f"- **generation**: {_generation(config)}",
    ]
    data = "" if name.startswith("tiny") else " --data DIR"
    return "\n".join([f"## {name}", "", purpose, "", f"    diffuseq train {name}{data}", "", *lines, ""])


def _lengths(config: Config) -> str:
    text = config.text
    if text.published_layout:
        return f"source, target and separators together {config.system.sequence_length} tokens"
    return f"up to {text.max_source} tokens of source and {text.max_target} of target"


def _optimiser(config: Config) -> str:
    training = config.training
    name = {"adamw": "AdamW", "muon": "Muon and AdamW"}[training.optimizer]
    counted_in_steps = training.minutes is None and training.epochs is None
    batch = "" if counted_in_steps else f"batch {training.batch_size:,}, "
    return f"{batch}{name} at {training.learning_rate:g}, {training.schedule} decay"


def _generation(config: Config) -> str:
    settings = config.generation
    drawn = "1 candidate" if settings.candidates == 1 else f"{settings.candidates} candidates"
    if isinstance(settings, DiffusionGeneration):
        return f"{settings.sampler}, {settings.steps:,} calls, {drawn}"
    return f"{settings.strategy} of {settings.beams}, {drawn}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
