"""Words drawn from a network's distributions: what samplers share that settle on words.

Legend: n rows, l positions, m of them open, v vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffuseq.sampling.step import Step


@dataclass(frozen=True)
class WordStep(Step):
    """A `Step` with the words as they stand: tokens [n l], the log-probability of each when it was drawn, log_p
    [n l], which will not change any more, settled [n l], what is no word of the text, padding [n l], and the
    log-probability of every text, with its end where that was drawn, text_log_p [n]."""

    tokens: Tensor
    log_p: Tensor
    settled: Tensor
    padding: Tensor
    text_log_p: Tensor


def sum_log_p(log_p: Tensor, left_out: Tensor) -> Tensor:
    """Log-probability of every text [n] from that of its words [n l] but those left out [n l]. None counts as less
    likely than 10⁻³⁰, so that the sum is finite."""
    return log_p.clamp_min(math.log(1e-30)).masked_fill(left_out, 0.0).sum(1)


def uniform(normal: Tensor) -> Tensor:
    """Numbers between 0 and 1, ends excluded, from standard normal ones."""
    return torch.special.ndtr(normal.float()).clamp(1e-6, 1 - 1e-6)


def gumbel(normal: Tensor) -> Tensor:
    """Standard Gumbel numbers from standard normal ones."""
    return -(-uniform(normal).log()).log()


def draw_apart(
    parts: Iterable[Tensor], never: Sequence[Tensor], quantile: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """`draw_words` at m positions, whose logits come in consecutive parts [.. v] and are written to. never: words
    that are ruled out, each [m] (−1: none)."""
    drawn, done = [], 0
    for logits in parts:
        now = slice(done, done := done + len(logits))
        for words in never:
            silence(logits, words[now])
        drawn.append(draw_words(logits, quantile[now], temperature))
    ids, log_p = zip(*drawn, strict=True)
    return torch.cat(ids), torch.cat(log_p)


def silence(logits: Tensor, words: Tensor) -> None:
    """Rule out, in place in the logits [m v], one word for each [m] (−1: none)."""
    rows = (words >= 0).nonzero().squeeze(1)
    logits[rows, words[rows]] = -math.inf


def draw_words(logits: Tensor, quantile: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """A word at every position by the inverse of its distribution, and the log-probability of it.

    logits [.. v]; quantile [..] a number in 0…1 for each position, so that a row's draw depends on what it is
    given only.
    """
    logits = logits.float()
    if temperature == 0:
        best, ids = logits.max(-1)
        return ids, best - logits.logsumexp(-1)
    sharp = (logits if temperature == 1 else logits / temperature).softmax(-1)
    cumulated = sharp.cumsum(-1)
    # rounding may leave the sum below the quantile, where no word is possible any more
    reached = torch.searchsorted(cumulated, quantile[..., None].minimum(cumulated[..., -1:]))
    ids = reached.clamp_max(logits.shape[-1] - 1)  # logits that are no numbers
    if temperature == 1:
        log_p = sharp.gather(-1, ids).squeeze(-1).log()
    else:
        log_p = logits.gather(-1, ids).squeeze(-1) - logits.logsumexp(-1)
    return ids.squeeze(-1), log_p
