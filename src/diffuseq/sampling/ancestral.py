"""Ancestral sampling (Ho et al., 2020, "Denoising Diffusion Probabilistic Models", Algorithm 2).

Legend: n rows, l length, d embedding width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

from torch import Tensor

from diffuseq.diffusion.posterior import between
from diffuseq.sampling.grid import Grid
from diffuseq.sampling.step import Denoise, Noise, Project, Step, keep


def ancestral(
    denoise: Denoise,
    x: Tensor,
    grid: Grid,
    *,
    noise: Noise,
    variance: Literal["small", "large"] = "small",
    project: Project | None = None,
) -> Iterator[Step]:
    """x_s ~ q(x_s | x_t, x̂_0), level by level (Eq. 6 and 7, for levels any distance apart).

    x: noise at the grid's first level [n l d]. variance: the posterior's own ("small"), or that of
    q(x_t | x_s) ("large"; β on a full chain), which the published DiffuSeq uses and which is too much where
    steps are long. The step to clean data adds no noise and gives x̂_0 itself, as the published one does.
    """
    project = project or keep
    levels = grid.levels()
    x = project(x, levels[0].alpha, levels[0].sigma)
    for index, (now, after) in enumerate(pairwise(levels)):
        estimate = denoise(x, now.time)
        step = between(now.alpha, now.sigma, after.alpha, after.sigma)
        mean = step.mean(x, estimate.x0)
        if after.sigma > 0:
            chosen = step.variance_large if variance == "large" else step.variance_small
            mean = mean + math.sqrt(chosen) * noise(x)
        x = project(mean, after.alpha, after.sigma)
        yield Step(index, len(grid), now.time, x, estimate)
