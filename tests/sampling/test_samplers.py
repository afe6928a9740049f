import pytest
import torch

from diffuseq.diffusion.schedule import DiscreteSchedule, LogLinearSchedule
from diffuseq.errors import InputError
from diffuseq.sampling.ancestral import ancestral
from diffuseq.sampling.ddim import ddim
from diffuseq.sampling.dpm_solver import dpm_solver
from diffuseq.sampling.grid import make_grid
from diffuseq.sampling.noise import batch_noise
from diffuseq.sampling.step import Estimate

SCHEDULE = LogLinearSchedule(6.0, -9.0)
X = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def no_noise(x: torch.Tensor) -> torch.Tensor:
    raise AssertionError("noise was drawn")


def denoise(x: torch.Tensor, time: float) -> Estimate:
    return Estimate(torch.tanh(x) * (1 - 0.3 * time))


def last(steps):
    *_, step = steps
    return step.x


def test_deterministic_samplers_draw_no_noise():
    grid = make_grid("uniform-time", SCHEDULE, 3)
    for sampler in (ddim, dpm_solver):
        assert last(sampler(denoise, X, grid, noise=no_noise)).isfinite().all()


def test_the_step_to_clean_data_draws_no_noise_and_is_the_estimate():
    for sampler in (ancestral, ddim):
        step = next(sampler(denoise, X, make_grid("uniform-time", SCHEDULE, 1), noise=no_noise))
        torch.testing.assert_close(step.x, step.estimate.x0)


@pytest.mark.parametrize(("calls", "is_first_order"), [(9, True), (10, False)])
def test_the_last_step_is_first_order_for_fewer_than_ten_calls(calls, is_first_order):
    grid = make_grid("uniform-time", SCHEDULE, calls, "lowest")
    default = last(dpm_solver(denoise, X, grid))
    assert torch.equal(default, last(dpm_solver(denoise, X, grid, first_order_last=True))) == is_first_order
    assert torch.equal(default, last(dpm_solver(denoise, X, grid, first_order_last=False))) != is_first_order


def test_the_published_v2_solver_starts_each_update_from_the_estimate():
    grid = make_grid("uniform-time", SCHEDULE, 3, "lowest")
    step = next(dpm_solver(denoise, X, grid, published_v2=True))
    now, after = grid.levels()[:2]
    h = torch.tensor(0.5 * (-4.0 + 9.0), dtype=torch.float64)
    weight = after.sigma / now.sigma + after.alpha * float(1 - torch.exp(-h))
    torch.testing.assert_close(step.x, weight * step.estimate.x0)
    assert not torch.allclose(step.x, next(dpm_solver(denoise, X, grid)).x)


def test_the_solver_passes_levels_that_are_the_same():
    """Where a long chain has no signal left, its levels are all at the lowest log-SNR that is told apart."""
    grid = make_grid("uniform-time", DiscreteSchedule.named("trunc_lin", 10_000), 12, "lowest")
    assert grid.alpha[0] == grid.alpha[1] == grid.alpha[2]
    assert last(dpm_solver(denoise, X, grid)).isfinite().all()
    first, second, third, *_ = dpm_solver(denoise, X, grid)
    assert torch.equal(first.x, X) and torch.equal(second.x, X) and torch.equal(third.x, X)


def test_states_keep_their_dtype():
    grid = make_grid("uniform-time", SCHEDULE, 3)
    noise = batch_noise(torch.Generator().manual_seed(0))
    for steps in (
        ancestral(denoise, X.float(), grid, noise=noise),
        ddim(denoise, X.float(), grid, noise=noise, churn=1.0),
        dpm_solver(denoise, X.float(), grid, noise=noise, stochastic=True),
    ):
        assert last(steps).dtype == torch.float32


@pytest.mark.parametrize("settings", [{"churn": 1.5}, {"churn": -0.1}, {"eta": 2.0}])
def test_a_share_of_fresh_noise_outside_0_to_1_is_refused(settings):
    with pytest.raises(InputError, match="give a number from 0"):
        next(ddim(denoise, X, make_grid("uniform-time", SCHEDULE, 2), noise=no_noise, **settings))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"order": 3}, "order is 3"),
        ({"stochastic": True}, "has no noise"),
        ({"stochastic": True, "noise": no_noise, "published_v2": True}, "deterministic"),
    ],
)
def test_a_solver_that_does_not_exist_is_refused(settings, message):
    with pytest.raises(InputError, match=message):
        next(dpm_solver(denoise, X, make_grid("uniform-time", SCHEDULE, 2), **settings))
