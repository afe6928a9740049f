"""What samplers take and give: the vocabulary of the sampling contract.

Legend: n rows (candidates of sources), l target (or whole sequence) length, d embedding width, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


class Estimate(NamedTuple):
    """What a denoiser gives back: the clean embeddings x0 [n l d] and, where it has them, logits [n l v]."""

    x0: Tensor
    logits: Tensor | None = None


Denoise = Callable[[Tensor, float], Estimate]
"""(x_t [n l d], time in the grid's units) → the estimate of the clean embeddings."""

Project = Callable[[Tensor, float, float], Tensor]
"""(x_s [n l d], alpha_s, sigma_s) → x_s with the known positions put back."""

Noise = Callable[[Tensor], Tensor]
"""A tensor → standard normal noise of its shape, dtype and device."""


@dataclass(frozen=True)
class Step:
    """What a sampler yields after each network call.

    index counts calls from 0 and total is their number; time is what the network was called with;
    x [n l d] is the state after the update and estimate is what the network said before it.
    """

    index: int
    total: int
    time: float
    x: Tensor
    estimate: Estimate


def keep(x: Tensor, alpha: float, sigma: float) -> Tensor:
    """The `Project` that puts nothing back."""
    return x
