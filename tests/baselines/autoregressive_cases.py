"""Tiny autoregressive systems and pairs that the tests of this folder share."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from memorise import SPECIAL

from diffuseq.baselines.autoregressive import Autoregressive
from diffuseq.baselines.configs import (
    AutoregressiveGeneration,
    Gpt2Config,
    GpvaeT5Config,
    GruConfig,
    TransformerConfig,
)
from diffuseq.data.batch import Batch, pad
from diffuseq.registry import build
from diffuseq.system import Draft, Request

CONFIGS: dict[str, Any] = {
    "transformer": TransformerConfig(
        encoder_layers=1,
        decoder_layers=2,
        heads=2,
        width=32,
        feed_forward=64,
        dropout=0.0,
        label_smoothing=0.0,
    ),
    "gru": GruConfig(layers=1, width=32, hidden=32, dropout=0.0),
    "gpt2": Gpt2Config(weights="random", layers=2, heads=2, width=32, max_length=64, dropout=0.0),
    "gpvae-t5": GpvaeT5Config(
        weights="random", layers=1, heads=2, width=32, head_width=16, feed_forward=64, dropout=0.0
    ),
}


def system(kind: str, seed: int = 0, **changes: Any) -> Autoregressive:
    torch.manual_seed(seed)
    built = build(dataclasses.replace(CONFIGS[kind], **changes), SPECIAL)
    assert isinstance(built, Autoregressive)
    return built.eval()


def pairs(count: int, seed: int = 1, longest: int = 6) -> Batch:
    """Random pairs of 2 … `longest` tokens, whose sources all differ."""
    draw = torch.Generator().manual_seed(seed)

    def text(least: int) -> list[int]:
        length = int(torch.randint(least, longest + 1, (1,), generator=draw))
        return torch.randint(5, SPECIAL.vocab_size, (length,), generator=draw).tolist()

    sources: list[list[int]] = []
    while len(sources) < count:
        if (source := text(2)) not in sources:
            sources.append(source)
    return Batch(*pad(sources, SPECIAL.pad), *pad([text(0) for _ in sources], SPECIAL.pad))


def request(
    batch: Batch, candidates: int = 1, template: torch.Tensor | None = None, **settings: Any
) -> Request:
    """Row i·k+j has a seed that depends on i and j alone."""
    settings = {"max_length": 8, **settings}
    seeds = [1000 * i + j for i in range(len(batch)) for j in range(candidates)]
    generation = AutoregressiveGeneration(candidates=candidates, **settings)
    return Request(batch.source, batch.source_padding, candidates, seeds, generation, template)


def last(built: Autoregressive, asked: Request) -> Draft:
    *_, draft = built.generate(asked)
    return draft


def texts(tokens: torch.Tensor, padding: torch.Tensor) -> list[list[int]]:
    return [row[~hidden].tolist() for row, hidden in zip(tokens, padding, strict=True)]


def answers(built: Autoregressive, asked: Request) -> list[list[int]]:
    draft = last(built, asked)
    return texts(draft.tokens, draft.padding)
