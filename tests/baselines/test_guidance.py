"""Classifier-guided sampling against what is known in closed form."""

from __future__ import annotations

import torch
from torch import Tensor

from diffuseq.baselines.guidance import Steering, guided_ancestral, steer
from diffuseq.diffusion.schedule import DiscreteSchedule
from diffuseq.sampling.ancestral import ancestral
from diffuseq.sampling.grid import make_grid
from diffuseq.sampling.noise import RowNoise
from diffuseq.sampling.step import Estimate, keep


def denoise(x: Tensor, time: float) -> Estimate:
    return Estimate(0.3 * x)


def test_many_updates_reach_the_weighted_mean_of_fluency_and_classifier() -> None:
    """Two Gaussians of the same variance: the best state lies between their means, by their weights."""
    mean, wish = torch.zeros(4, 3, 2), torch.ones(4, 3, 2)

    def log_likelihood(x: Tensor) -> Tensor:
        return -((x - wish) ** 2).sum((1, 2)) / (2 * 0.5)

    steering = Steering(guidance=3.0, updates=80, update_rate=0.5, fluency=1.0)
    steered = steer(mean, mean, 0.5, 1.0, log_likelihood, steering)
    torch.testing.assert_close(steered, torch.full_like(mean, 0.75), atol=1e-3, rtol=0)


def test_a_row_is_steered_by_its_own_likelihood_only() -> None:
    x = torch.randn(5, 3, 2, generator=torch.Generator().manual_seed(0))
    steering = Steering(guidance=1.0, updates=3, update_rate=0.1, fluency=0.01)

    def log_likelihood(state: Tensor) -> Tensor:
        return state.sin().sum((1, 2))

    together = steer(x, x, 0.5, 1.0, log_likelihood, steering)
    alone = torch.cat([steer(row, row, 0.5, 1.0, log_likelihood, steering) for row in x.split(1)])
    assert torch.equal(together, alone)
    assert (log_likelihood(together) > log_likelihood(x)).all()


def test_without_guidance_it_is_ancestral_sampling() -> None:
    grid = make_grid("published-steps", DiscreteSchedule.named("sqrt", 20), 10)
    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    off = Steering(guidance=0.0, updates=3, update_rate=0.1, fluency=0.01)

    def never(state: Tensor, time: float) -> Tensor:
        raise AssertionError("the classifier must not be called")

    ours = guided_ancestral(denoise, never, x, grid, off, noise=RowNoise([1, 2]), project=keep)
    plain = ancestral(denoise, x, grid, noise=RowNoise([1, 2]))
    for one, two in zip(ours, plain, strict=True):
        assert torch.equal(one.x, two.x)
        assert (one.index, one.total, one.time) == (two.index, two.total, two.time)
