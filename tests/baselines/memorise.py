"""A tiny corpus to learn by heart, and the few lines of training that it takes."""

from __future__ import annotations

import random

import torch

from diffuseq.data.batch import Batch, pad
from diffuseq.system import Draft, Request, SpecialTokens, System

SPECIAL = SpecialTokens(vocab_size=30, pad=0, start=1, end=2, unknown=3, mask=4)


def pairs(count: int = 64, longest: int = 7, seed: int = 2) -> Batch:
    """Random sources and, unrelated to them, random targets of several lengths."""
    draw = random.Random(seed)
    words = range(5, SPECIAL.vocab_size)

    def text() -> list[int]:
        return draw.choices(words, k=draw.randint(3, longest))

    return Batch(*pad([text() for _ in range(count)], 0), *pad([text() for _ in range(count)], 0))


def memorise(
    system: System, batch: Batch, steps: int, learning_rate: float = 3e-3, seed: int = 0
) -> list[float]:
    """Train on the whole batch; the loss of every step."""
    system.train()
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(system.parameters(), lr=learning_rate, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, steps, pct_start=0.1)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = system(batch, generator).value
        loss.backward()
        torch.nn.utils.clip_grad_norm_(system.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


def request(batch: Batch, settings: object, candidates: int = 1, **more: object) -> Request:
    """A request for the batch's sources; the seed of a row depends on its source and candidate alone."""
    seeds = [sum(row) * 100 + j for row in batch.source.tolist() for j in range(candidates)]
    return Request(batch.source, batch.source_padding, candidates, seeds, settings, **more)  # type: ignore[arg-type]


def answer(system: System, asked: Request) -> Draft:
    """The last draft."""
    *_, last = system.generate(asked)
    return last


def texts(draft: Draft) -> list[list[int]]:
    return [row[~gone].tolist() for row, gone in zip(draft.tokens, draft.padding, strict=True)]


def share_right(draft: Draft, batch: Batch) -> float:
    """Share of answers that are the target, token by token."""
    targets = [row[~gone].tolist() for row, gone in zip(batch.target, batch.target_padding, strict=True)]
    return sum(a == b for a, b in zip(texts(draft), targets, strict=True)) / len(targets)


def rows(batch: Batch, chosen: slice) -> Batch:
    """Some of the pairs, cut to the longest of them, as a batch of their own."""
    part = batch.map(lambda tensor: tensor[chosen])
    source, target = ((~p).sum(1).max() for p in (part.source_padding, part.target_padding))
    return Batch(
        part.source[:, :source],
        part.source_padding[:, :source],
        part.target[:, :target],
        part.target_padding[:, :target],
    )
