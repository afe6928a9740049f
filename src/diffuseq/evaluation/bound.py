"""The variational bound on −log p(answer | source): prior, diffusion and rounding terms, by Monte Carlo.

Gong et al., ICLR 2023 ("DiffuSeq"), Eq. 2 before it is simplified; the form for any two levels is that of
Kingma et al. 2021 ("Variational Diffusion Models"), appendix E. For words w with embeddings e, and levels
from the noisiest to the cleanest:

  −log p(w) ≤ KL(q(x_T) ‖ N(0, 1))                                prior
            + Σ KL(q(x_s | x_t, e) ‖ p(x_s | x_t))                diffusion, over neighbours t → s
            + E[−log p(w | x at the cleanest level)]              rounding

Everything is written against callables, so that any diffusion system has a bound.

Legend: b sequences, l length, d embedding width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from diffuseq.devices import finest_float
from diffuseq.diffusion.posterior import between
from diffuseq.errors import InputError
from diffuseq.sampling.grid import Grid, Level
from diffuseq.sampling.step import Denoise, Noise

LogLikelihood = Callable[[Tensor], Tensor]
"""(x [b l d] at the cleanest level) → log p(word | x) [b l]."""


@dataclass(frozen=True)
class Terms:
    """The parts of the bound in nats a sequence [b], float64 or what the device has; tokens [b] is what they are
    divided by.

    length: −log p(number of tokens), for systems that predict it apart from the words, else 0.
    """

    prior: Tensor
    diffusion: Tensor
    rounding: Tensor
    length: Tensor
    tokens: Tensor


@dataclass(frozen=True)
class Bound:
    """The bound in nats per token. standard_error: of `total`, from the spread of independent rounds."""

    prior: float
    diffusion: float
    rounding: float
    length: float
    standard_error: float
    tokens: int
    rounds: int

    @property
    def total(self) -> float:
        return self.prior + self.diffusion + self.rounding + self.length


def terms(
    embedded: Tensor,
    target: Tensor,
    log_likelihood: LogLikelihood,
    denoise: Denoise,
    grid: Grid,
    noise: Noise,
    calls: int | None = None,
    variance: Literal["small", "large"] = "small",
    first_sigma: float | None = None,
    last_variance: float | None = None,
    generator: torch.Generator | None = None,
) -> Terms:
    """One unbiased draw of the bound for a batch.

    embedded: the words' embeddings [b l d]; target: bool [b l], which positions are noised and counted (the
    others stay as they are: partial noising). calls: network calls to spend at most (2 or more): one step of
    the grid is drawn from each of so many parts of it; None takes all steps. variance: of p(x_s | x_t), as in
    `sampling.ancestral`.

    Without `first_sigma` the grid ends at a noisy level, which the words are read off. With it, as published,
    x_0 = e + first_sigma·ε is itself noisy and the grid ends clean; the last step p(x_0 | x_1) then needs a
    variance, `last_variance`. Raises `InputError` where these do not fit.
    """
    if calls is not None and calls < 2:
        raise InputError(f"calls is {calls}; the bound needs at least 2 network calls a draw.")
    levels = grid.levels()
    _check_end(levels[-1], first_sigma, last_variance)
    fine = finest_float(target.device)
    counted = target.to(fine)
    x0 = embedded
    if first_sigma is not None:
        x0 = torch.where(target[..., None], embedded + first_sigma * noise(embedded), embedded)

    def total(per_dimension: Tensor) -> Tensor:
        return (per_dimension.to(fine).sum(dim=-1) * counted).sum(dim=1)

    def noised(level: Level) -> Tensor:
        return torch.where(target[..., None], level.alpha * x0 + level.sigma * noise(x0), x0)

    diffusion = torch.zeros(len(x0), dtype=fine, device=x0.device)
    for step, weight in _steps(levels, calls, generator):
        above, below = levels[step], levels[step + 1]
        estimate = denoise(noised(above), above.time).x0
        error = (x0 - estimate).to(fine) ** 2
        if below.sigma == 0:
            assert first_sigma is not None and last_variance is not None  # _check_end
            cost = _first_step(error, first_sigma, last_variance)
        else:
            cost = _step(error, above, below, variance)
        diffusion += weight * total(cost)
    prior = total(_prior(x0.to(fine), levels[0]))
    rounding = -(log_likelihood(noised(levels[-1])).to(fine) * counted).sum(dim=1)
    return Terms(prior, diffusion, rounding, torch.zeros_like(prior), counted.sum(dim=1))


def estimate_bound(rounds: Iterable[Sequence[Terms]]) -> Bound:
    """The bound of a whole test set, from independent rounds over all of its batches.

    The standard error is that of the Monte Carlo, not of the choice of the test set. Raises `InputError` for
    fewer than two rounds, which have no spread.
    """
    drawn = []
    tokens = 0
    for batches in rounds:
        parts = [
            sum(float(getattr(batch, name).sum()) for batch in batches)
            for name in ("prior", "diffusion", "rounding", "length", "tokens")
        ]
        tokens = round(parts[-1])
        drawn.append([part / parts[-1] for part in parts[:-1]])
    if len(drawn) < 2:
        raise InputError(f"The bound was drawn in {len(drawn)} rounds; its error needs at least 2.")
    values = torch.tensor(drawn, dtype=torch.float64)
    error = float(values.sum(dim=1).std()) / math.sqrt(len(drawn))
    prior, diffusion, rounding, length = values.mean(dim=0).tolist()
    return Bound(prior, diffusion, rounding, length, error, tokens, len(drawn))


def _prior(x0: Tensor, level: Level) -> Tensor:
    """KL(q(x_T | x_0) ‖ N(0, 1)) of each dimension."""
    signal, spread = (level.alpha * x0) ** 2, level.sigma**2
    return 0.5 * (signal + spread - 1 - math.log(spread))


def _step(error: Tensor, above: Level, below: Level, variance: Literal["small", "large"]) -> Tensor:
    """KL between q(x_s | x_t, x_0) and p(x_s | x_t), which differ in x_0 and in their variance."""
    posterior = between(above.alpha, above.sigma, below.alpha, below.sigma)
    true = posterior.variance_small
    ours = true if variance == "small" else posterior.variance_large
    return 0.5 * (true / ours - 1 + math.log(ours / true) + posterior.x0_weight**2 * error / ours)


def _first_step(error: Tensor, first_sigma: float, last_variance: float) -> Tensor:
    """E[log q(x_0 | w) − log p(x_0 | x_1)] of each dimension; error is (drawn x_0 − its estimate)²."""
    known = -0.5 * (1 + math.log(2 * math.pi * first_sigma**2))
    return known + 0.5 * (error / last_variance + math.log(2 * math.pi * last_variance))


def _steps(
    levels: Sequence[Level], calls: int | None, generator: torch.Generator | None
) -> Iterable[tuple[int, int]]:
    """(step, weight): one step drawn from each of at most `calls` parts, standing for its whole part.

    The parts are equally wide in log-SNR, within which the costs of steps are of one size; the last step,
    which costs the most, is a part of its own.
    """
    count = len(levels) - 1
    if calls is None or calls >= count:
        parts = list(torch.arange(count).split(1))
    else:
        log_snr = torch.tensor([2 * math.log(level.alpha / level.sigma) for level in levels[:count]])
        place = (log_snr - log_snr[0]) / (log_snr[-1] - log_snr[0]) * max(1, calls - 1)
        place = place.floor().clamp(max=max(0, calls - 2))
        place[-1] = calls  # the last step by itself
        parts = [(place == value).nonzero()[:, 0] for value in place.unique()]
    for part in parts:
        drawn = int(torch.randint(len(part), (1,), generator=generator))
        yield int(part[drawn]), len(part)


def _check_end(last: Level, first_sigma: float | None, last_variance: float | None) -> None:
    if first_sigma is None and last.sigma == 0:
        raise InputError(
            "The grid ends at clean embeddings, which have no density; take a grid with end='lowest', or give"
            " first_sigma for a system whose x_0 is noisy."
        )
    if first_sigma is not None and (last.sigma != 0 or last_variance is None):
        raise InputError(
            "With first_sigma the bound needs a grid that ends clean and the variance of the last step;"
            " take end='clean' and give last_variance."
        )
