"""DPM-Solver++ with data prediction: first order, 2M, and 2M-SDE.

Lu et al., 2022, "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models".
Legend: n rows, l length, d embedding width; λ = log(alpha/sigma), half the log-SNR; h = λ_s − λ_t.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

from torch import Tensor

from diffuseq.errors import InputError
from diffuseq.sampling.grid import Grid, Level
from diffuseq.sampling.step import Denoise, Noise, Project, Step, keep

_FEW_CALLS = 10
"""Below so many calls the last step is first order, for stability (the paper's multistep rule)."""


def dpm_solver(
    denoise: Denoise,
    x: Tensor,
    grid: Grid,
    *,
    noise: Noise | None = None,
    order: Literal[1, 2] = 2,
    stochastic: bool = False,
    first_order_last: bool | None = None,
    published_v2: bool = False,
    project: Project | None = None,
) -> Iterator[Step]:
    """x_s = (σ_s/σ_t)·x_t + α_s·(1 − e^{−h})·D (Algorithm 2), D extrapolated from two estimates (2M).

    x: noise at the grid's first level [n l d]. D = x̂_0 + h/(2·h_before)·(x̂_0 − x̂_0 before), or x̂_0 alone: with
    order 1, in the first step and after one of no length (two levels that are the same), in the step to clean data
    (where it is exact), and in the last step if
    `first_order_last`, which by default holds for fewer than ten calls. stochastic is SDE-DPM-Solver++:
    x_s = (σ_s/σ_t)·e^{−h}·x_t + α_s·(1 − e^{−2h})·D + σ_s·√(1 − e^{−2h})·ε, with fresh ε from `noise`.

    published_v2 does what the released DiffuSeq-v2 code does: x_t is overwritten by x̂_0 before every update,
    so that it is no longer DPM-Solver++; only for comparison with published results.
    Raises `InputError` for another order, or if stochastic has no noise or meets published_v2.
    """
    _check(order, stochastic, noise, published_v2)
    project = project or keep
    levels = grid.levels()
    last_is_first_order = len(grid) < _FEW_CALLS if first_order_last is None else first_order_last
    before: tuple[Tensor, float] | None = None
    x = project(x, levels[0].alpha, levels[0].sigma)
    for index, (now, after) in enumerate(pairwise(levels)):
        estimate = denoise(x, now.time)
        data, h = estimate.x0, _half_log_snr(after) - _half_log_snr(now)
        is_last = index == len(grid) - 1
        x0_before, h_before = before or (data, 0.0)
        is_first_order = order == 1 or after.sigma == 0 or (is_last and last_is_first_order)
        if h_before and not is_first_order:
            data = data + h / (2 * h_before) * (data - x0_before)
        before = estimate.x0, h
        start = estimate.x0 if published_v2 else x
        x = _update(start, data, h, now, after, noise if stochastic else None)
        x = project(x, after.alpha, after.sigma)
        yield Step(index, len(grid), now.time, x, estimate)


def _update(x: Tensor, data: Tensor, h: float, now: Level, after: Level, noise: Noise | None) -> Tensor:
    """One step of the ODE, or of the SDE where there is noise."""
    if after.sigma == 0:
        return after.alpha * data
    if noise is None:
        return after.sigma / now.sigma * x - after.alpha * math.expm1(-h) * data
    gained = -math.expm1(-2 * h)
    drift = after.sigma / now.sigma * math.exp(-h) * x + after.alpha * gained * data
    return drift + after.sigma * math.sqrt(gained) * noise(x)


def _half_log_snr(level: Level) -> float:
    if level.sigma == 0:
        return math.inf
    return math.log(level.alpha / level.sigma) if level.alpha > 0 else -math.inf


def _check(order: int, stochastic: bool, noise: Noise | None, published_v2: bool) -> None:
    if order not in (1, 2):
        raise InputError(f"order is {order}; DPM-Solver++ is here with order 1 or 2.")
    if stochastic and noise is None:
        raise InputError("The stochastic solver has no noise; give one, or set stochastic to False.")
    if stochastic and published_v2:
        raise InputError("The published v2 solver is deterministic; set stochastic or published_v2 to False.")
