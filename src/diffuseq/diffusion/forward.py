"""The forward process: noise on everything, on the target only, and with the soft absorbing state.

Levels alpha and sigma are floats, [b] (one a sequence) or [b l] (one a position: token-wise noise). `target`
is a boolean [b l], True where noise goes; everything else stays bit-equal.

Legend: b sequences, l length, d embedding width.
"""

from __future__ import annotations

import torch
from torch import Tensor


def add_noise(x0: Tensor, alpha: float | Tensor, sigma: float | Tensor, noise: Tensor) -> Tensor:
    """x_t = α·x_0 + σ·ε for x0 and noise [b l d] (Ho et al., 2020, Eq. 4)."""
    return _fit(alpha, x0) * x0 + _fit(sigma, x0) * noise


def partial_noise(
    x0: Tensor, target: Tensor, alpha: float | Tensor, sigma: float | Tensor, noise: Tensor
) -> Tensor:
    """`add_noise` on the target [b l] only, for x0 and noise [b l d]: partial noising (Gong et al., 2023,
    "DiffuSeq", section 3.1)."""
    return torch.where(target[..., None], add_noise(x0, alpha, sigma, noise), x0)


def absorbing_noise(
    x0: Tensor, target: Tensor, alpha: float | Tensor, sigma: float | Tensor, noise: Tensor, absorbing: Tensor
) -> Tensor:
    """x_t = α·(x_0 − m) + σ·ε + m on the target: the soft absorbing state m [d] of DiffuSeq-v2.

    Gong et al., 2023, "DiffuSeq-v2": the noise gathers around a learned vector instead of zero.
    """
    return torch.where(target[..., None], add_noise(x0 - absorbing, alpha, sigma, noise) + absorbing, x0)


def absorb(
    x_t: Tensor,
    target: Tensor,
    sigma: float | Tensor,
    absorbing: Tensor,
    rate: float,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Discrete noise on top (DiffuSeq-v2): each target position becomes m [d] with probability rate·σ.

    rate is λ of the paper, 0.5 there; σ = √(1 − ᾱ_t). x_t [b l d].
    """
    uniform = torch.rand(target.shape, generator=generator, device=target.device)
    chosen = target & (uniform < rate * _fit(sigma, x_t)[..., 0])
    return torch.where(chosen[..., None], absorbing.to(x_t.dtype), x_t)


def _fit(level: float | Tensor, x: Tensor) -> Tensor:
    """A level as a tensor that broadcasts against x [b l d], in its dtype and on its device."""
    fitted = torch.as_tensor(level, dtype=x.dtype, device=x.device)
    return fitted[(...,) + (None,) * (x.dim() - fitted.dim())]
