"""DDIM, and the same update with any share of fresh noise.

Song et al., 2021, "Denoising Diffusion Implicit Models". Legend: n rows, l length, d embedding width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from diffuseq.diffusion.posterior import between, eps_from_x0
from diffuseq.errors import InputError
from diffuseq.sampling.grid import Grid, Level
from diffuseq.sampling.step import Denoise, Noise, Project, Step, keep


def ddim(
    denoise: Denoise,
    x: Tensor,
    grid: Grid,
    *,
    noise: Noise,
    churn: float = 0.0,
    eta: float | None = None,
    project: Project | None = None,
) -> Iterator[Step]:
    """z_s = α_s·x̂_0 + σ_s·(√(1 − c²)·ε̂ + c·ε), with ε̂ = (z_t − α_t·x̂_0)/σ_t and fresh ε.

    x: noise at the grid's first level [n l d]. churn: c, from the deterministic path (0) to throwing the old
    noise away at every step (1). eta: the η of the paper (Eq. 12 and 16) instead of a constant c, so that
    c = η·(standard deviation of q(z_s | z_t, x_0))/σ_s; 1 is ancestral sampling with the small variance.
    Levels may be any distance apart. Raises `InputError` unless churn and eta lie in [0, 1].
    """
    for name, value in (("churn", churn), ("eta", eta)):
        if value is not None and not 0 <= value <= 1:
            raise InputError(f"{name} is {value}; give a number from 0 (no fresh noise) to 1.")
    project = project or keep
    levels = grid.levels()
    x = project(x, levels[0].alpha, levels[0].sigma)
    for index, (now, after) in enumerate(pairwise(levels)):
        estimate = denoise(x, now.time)
        eps = eps_from_x0(x, estimate.x0, now.alpha, now.sigma)
        fresh = churn if eta is None else eta * _posterior_share(now, after)
        if fresh > 0 and after.sigma > 0:
            eps = math.sqrt(1 - fresh**2) * eps + fresh * noise(x)
        x = project(after.alpha * estimate.x0 + after.sigma * eps, after.alpha, after.sigma)
        yield Step(index, len(grid), now.time, x, estimate)


def _posterior_share(now: Level, after: Level) -> float:
    """The posterior's standard deviation as a share of σ_s: √(variance of z_t given z_s)/σ_t."""
    step = between(now.alpha, now.sigma, after.alpha, after.sigma)
    return math.sqrt(step.variance_large) / now.sigma
