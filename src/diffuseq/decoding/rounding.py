"""From embeddings or logits to words.

Legend: d embedding width, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_ROWS_AT_A_TIME = 1024
"""Positions whose scores over the vocabulary are in memory at once: 125 MB with 30,522 words."""


def nearest(x: Tensor, table: Tensor, chunk: int = _ROWS_AT_A_TIME) -> Tensor:
    """Ids [..] of the rows of `table` [v d] at the smallest Euclidean distance from x [.. d].

    `chunk` positions are compared with the whole table at a time.
    """
    table = table.to(x.dtype)
    half_norms = 0.5 * table.square().sum(1)
    # argmin of |x − row|² = argmax of x·row − |row|²/2, for |x|² is the same for every row
    return _in_chunks(lambda rows: torch.addmm(half_norms, rows, table.T, beta=-1).argmax(1), x, chunk)


def by_logits(x: Tensor, weight: Tensor, bias: Tensor | None = None, chunk: int = _ROWS_AT_A_TIME) -> Tensor:
    """Ids [..] with the largest logit of a linear head, weight [v d] and bias [v], over x [.. d]."""
    return _in_chunks(lambda rows: torch.nn.functional.linear(rows, weight, bias).argmax(1), x, chunk)


def likeliest(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The ids [..] of the largest logits [.. v] and their probabilities [..], the confidence of a draft."""
    best, ids = logits.max(-1)
    return ids, (best - logits.logsumexp(-1)).exp()


def _in_chunks(choose: Callable[[Tensor], Tensor], x: Tensor, chunk: int) -> Tensor:
    rows = x.reshape(-1, x.shape[-1])
    if not len(rows):
        return torch.empty(x.shape[:-1], dtype=torch.long, device=x.device)
    return torch.cat([choose(part) for part in rows.split(chunk)]).view(x.shape[:-1])
