"""DiffuSeq-v2 as published, number by number: `official-v2-tiny` was recorded from its code (T = 2000)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from diffuseq.config import DiffusionGeneration
from diffuseq.diffusion.posterior import eps_from_x0, x0_from_eps
from diffuseq.model.import_official import import_official
from diffuseq.sampling.dpm_solver import dpm_solver
from diffuseq.sampling.grid import Grid, uniform_time
from diffuseq.sampling.hooks import anchor
from diffuseq.sampling.step import Denoise, Estimate
from diffuseq.systems.published import PublishedDiffuSeq

FOLDER = Path(__file__).parent / "official-v2-tiny"
RECORDED = load_file(FOLDER / "tensors.safetensors")
IDS, TARGET = RECORDED["input_ids"], RECORDED["target_mask"].bool()
STEPS = [5, 10, 20]


@pytest.fixture(scope="module")
def system() -> PublishedDiffuSeq:
    return import_official(FOLDER).system


def assert_equal(ours: Tensor, name: str, atol: float = 1e-5) -> None:
    torch.testing.assert_close(ours.detach(), RECORDED[name], atol=atol, rtol=0)


def solve(
    system: PublishedDiffuSeq, denoise: Denoise, grid: Grid, published_v2: bool
) -> tuple[Tensor, Tensor]:
    """The final state and its tokens."""
    project = anchor(system.denoiser.embed(IDS), ~TARGET)
    *_, last = dpm_solver(denoise, RECORDED["solver_xT"], grid, published_v2=published_v2, project=project)
    return last.x, system.denoiser.logits(last.x).argmax(-1)


def test_the_soft_absorbing_state_is_the_recorded_one(system: PublishedDiffuSeq) -> None:
    clean = system.denoiser.embed(IDS)
    x_t = system.noised(clean, TARGET, RECORDED["t"], RECORDED["noise_q"], absorb_rate=0.0)
    assert_equal(x_t, "q_sample")


def test_the_solver_levels_are_the_recorded_ones(system: PublishedDiffuSeq) -> None:
    grid = uniform_time(system.schedule, 10, end="lowest")
    assert_equal(grid.alpha.float(), "solver_alpha")
    assert_equal(grid.sigma.float(), "solver_sigma")


@pytest.mark.parametrize("steps", STEPS)
@torch.no_grad()
def test_the_released_solver_gives_the_recorded_states_and_tokens(
    system: PublishedDiffuSeq, steps: int
) -> None:
    settings = DiffusionGeneration(steps=steps, sampler="dpm-solver", published_v2=True)
    out, tokens = solve(system, system.denoise_at, system.grid(settings), published_v2=True)
    assert_equal(out, f"published_v2_{steps}_out")
    assert torch.equal(tokens, RECORDED[f"published_v2_{steps}_tokens"])


@pytest.mark.parametrize("steps", STEPS)
@torch.no_grad()
def test_dpm_solver_gives_the_recorded_states_and_tokens(system: PublishedDiffuSeq, steps: int) -> None:
    """To 1e-5 in the arithmetic of the recording, which turns every x_0 into ε and back in float32.

    At α_T = 4.5e-4 that costs four digits; without the detour ours keeps them, so that it differs from the
    recording by the recording's own rounding, up to 1.3e-5.
    """
    settings = DiffusionGeneration(steps=steps, sampler="dpm-solver")
    grid = system.grid(settings)
    out, tokens = solve(system, system.denoise_at, grid, published_v2=False)
    assert_equal(out, f"dpmpp_2m_{steps}_out", atol=2e-5)
    assert torch.equal(tokens, RECORDED[f"dpmpp_2m_{steps}_tokens"])

    in_float32 = float32_levels(system, grid)
    out, tokens = solve(system, by_way_of_noise(system, in_float32), in_float32, published_v2=False)
    assert_equal(out, f"dpmpp_2m_{steps}_out")
    assert torch.equal(tokens, RECORDED[f"dpmpp_2m_{steps}_tokens"])


def float32_levels(system: PublishedDiffuSeq, grid: Grid) -> Grid:
    """The grid with log α summed and interpolated in float32."""
    betas = system.schedule.betas.float()
    log_alpha = 0.5 * torch.log(1 - betas).cumsum(0)
    knots = torch.linspace(0, 1, len(betas) + 1)[1:]
    times = torch.linspace(1, 1 / len(betas), len(grid) + 1)
    right = torch.searchsorted(knots, times).clamp(1, len(knots) - 1)
    share = (times - knots[right - 1]) / (knots[right] - knots[right - 1])
    at_times = log_alpha[right - 1] + share * (log_alpha[right] - log_alpha[right - 1])
    return Grid(grid.time, at_times.exp(), torch.sqrt(1 - torch.exp(2 * at_times)))


def by_way_of_noise(system: PublishedDiffuSeq, grid: Grid) -> Denoise:
    """The network's x_0 after x_0 → ε → x_0."""
    levels = {level.time: level for level in grid.levels()}

    def denoise(x: Tensor, time: float) -> Estimate:
        alpha, sigma = levels[time].alpha, levels[time].sigma
        eps = eps_from_x0(x, system.denoise_at(x, time).x0, alpha, sigma)
        return Estimate(x0_from_eps(x, eps, alpha, sigma))

    return denoise


@torch.no_grad()
def test_the_two_solvers_differ(system: PublishedDiffuSeq) -> None:
    """So that passing both tests above means something."""
    assert (RECORDED["dpmpp_2m_10_out"] - RECORDED["published_v2_10_out"]).abs().max() > 0.1
