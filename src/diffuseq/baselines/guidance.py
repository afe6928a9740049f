"""Classifier-guided ancestral sampling: gradient updates of the state after every step (Li et al., 2022).

Legend: n rows, l positions, d embedding width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from diffuseq.diffusion.posterior import between
from diffuseq.sampling.grid import Grid
from diffuseq.sampling.step import Denoise, Noise, Project, Step

LogLikelihood = Callable[[Tensor, float], Tensor]
"""(x_s [n l d], time in the grid's units) → log p(condition | x_s) of each row [n], with gradients."""


@dataclass(frozen=True)
class Steering:
    """How strongly the classifier pulls: see `diffuseq.baselines.configs.GuidedGeneration`."""

    guidance: float
    updates: int
    update_rate: float
    fluency: float


def guided_ancestral(
    denoise: Denoise,
    log_likelihood: LogLikelihood,
    x: Tensor,
    grid: Grid,
    steering: Steering,
    *,
    noise: Noise,
    project: Project,
) -> Iterator[Step]:
    """Ancestral sampling (the posterior's own variance) whose every x_s but the clean one is steered.

    x: noise at the grid's first level [n l d]. With guidance 0 this is plain ancestral sampling.
    """
    levels = grid.levels()
    x = project(x, levels[0].alpha, levels[0].sigma)
    for index, (now, after) in enumerate(pairwise(levels)):
        estimate = denoise(x, now.time)
        posterior = between(now.alpha, now.sigma, after.alpha, after.sigma)
        x = mean = posterior.mean(x, estimate.x0)
        if after.sigma > 0:
            x = mean + math.sqrt(posterior.variance_small) * noise(mean)
            if steering.guidance:
                x = steer(
                    x,
                    mean,
                    posterior.variance_small,
                    after.sigma,
                    lambda state, time=after.time: log_likelihood(state, time),  # type: ignore[misc]
                    steering,
                )
        x = project(x, after.alpha, after.sigma)
        yield Step(index, len(grid), now.time, x, estimate)


def steer(
    x: Tensor,
    mean: Tensor,
    variance: float,
    sigma: float,
    log_likelihood: Callable[[Tensor], Tensor],
    steering: Steering,
) -> Tensor:
    """Move x towards larger guidance·log p(c | x) + λ·log N(x; mean, variance) by a few updates of Adagrad.

    The second term is the fluency regulariser: it holds x near what the language model says. The step size is
    counted in σ_s, the noise that is in x, so that the last, nearly clean states are not torn from the words;
    the released code takes a constant one and leaves the last steps out.
    """
    squares = torch.zeros_like(x)
    for _ in range(steering.updates):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            distance = (x - mean).square().sum() / (2 * variance)
            loss = steering.fluency * distance - steering.guidance * log_likelihood(x).sum()
            (gradient,) = torch.autograd.grad(loss, x)
        # Adagrad in two lines: torch.optim would import a compiler first, seconds that an answer waits for.
        squares = squares + gradient.square()
        x = x - steering.update_rate * sigma * gradient / (squares.sqrt() + 1e-10)
    return x.detach()
