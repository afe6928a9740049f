"""The objectives of the published system: what the released code descends, and what the paper writes.

docs/loss.md puts the two side by side. Every function gives one number a sequence, so that importance
weights can multiply it.

Legend: b rows, l positions, d embedding width, v vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class DiffusionTerms:
    """The terms of the published objective, each [b]; `total` is their sum."""

    reconstruction: Tensor
    """How far the network's estimate is from x_0 (at t = 0: from the clean embeddings)."""
    rounding: Tensor
    """−log p(w | x_0): keeps the embeddings of different words apart; the network has no part in it."""
    prior: Tensor
    """How much of x_0 is left at the noisiest level; negligible."""

    @property
    def total(self) -> Tensor:
        return self.reconstruction + self.rounding + self.prior


def published_objective(
    estimate: Tensor, x0: Tensor, clean: Tensor, logits: Tensor, ids: Tensor, first: Tensor, alpha_last: float
) -> DiffusionTerms:
    """The loss of the released code: the paper's, but over all positions, source and padding too.

    estimate: f_θ(z_t, t) [b l d]; x0: the noisy start x_0 [b l d]; clean: the embeddings of the words
    [b l d]; logits: lm_head(x_0) [b l v]; ids: the words [b l]; first: bool [b], True where t = 0;
    alpha_last: √ᾱ of the noisiest level.
    """
    everywhere = torch.ones_like(ids, dtype=torch.bool)
    return paper_objective(estimate, x0, clean, logits, ids, first, alpha_last, target=everywhere)


def paper_objective(
    estimate: Tensor,
    x0: Tensor,
    clean: Tensor,
    logits: Tensor,
    ids: Tensor,
    first: Tensor,
    alpha_last: float,
    target: Tensor,
) -> DiffusionTerms:
    """Eq. 2 of Gong et al. (2023): ‖y_0 − f̃‖², at t = 0 ‖Emb(w^y) − f̃‖², on the target only, and R(‖z_0‖²).

    target: bool [b l]; the other arguments are those of `published_objective`. R stands for the terms that
    bound z_0: the rounding of all words and the prior, without which every embedding would shrink to 0.
    """
    goal = torch.where(first[:, None, None], clean, x0)
    return DiffusionTerms(
        reconstruction=masked_mean((goal - estimate).square().mean(-1), target),
        rounding=word_cross_entropy(logits, ids, torch.ones_like(target)),
        prior=(alpha_last * x0).square().mean((1, 2)),
    )


def word_cross_entropy(logits: Tensor, ids: Tensor, counted: Tensor) -> Tensor:
    """−log p of the words ids [b l] under logits [b l v], in nats, mean over the counted positions → [b]."""
    nll = F.cross_entropy(logits.transpose(1, 2).float(), ids, reduction="none")
    return masked_mean(nll, counted)


def absorbing_norm(absorbing: Tensor) -> Tensor:
    """‖m‖ of the soft absorbing state m [d] of DiffuSeq-v2 (Gong et al., 2023, arXiv 2310.05793)."""
    return torch.linalg.vector_norm(absorbing)


def masked_mean(values: Tensor, counted: Tensor) -> Tensor:
    """Mean of values [b l] over the counted positions of each row → [b]; 0 where a row has none."""
    return (values * counted).sum(1) / counted.sum(1).clamp_min(1)
