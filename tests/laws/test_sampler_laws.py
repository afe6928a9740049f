"""What holds for every sampler, with denoisers whose exact answer is known."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from diffuseq.diffusion.posterior import between
from diffuseq.diffusion.schedule import DiscreteSchedule, LogLinearSchedule, Schedule
from diffuseq.sampling.ancestral import ancestral
from diffuseq.sampling.ddim import ddim
from diffuseq.sampling.dpm_solver import dpm_solver
from diffuseq.sampling.grid import Grid, make_grid, published_steps
from diffuseq.sampling.hooks import anchor
from diffuseq.sampling.noise import RowNoise, batch_noise
from diffuseq.sampling.step import Estimate, Step

Sampler = Callable[..., Iterator[Step]]
SAMPLERS: dict[str, Sampler] = {
    "ancestral, small variance": ancestral,
    "ancestral, large variance": partial(ancestral, variance="large"),
    "DDIM": ddim,
    "DDIM, churn 0.85": partial(ddim, churn=0.85),
    "re-noising": partial(ddim, churn=1.0),
    "DDIM, eta 1": partial(ddim, eta=1.0),
    "DPM-Solver++, order 1": partial(dpm_solver, order=1),
    "DPM-Solver++ 2M": dpm_solver,
    "DPM-Solver++ 2M-SDE": partial(dpm_solver, stochastic=True),
    "published v2": partial(dpm_solver, published_v2=True),
}
FAITHFUL = [name for name in SAMPLERS if name not in ("DDIM, churn 0.85", "re-noising", "published v2")]
"""Samplers whose marginals become those of the data as the steps get short; the others trade that away."""
GRIDS = ["uniform-time", "uniform-log-snr", "trailing"]
SCHEDULE = LogLinearSchedule(6.0, -9.0)
CHAIN = DiscreteSchedule.named("sqrt", 200)
MEAN, SPREAD = 0.7, 0.5


def noise(seed: int = 0) -> Callable[[Tensor], Tensor]:
    return batch_noise(torch.Generator().manual_seed(seed))


def run(
    sampler: Sampler, denoise: Callable[[Tensor, float], Estimate], x: Tensor, grid: Grid, **more
) -> Tensor:
    *_, last = sampler(denoise, x, grid, noise=noise(1), **more)
    return last.x


def gaussian_denoiser(schedule: Schedule) -> Callable[[Tensor, float], Estimate]:
    """E[x_0 | x_t] where the data are normal with MEAN and SPREAD."""

    def denoise(x: Tensor, u: float) -> Estimate:
        alpha, sigma = float(schedule.alpha(u)), float(schedule.sigma(u))
        gain = alpha * SPREAD**2 / (alpha**2 * SPREAD**2 + sigma**2)
        return Estimate(MEAN + gain * (x - alpha * MEAN))

    return denoise


def exact_flow(x: Tensor, grid: Grid) -> Tensor:
    """Where the probability-flow ODE takes x: the standard score of x_t stays the same along the way."""
    first, last = grid.levels()[0], grid.levels()[-1]
    score = (x - first.alpha * MEAN) / math.hypot(first.alpha * SPREAD, first.sigma)
    return last.alpha * MEAN + math.hypot(last.alpha * SPREAD, last.sigma) * score


@pytest.mark.parametrize("schedule", [SCHEDULE, CHAIN], ids=["log-linear", "chain"])
@pytest.mark.parametrize("calls", [1, 2, 7, 12])
@pytest.mark.parametrize("grid_name", GRIDS)
@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS.keys())
def test_a_perfect_denoiser_gives_back_x0(sampler, grid_name, calls, schedule):
    x0 = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    grid = make_grid(grid_name, schedule, calls)
    steps = list(sampler(lambda x, u: Estimate(x0), noise()(x0), grid, noise=noise(1)))
    torch.testing.assert_close(steps[-1].x, x0)
    assert [(step.index, step.total) for step in steps] == [(index, calls) for index in range(calls)]
    assert [step.time for step in steps] == grid.time[:-1].tolist()


@pytest.mark.parametrize("name", FAITHFUL)
def test_gaussian_data_come_out_with_their_mean_and_spread(name):
    x = noise()(torch.empty(1, 20_000, 1))
    out = run(SAMPLERS[name], gaussian_denoiser(SCHEDULE), x, make_grid("uniform-time", SCHEDULE, 150))
    assert float(out.mean()) == pytest.approx(MEAN, abs=0.02)
    assert float(out.std()) == pytest.approx(SPREAD, abs=0.02)


@pytest.mark.parametrize("churn", [0.0, 0.5, 0.85, 1.0])
def test_any_churn_keeps_the_marginal_of_known_data(churn):
    """For data that are one point, every share of fresh noise leaves q(x_s | x_0) as it is."""
    x0, grid = torch.full((1, 20_000, 1), 2.0), make_grid("uniform-time", SCHEDULE, 4, "lowest")
    first = grid.levels()[0]
    x = first.alpha * x0 + first.sigma * noise()(x0)
    for step, level in zip(
        ddim(lambda x, u: Estimate(x0), x, grid, noise=noise(1), churn=churn), grid.levels()[1:], strict=True
    ):
        assert float(step.x.mean()) == pytest.approx(2 * level.alpha, abs=0.03)
        assert float(step.x.std()) == pytest.approx(level.sigma, rel=0.03)


def test_full_re_noising_forgets_where_it_came_from():
    x0, grid = torch.ones(1, 5, 2), make_grid("uniform-time", SCHEDULE, 3)
    outcomes = [
        next(ddim(lambda x, u: Estimate(x0), noise(seed)(x0), grid, noise=noise(9), churn=1.0)).x
        for seed in (1, 2)
    ]
    assert torch.equal(*outcomes)


def test_ddim_with_eta_one_has_the_mean_and_the_variance_of_the_posterior():
    grid = make_grid("uniform-time", CHAIN, 5)
    now, after = grid.levels()[1:3]
    two = Grid(grid.time[1:3], grid.alpha[1:3], grid.sigma[1:3])
    posterior = between(now.alpha, now.sigma, after.alpha, after.sigma)
    x_t, x0, eps = (noise(seed)(torch.empty(1, 6, 3, dtype=torch.float64)) for seed in range(3))

    def one_step(fresh: Tensor) -> Tensor:
        return next(ddim(lambda x, u: Estimate(x0), x_t, two, noise=lambda x: fresh, eta=1.0)).x

    torch.testing.assert_close(one_step(torch.zeros_like(eps)), posterior.mean(x_t, x0))
    gained = one_step(eps) - one_step(torch.zeros_like(eps))
    torch.testing.assert_close(gained, math.sqrt(posterior.variance_small) * eps)


def test_ddim_with_eta_one_is_ancestral_sampling():
    x, denoise = noise()(torch.empty(2, 4, 3, dtype=torch.float64)), gaussian_denoiser(CHAIN)
    grid = make_grid("trailing", CHAIN, 8)
    torch.testing.assert_close(run(ddim, denoise, x, grid, eta=1.0), run(ancestral, denoise, x, grid))


def test_first_order_dpm_solver_is_ddim():
    x, denoise = noise()(torch.empty(2, 4, 3, dtype=torch.float64)), gaussian_denoiser(SCHEDULE)
    grid = make_grid("uniform-time", SCHEDULE, 8)
    torch.testing.assert_close(run(dpm_solver, denoise, x, grid, order=1), run(ddim, denoise, x, grid))


@pytest.mark.parametrize("order", [1, 2])
def test_the_error_of_dpm_solver_falls_with_its_order(order):
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[None, :, None]
    errors = []
    for calls in (40, 80, 160):
        grid = make_grid("uniform-log-snr", SCHEDULE, calls, "lowest")
        out = run(dpm_solver, gaussian_denoiser(SCHEDULE), x, grid, order=order)
        errors.append(float((out - exact_flow(x, grid)).abs().max()))
    rates = [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]
    assert rates == pytest.approx([order, order], abs=0.3)


def test_respaced_ddim_leaves_no_noise_behind():
    """The published DDIM leaves noise of 0.32 to 0.93 here; with a perfect predictor there must be none."""
    chain = DiscreteSchedule.named("sqrt", 2000)
    x0 = torch.zeros(1, 50, 4)
    for calls in (1000, 100, 7):
        out = run(ddim, lambda x, t: Estimate(x0), noise()(x0), published_steps(chain, calls))
        assert torch.equal(out, x0)


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS.keys())
def test_the_source_is_in_place_before_every_call_and_in_every_state(sampler):
    x_source = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    is_source = torch.arange(6).expand(2, 6) < torch.tensor([[2], [4]])

    def denoise(x: Tensor, u: float) -> Estimate:
        assert torch.equal(x[is_source], x_source[is_source])
        return Estimate(torch.tanh(x))

    grid = make_grid("uniform-time", SCHEDULE, 5)
    x = noise(2)(x_source)
    for step in sampler(denoise, x, grid, noise=noise(1), project=anchor(x_source, is_source)):
        assert torch.equal(step.x[is_source], x_source[is_source])
        assert not torch.equal(step.x[~is_source], x[~is_source])


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS.keys())
def test_a_row_is_the_same_alone_and_in_a_batch(sampler):
    grid = make_grid("uniform-time", SCHEDULE, 4)

    def answer(seeds: list[int], lengths: list[int], width: int) -> Tensor:
        rows = RowNoise(seeds, lengths)
        x = rows(torch.empty(len(seeds), width, 3))
        *_, last = sampler(lambda x, u: Estimate(torch.tanh(x)), x, grid, noise=rows)
        return last.x

    together, alone = answer([4, 5, 6], [7, 3, 5], width=7), answer([5], [3], width=3)
    assert torch.equal(together[1, :3], alone[0])


def test_the_answer_is_reproducible_and_the_grid_is_not_used_up():
    grid, x = make_grid("uniform-time", SCHEDULE, 4), noise()(torch.empty(1, 3, 2))
    once, again = (run(ancestral, gaussian_denoiser(SCHEDULE), x, grid) for _ in range(2))
    assert torch.equal(once, again)
