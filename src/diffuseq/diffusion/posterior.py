"""The reverse of one step of noise, between any two levels, and what x_0, ε and v say about one another.

Everything is plain arithmetic: states are tensors of any shape, levels are floats or tensors that broadcast
against them. s is the cleaner level, t the noisier one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor

Level = TypeVar("Level", float, Tensor)


@dataclass(frozen=True)
class Posterior(Generic[Level]):
    """q(x_s | x_t, x_0) is normal with mean x0_weight·x_0 + x_t_weight·x_t and variance `variance_small`.

    `variance_large` is the variance of q(x_t | x_s), β of a single step: the two choices of Ho et al. (2020),
    section 3.2, for the reverse process.
    """

    x0_weight: Level
    x_t_weight: Level
    variance_small: Level
    variance_large: Level

    def mean(self, x_t: Tensor, x0: Tensor) -> Tensor:
        return self.x0_weight * x0 + self.x_t_weight * x_t


def between(alpha_t: Level, sigma_t: Level, alpha_s: Level, sigma_s: Level) -> Posterior[Level]:
    """The posterior between two levels (Kingma et al., 2021, "Variational Diffusion Models", appendix A).

    For neighbours of a chain it is Eq. 7 of Ho et al. (2020). sigma_t must be above 0; at a clean s
    (sigma_s = 0) the mean is x_0 and the small variance 0.
    """
    ratio = alpha_t / alpha_s
    variance_t_given_s = sigma_t**2 - ratio**2 * sigma_s**2
    share = variance_t_given_s / sigma_t**2
    return Posterior(alpha_s * share, ratio * sigma_s**2 / sigma_t**2, share * sigma_s**2, variance_t_given_s)


def eps_from_x0(x_t: Tensor, x0: Tensor, alpha: float | Tensor, sigma: float | Tensor) -> Tensor:
    """ε = (x_t − α·x_0)/σ."""
    return (x_t - alpha * x0) / sigma


def x0_from_eps(x_t: Tensor, eps: Tensor, alpha: float | Tensor, sigma: float | Tensor) -> Tensor:
    """x_0 = (x_t − σ·ε)/α."""
    return (x_t - sigma * eps) / alpha


def v_from_x0(x_t: Tensor, x0: Tensor, alpha: float | Tensor, sigma: float | Tensor) -> Tensor:
    """v = α·ε − σ·x_0 (Salimans & Ho, 2022, appendix D), from x_t and x_0."""
    return (alpha * x_t - x0) / sigma


def x0_from_v(x_t: Tensor, v: Tensor, alpha: float | Tensor, sigma: float | Tensor) -> Tensor:
    """x_0 = α·x_t − σ·v."""
    return alpha * x_t - sigma * v


def eps_from_v(x_t: Tensor, v: Tensor, alpha: float | Tensor, sigma: float | Tensor) -> Tensor:
    """ε = σ·x_t + α·v."""
    return sigma * x_t + alpha * v
