"""What can be wrapped around a sampler's callables from outside: samplers have no flags for these.

A hook takes a callable of the sampling contract and gives one back: `anchor` and `pin` make a `Project`,
`clamp` and `guide` a `Denoise`, `truncate` a `Noise`; `guide_words` and `mix_words` make one network of several.
They compose: clamp(guide(a, b, 2.0), table, grid).

Legend: n rows, l length, d embedding width, v vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from diffuseq.decoding.rounding import nearest
from diffuseq.devices import finest_float
from diffuseq.errors import InputError
from diffuseq.sampling.grid import Grid
from diffuseq.sampling.step import Denoise, Estimate, Noise, Project

Words = Callable[..., Iterable[Tensor]]
"""What settle and fixed-point call (`Predict`, `Read`): a network that gives logits [m v], in consecutive parts."""


def anchor(x_source: Tensor, is_source: Tensor) -> Project:
    """Put the clean source back after every update: DiffuSeq's anchoring (Gong et al., 2023, section 3.2).

    x_source [n l d], is_source bool [n l].
    """
    return pin(x_source, is_source)


def pin(x_known: Tensor, is_known: Tensor, noise: Noise | None = None) -> Project:
    """Keep the positions is_known (bool [n l]) at the clean embeddings x_known [n l d].

    With `noise` they get the level of their neighbours, α·x_known + σ·ε, for networks that expect one level
    over the whole target; without it they stay clean, as the published systems have their source.
    """
    mask = is_known[..., None]

    def project(x: Tensor, alpha: float, sigma: float) -> Tensor:
        known = x_known if noise is None else alpha * x_known + sigma * noise(x)
        return torch.where(mask, known.to(x.dtype), x)

    return project


def in_turn(*projects: Project) -> Project:
    """Several projects as one, applied in the order given."""

    def project(x: Tensor, alpha: float, sigma: float) -> Tensor:
        for each in projects:
            x = each(x, alpha, sigma)
        return x

    return project


def clamp(
    denoise: Denoise, table: Tensor, grid: Grid, from_share: float = 0.0, to_share: float = 1.0
) -> Denoise:
    """Round the estimate to the nearest row of the embedding table [v d] (Li et al., 2022, "Diffusion-LM",
    section 4.2, the clamping trick).

    It is on for calls i with from_share ≤ i/calls < to_share: (0, 1) is always, as the published DiffuSeq;
    (0.5, 1) only in the second half. Raises `InputError` unless 0 ≤ from_share < to_share ≤ 1.
    """
    if not 0 <= from_share < to_share <= 1:
        raise InputError(
            f"Clamping from {from_share} to {to_share} of the steps is no range; give 0 ≤ from < to ≤ 1."
        )
    first, stop = math.ceil(from_share * len(grid)), math.ceil(to_share * len(grid))
    clamped_times = set(grid.time[first:stop].tolist())

    def clamped(x: Tensor, time: float) -> Estimate:
        estimate = denoise(x, time)
        if time not in clamped_times:
            return estimate
        rounded = table[nearest(estimate.x0, table)]
        return estimate._replace(x0=rounded.to(estimate.x0.dtype))

    return clamped


def truncate(noise: Noise, limit: float) -> Noise:
    """Noise whose values stay within ±limit: the published `top_p`, which redraws what lies beyond.

    Redrawing gives the normal distribution cut off at ±limit. Here the draws are mapped to that very
    distribution by their probabilities, F⁻¹(F(z)), without a second draw, so that how far a row's generator
    has moved never depends on the other rows. Raises `InputError` unless limit is above 0.
    """
    if not limit > 0:
        raise InputError(f"truncate is {limit}; give a limit above 0 in standard deviations, or None.")
    inside = math.erf(limit / math.sqrt(2))

    def truncated(x: Tensor) -> Tensor:
        drawn = noise(x)
        share = torch.erf(drawn.to(finest_float(drawn.device)) / math.sqrt(2)) * inside
        return (math.sqrt(2) * torch.erfinv(share)).clamp(-limit, limit).to(drawn.dtype)

    return truncated


def guide(conditional: Denoise, unconditional: Denoise, weight: float) -> Denoise:
    """Classifier-free guidance (Ho & Salimans, 2022, Eq. 6): free + weight·(conditional − free).

    Applied to x0 and, where both have them, to the logits. weight is 1 + w of the paper; 1 is the
    conditional network alone, which is then the only one called.
    """
    if weight == 1:
        return conditional

    def guided(x: Tensor, time: float) -> Estimate:
        towards, away = conditional(x, time), unconditional(x, time)
        x0 = torch.lerp(away.x0, towards.x0, weight)
        if towards.logits is None or away.logits is None:
            return Estimate(x0)
        return Estimate(x0, torch.lerp(away.logits, towards.logits, weight))

    return guided


def guide_words(conditional: Words, unconditional: Words, weight: float) -> Words:
    """`guide` for the networks of settle and fixed-point, which give logits alone."""

    def guided(*given: Tensor) -> Iterator[Tensor]:
        both = zip(unconditional(*given), conditional(*given), strict=True)
        return (torch.lerp(*parts, weight) for parts in both)

    return guided


def mix_words(networks: Sequence[Words], weights: Sequence[float]) -> Words:
    """One network of several, whose distribution is the mixture Σ w·p of theirs.

    They give log-probabilities in parts of the same size. One that has nothing to say of a position gives −∞ for
    all words there, and the others are mixed, up to a factor that no draw depends on.
    """
    log_weights = [math.log(weight) for weight in weights]

    def mixed(*given: Tensor) -> Iterator[Tensor]:
        for parts in zip(*(network(*given) for network in networks), strict=True):
            first, *others = (part.add_(weight) for part, weight in zip(parts, log_weights, strict=True))
            for other in others:
                torch.logaddexp(first, other, out=first)
            yield first

    return mixed
