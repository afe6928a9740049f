"""The bound on Gaussian "words", whose likelihood is known: with the exact denoiser it is the truth."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from diffuseq.diffusion.schedule import DiscreteSchedule, LogLinearSchedule
from diffuseq.errors import InputError
from diffuseq.evaluation.bound import Bound, Terms, estimate_bound, terms
from diffuseq.sampling.grid import Grid, published_steps, uniform_time
from diffuseq.sampling.noise import batch_noise
from diffuseq.sampling.step import Estimate

WIDTH = 3
ENTROPY = 0.5 * WIDTH * math.log(2 * math.pi * math.e)  # of one position of standard normal data


def log_normal(x: Tensor, mean: Tensor, variance: float) -> Tensor:
    return -0.5 * ((x - mean) ** 2 / variance + math.log(2 * math.pi * variance)).sum(dim=-1)


def bound_of_gaussian(grid: Grid, scale: float = 1.0, bias: float = 0.0, rounds: int = 4, **options) -> Bound:  # type: ignore[no-untyped-def]
    """The bound of x0 ~ N(0, scale²) with its exact denoiser (plus a bias) and exact rounding."""
    generator = torch.Generator().manual_seed(0)
    by_time = {level.time: level for level in grid.levels()}

    def one_round() -> Terms:
        x0 = scale * torch.randn(400, 5, WIDTH, generator=generator, dtype=torch.float64)

        def exact(x: Tensor, alpha: float, sigma: float) -> Tensor:
            return alpha * scale**2 / (alpha**2 * scale**2 + sigma**2) * x

        def denoise(x: Tensor, time: float) -> Estimate:
            level = by_time[time]
            return Estimate(exact(x, level.alpha, level.sigma) + bias)

        def log_likelihood(x: Tensor) -> Tensor:
            last = grid.levels()[-1]
            left = scale**2 * last.sigma**2 / (last.alpha**2 * scale**2 + last.sigma**2)
            return log_normal(x0, exact(x, last.alpha, last.sigma), left)

        target = torch.ones(400, 5, dtype=torch.bool)
        noise = batch_noise(generator)
        return terms(x0, target, log_likelihood, denoise, grid, noise, generator=generator, **options)

    return estimate_bound([one_round()] for _ in range(rounds))


def near(bound: Bound, truth: float) -> bool:
    return abs(bound.total - truth) < 4 * bound.standard_error


@pytest.mark.parametrize("calls", [None, 4])
def test_standard_normal_data_have_an_exact_bound_at_any_number_of_steps(calls: int | None) -> None:
    # the reverse of the stationary process has the variance "large" exactly, and its prior is exact too
    grid = uniform_time(LogLinearSchedule(4.0, -1.0), 12, "lowest")
    bound = bound_of_gaussian(grid, variance="large", calls=calls, rounds=6)
    assert bound.standard_error < 0.2
    assert near(bound, ENTROPY)


def test_other_data_reach_the_truth_with_many_steps_and_never_pass_it() -> None:
    schedule, scale = LogLinearSchedule(6.0, -12.0), 0.7
    truth = ENTROPY + WIDTH * math.log(scale)
    few = bound_of_gaussian(uniform_time(schedule, 8, "lowest"), scale)
    many = bound_of_gaussian(uniform_time(schedule, 400, "lowest"), scale)
    assert few.total > truth + 1
    assert -4 * many.standard_error < many.total - truth < 0.3


def test_a_wrong_denoiser_costs_what_the_formula_says() -> None:
    grid = uniform_time(LogLinearSchedule(4.0, -1.0), 12, "lowest")
    bias = 0.5
    extra = bound_of_gaussian(grid, bias=bias).diffusion - bound_of_gaussian(grid).diffusion
    snr = (grid.alpha / grid.sigma) ** 2
    wanted = 0.5 * WIDTH * bias**2 * float(snr[-1] - snr[0])  # the steps add up to the change of SNR
    assert extra == pytest.approx(wanted, rel=0.1)


def test_the_published_chain_with_a_noisy_start_is_exact_too() -> None:
    schedule = DiscreteSchedule.named("sqrt", 20)
    grid = published_steps(schedule)
    first = float((1 - schedule.alpha_bar[0]).sqrt())
    spread = math.sqrt(1 - first**2)  # embeddings so wide that x_0 is standard normal
    generator = torch.Generator().manual_seed(1)
    by_time = {level.time: level for level in grid.levels()}

    def one_round() -> Terms:
        embedded = spread * torch.randn(400, 5, WIDTH, generator=generator, dtype=torch.float64)
        return terms(
            embedded,
            torch.ones(400, 5, dtype=torch.bool),
            lambda x: log_normal(embedded, spread**2 * x, (spread * first) ** 2),
            lambda x, time: Estimate(by_time[time].alpha * x),
            grid,
            batch_noise(generator),
            variance="large",
            first_sigma=first,
            last_variance=float(schedule.betas[0]),
            generator=generator,
        )

    bound = estimate_bound([one_round()] for _ in range(6))
    assert near(bound, ENTROPY + WIDTH * math.log(spread))
    assert bound.tokens == 2000 and bound.rounds == 6


def test_only_the_target_is_noised_and_counted() -> None:
    grid = uniform_time(LogLinearSchedule(4.0, -4.0), 3, "lowest")
    x0, target = (
        torch.randn(2, 4, WIDTH),
        torch.tensor([[False, True, True, True], [False, True, False, False]]),
    )
    seen = []

    def denoise(x: Tensor, time: float) -> Estimate:
        seen.append(x)
        return Estimate(
            torch.where(target[..., None], x0, torch.full_like(x0, torch.inf)).nan_to_num(posinf=9.0)
        )

    found = terms(x0, target, lambda x: torch.zeros(x.shape[:2]), denoise, grid, batch_noise())
    assert all(torch.equal(x[~target], x0[~target]) and not torch.equal(x[target], x0[target]) for x in seen)
    assert found.tokens.tolist() == [3, 1]
    assert found.diffusion.tolist() == [0, 0]


def test_grids_that_do_not_fit_are_refused() -> None:
    def draw(grid: Grid, **options: float) -> Terms:
        x = torch.zeros(1, 1, WIDTH)
        noise = batch_noise()
        target = torch.ones(1, 1, dtype=torch.bool)
        return terms(x, target, lambda x: x[..., 0], lambda x, t: Estimate(x), grid, noise, **options)  # type: ignore[arg-type]

    schedule = LogLinearSchedule(4.0, -4.0)
    with pytest.raises(InputError, match="no density"):
        draw(uniform_time(schedule, 3))
    with pytest.raises(InputError, match="give last_variance"):
        draw(uniform_time(schedule, 3), first_sigma=0.1)
    with pytest.raises(InputError, match="at least 2"):
        estimate_bound([[draw(uniform_time(schedule, 3, "lowest"))]])
