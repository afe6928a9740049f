"""Pairs as long as QQP's, without text: lengths are drawn from a recorded histogram, words at random.

Legend: b pairs, s source length, l target length.
"""

from __future__ import annotations

import random

import torch

from diffuseq.data.batch import Batch, pad
from diffuseq.system import Request, SpecialTokens

QQP_LENGTHS = {
    4: 3, 5: 14, 6: 38, 7: 75, 8: 108, 9: 120, 10: 120, 11: 108, 12: 88, 13: 64, 14: 50, 15: 40, 16: 30,
    17: 27, 18: 21, 19: 19, 20: 14, 21: 11, 22: 10, 23: 8, 24: 7, 25: 6, 26: 4, 28: 6, 30: 4, 32: 3, 36: 2,
}  # fmt: skip
"""Texts of QQP's training pairs by their length in BERT's tokens, special tokens not counted: of 1,000 about
so many. The mean is 11.9 for sources and for targets, 14 with [CLS] and [SEP]."""
SAME_LENGTH = 0.63
"""Share of pairs whose target is given the source's length, so that the two correlate as in QQP (0.63)."""
_FIRST_WORD = 5

Pair = tuple[list[int], list[int]]


def draw_pairs(count: int, special: SpecialTokens, seed: int = 0) -> list[Pair]:
    """(source ids, target ids) of `count` pairs."""
    draw = random.Random(seed)
    lengths, weights = list(QQP_LENGTHS), list(QQP_LENGTHS.values())

    def words(length: int) -> list[int]:
        return draw.choices(range(_FIRST_WORD, special.vocab_size), k=length)

    pairs = []
    for _ in range(count):
        source, other = draw.choices(lengths, weights, k=2)
        pairs.append((words(source), words(source if draw.random() < SAME_LENGTH else other)))
    return pairs


def make_batch(pairs: list[Pair], special: SpecialTokens) -> Batch:
    """Pairs as one batch."""
    sources, targets = zip(*pairs, strict=True)
    return Batch(*pad(sources, special.pad), *pad(targets, special.pad))


def training_batches(rows: int, special: SpecialTokens, count: int = 4, among: int = 32) -> list[Batch]:
    """`count` batches of `rows` pairs, evenly spread over `among` batches sorted by length.

    The batches of a training are sorted the same way, so that padding is as rare here as there.
    """
    pairs = sorted(draw_pairs(rows * among, special), key=lambda pair: max(map(len, pair)))
    chosen = ((2 * i + 1) * among // (2 * count) for i in range(count))
    return [make_batch(pairs[i * rows : (i + 1) * rows], special) for i in chosen]


def fixed_batch(rows: int, source: int, target: int, special: SpecialTokens) -> Batch:
    """Pairs of one length."""
    generator = torch.Generator().manual_seed(0)

    def side(length: int) -> tuple[torch.Tensor, torch.Tensor]:
        ids = torch.randint(_FIRST_WORD, special.vocab_size, (rows, length), generator=generator)
        return ids, torch.zeros_like(ids, dtype=torch.bool)

    return Batch(*side(source), *side(target))


def make_request(batch: Batch, settings: object, device: torch.device, candidates: int = 1) -> Request:
    """What is asked for the sources of a batch."""
    seeds = list(range(len(batch) * candidates))
    return Request(batch.source.to(device), batch.source_padding.to(device), candidates, seeds, settings)
