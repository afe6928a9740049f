"""Which lengths the candidates of a source get: many of the likely lengths, few of the others.

Minimum Bayes risk compares the candidates with one another. Dealt evenly over several lengths, most of them
would have a length that the model thinks unlikely, and the answer that agrees with most would be a
compromise; in proportion to their probability, the candidates are what they should be, samples of answers.

Legend: b sources, m lengths, k candidates a source.
"""

from __future__ import annotations

import torch
from torch import Tensor


def apportion(log_probs: Tensor, candidates: int) -> Tensor:
    """Ranks of the lengths for k candidates, long [b k], in proportion to log_probs [b m].

    Seats go one by one to the length with the largest p / (2·seats + 1), the method of Sainte-Laguë: the
    first candidate has the likeliest length, and asking for more candidates changes none of the first.
    """
    seats = torch.zeros_like(log_probs)
    ranks = []
    for _ in range(candidates):
        best = (log_probs - (2 * seats + 1).log()).argmax(-1, keepdim=True)
        seats.scatter_add_(1, best, torch.ones_like(best, dtype=seats.dtype))
        ranks.append(best)
    return torch.cat(ranks, dim=1)
