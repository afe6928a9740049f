"""Our samplers against the schedulers of `diffusers` on the same numbers: same denoiser, same noise."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from diffuseq.diffusion.schedule import DiscreteSchedule
from diffuseq.sampling.ancestral import ancestral
from diffuseq.sampling.ddim import ddim
from diffuseq.sampling.dpm_solver import dpm_solver
from diffuseq.sampling.grid import published_steps
from diffuseq.sampling.noise import batch_noise
from diffuseq.sampling.step import Estimate, Step

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed (extra: dev)")

CHAIN = DiscreteSchedule.named("sqrt", 40)
COMMON = {"num_train_timesteps": 40, "trained_betas": CHAIN.betas.tolist(), "prediction_type": "sample"}
X = 1.5 * torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))


def denoise(x: Tensor, index: float) -> Estimate:
    """Any smooth function of the state and of the chain's index t."""
    return Estimate(torch.tanh(x + 0.3) * (1 - 0.4 * index / 40))


def theirs(scheduler: Any, calls: int, **settings: Any) -> Tensor:
    """The states after every step, [calls 2 5 3]."""
    generator = torch.Generator().manual_seed(7)
    scheduler.set_timesteps(calls)
    x, states = X, []
    for t in scheduler.timesteps:
        x = scheduler.step(denoise(x, float(t)).x0, t, x, generator=generator, **settings).prev_sample
        states.append(x)
    return torch.stack(states)


def ours(sampler: Any, calls: int, **settings: Any) -> Tensor:
    noise = batch_noise(torch.Generator().manual_seed(7))
    steps: Iterator[Step] = sampler(denoise, X, published_steps(CHAIN, calls), noise=noise, **settings)
    return torch.stack([step.x for step in steps])


@pytest.mark.parametrize("variance", ["large", "small"])
@pytest.mark.parametrize("calls", [40, 10])
def test_ancestral_sampling_is_that_of_ddpm(calls, variance):
    scheduler = diffusers.DDPMScheduler(
        **COMMON, variance_type=f"fixed_{variance}", clip_sample=False, timestep_spacing="trailing"
    )
    # Respaced, diffusers adds the large variance on the way to clean data too; published DiffuSeq does not.
    compared = slice(None, -1 if variance == "large" else None)
    mine, other = ours(ancestral, calls, variance=variance), theirs(scheduler, calls)
    torch.testing.assert_close(mine[compared], other[compared], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("calls", [40, 10, 4])
def test_ddim_is_that_of_diffusers(calls, eta):
    scheduler = diffusers.DDIMScheduler(
        **COMMON, clip_sample=False, set_alpha_to_one=True, timestep_spacing="trailing"
    )
    torch.testing.assert_close(
        ours(ddim, calls, eta=eta), theirs(scheduler, calls, eta=eta), atol=2e-5, rtol=1e-5
    )


@pytest.mark.parametrize("stochastic", [False, True], ids=["ODE", "SDE"])
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("calls", [40, 20, 8])
def test_dpm_solver_is_that_of_diffusers(calls, order, stochastic):
    scheduler = diffusers.DPMSolverMultistepScheduler(
        **COMMON,
        solver_order=order,
        algorithm_type="sde-dpmsolver++" if stochastic else "dpmsolver++",
        timestep_spacing="trailing",
        final_sigmas_type="zero",
    )
    torch.testing.assert_close(
        ours(dpm_solver, calls, order=order, stochastic=stochastic),
        theirs(scheduler, calls),
        atol=2e-5,
        rtol=1e-5,
    )
