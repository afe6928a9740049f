"""The real Transformer baseline at a tiny size, pairs to learn, and a run on a folder of them."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from diffuseq.baselines.configs import AutoregressiveGeneration, TransformerConfig
from diffuseq.baselines.transformer import Transformer
from diffuseq.config import Config, PublishedConfig, TextConfig, TrainingConfig
from diffuseq.data.batch import Batch, pad
from diffuseq.system import SpecialTokens

SPECIAL = SpecialTokens(vocab_size=24, pad=0, start=1, end=2, unknown=3, mask=4)
NETWORK = TransformerConfig(
    encoder_layers=1,
    decoder_layers=1,
    heads=2,
    width=16,
    feed_forward=32,
    dropout=0.0,
    label_smoothing=0.0,
    max_length=32,
)
WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta"]


def system(seed: int = 0, **changes: Any) -> Transformer:
    torch.manual_seed(seed)
    return Transformer(dataclasses.replace(NETWORK, **changes), SPECIAL)


def batch(count: int, seed: int = 0, shortest: int = 2, longest: int = 6) -> Batch:
    """Random sources, and their reverses as targets."""
    draw = random.Random(seed)
    rows = [draw.choices(range(5, 24), k=draw.randint(shortest, longest)) for _ in range(count)]
    return Batch(*pad(rows, 0), *pad([row[::-1] for row in rows], 0))


def settings(**changes: Any) -> TrainingConfig:
    plain = TrainingConfig(
        batch_size=8,
        steps=12,
        log_every=4,
        evaluate_every=6,
        evaluate_rows=2,
        save_every=4,
        learning_rate=3e-3,
    )
    return dataclasses.replace(plain, **changes)


def config(**changes: Any) -> Config:
    """A run on `write_data`; changes are those of its training."""
    return Config(
        system=dataclasses.replace(NETWORK, dropout=0.1),
        text=TextConfig(vocab_size=64, max_source=8, max_target=8),
        training=settings(**changes),
        generation=AutoregressiveGeneration(max_length=8),
    )


def plain(**changes: Any) -> Config:
    """The same without dropout, so without random numbers."""
    return dataclasses.replace(config(**changes), system=NETWORK)


def published(**changes: Any) -> Config:
    """The same with the published system, which draws its times by the losses that they had; few times, so
    that it soon does."""
    system = PublishedConfig(
        layers=1,
        heads=2,
        width=16,
        feed_forward=32,
        embedding_width=8,
        time_width=8,
        diffusion_steps=4,
        sequence_length=24,
    )
    return Config(system, config().text, settings(**{"batch_size": 16, "evaluate_rows": 0, **changes}))


def write_data(folder: Path, rows: int = 60) -> Path:
    """train.jsonl and valid.jsonl with word lists and their reverses."""
    folder.mkdir()
    draw = random.Random(0)
    for split, count in (("train", rows), ("valid", 10)):
        with open(folder / f"{split}.jsonl", "w", encoding="utf-8") as file:
            for _ in range(count):
                words = draw.choices(WORDS, k=draw.randint(2, 6))
                file.write(json.dumps({"src": " ".join(words), "trg": " ".join(words[::-1])}) + "\n")
    return folder


def same_weights(folder: Path, other: Path) -> bool:
    """Whether two model folders hold the same weights, bit for bit."""
    weights, others = (load_file(path / "model.safetensors") for path in (folder, other))
    return weights.keys() == others.keys() and all(
        torch.equal(weights[name], others[name]) for name in others
    )
