"""DiffuSeq as published, number by number: `official-tiny` was recorded from the released code (T = 20)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from diffuseq.data.batch import Batch, pad
from diffuseq.data.layout import Sequences, lay_out
from diffuseq.diffusion.times import LossSecondMoment
from diffuseq.losses import word_cross_entropy
from diffuseq.model.import_official import import_official
from diffuseq.sampling.ancestral import ancestral
from diffuseq.sampling.grid import Grid, published_steps
from diffuseq.sampling.hooks import anchor, clamp
from diffuseq.sampling.step import Denoise, Step
from diffuseq.system import SpecialTokens
from diffuseq.systems.published import PublishedDiffuSeq

FOLDER = Path(__file__).parent / "official-tiny"
RECORDED = load_file(FOLDER / "tensors.safetensors")
IDS, TARGET, TIMES = RECORDED["input_ids"], RECORDED["target_mask"].bool(), RECORDED["t"]


@pytest.fixture(scope="module")
def system() -> PublishedDiffuSeq:
    return import_official(FOLDER).system


def assert_equal(ours: Tensor, name: str) -> None:
    torch.testing.assert_close(ours.detach(), RECORDED[name], atol=1e-5, rtol=0)


def start(system: PublishedDiffuSeq) -> tuple[Tensor, Tensor]:
    """Clean embeddings and the recorded x_0 = Emb + σ_0·ε."""
    clean = system.denoiser.embed(IDS)
    return clean, clean + system.schedule.sigma(system.schedule.lowest_time).float() * RECORDED["noise_x0"]


def test_the_network_gives_the_recorded_estimate_and_logits(system: PublishedDiffuSeq) -> None:
    assert_equal(system.denoiser(RECORDED["x_t"], TIMES), "denoiser_out")
    assert_equal(system.denoiser.logits(RECORDED["x_t"]), "logits")


def test_partial_noise_is_the_recorded_one(system: PublishedDiffuSeq) -> None:
    _, x0 = start(system)
    assert_equal(system.noised(x0, TARGET, TIMES, RECORDED["noise_q"]), "q_sample")


def test_every_term_of_the_loss_and_its_gradients_are_the_recorded_ones(system: PublishedDiffuSeq) -> None:
    clean, x0 = start(system)
    x_t = system.noised(x0, TARGET, TIMES, RECORDED["noise_q"])
    estimate = system.denoiser(x_t, system.network_time(TIMES))
    terms = system.terms(estimate, x0, clean, Sequences(IDS, TARGET, TARGET.int().argmax(1)), TIMES)
    assert_equal(terms.reconstruction, "loss_mse")
    assert_equal(terms.total, "loss_loss")
    assert_equal(word_cross_entropy(system.denoiser.logits(estimate), IDS, TARGET), "loss_nll")
    system.zero_grad()
    terms.total.mean().backward()
    for parameter, name in (
        (system.denoiser.word_embedding.weight, "grad_word_embedding"),
        (system.denoiser.output_down_proj[0].weight, "grad_output_down_proj_0"),
    ):
        assert parameter.grad is not None
        assert_equal(parameter.grad, name)


def one_step(grid: Grid, t: int) -> Grid:
    """The part of the full chain's grid that goes from index t to t − 1."""
    i = len(grid) - 1 - t
    return Grid(grid.time[i : i + 2], grid.alpha[i : i + 2], grid.sigma[i : i + 2])


def published_walk(
    system: PublishedDiffuSeq, x: Tensor, grid: Grid, noise: list[Tensor], rounded: bool
) -> Step:
    """The last step of the published ancestral sampler over a grid, with recorded noise."""
    denoise: Denoise = system.denoise_at
    if rounded:
        denoise = clamp(denoise, system.denoiser.word_embedding.weight, grid)
    project = anchor(system.denoiser.embed(IDS), ~TARGET)
    draws = iter(noise)
    *_, last = ancestral(denoise, x, grid, noise=lambda _: next(draws), variance="large", project=project)
    return last


@pytest.mark.parametrize("t", [19, 10, 0])
@pytest.mark.parametrize("rounding", ["round", "noround"])
@torch.no_grad()
def test_a_single_ancestral_step_is_the_recorded_one(
    system: PublishedDiffuSeq, rounding: str, t: int
) -> None:
    name = f"p_sample_{rounding}_{t}"
    grid = one_step(published_steps(system.schedule), t)
    step = published_walk(
        system, RECORDED[f"{name}_x"], grid, [RECORDED[f"{name}_noise"]], rounding == "round"
    )
    assert_equal(step.estimate.x0, f"{name}_pred")
    assert_equal(step.x, f"{name}_out")


@torch.no_grad()
def test_the_full_chain_ends_at_the_recorded_state_and_tokens(system: PublishedDiffuSeq) -> None:
    noise = list(RECORDED["chain_noise"].flip(0))  # recorded by index t, drawn from the last to the first
    step = published_walk(system, RECORDED["chain_xT"], published_steps(system.schedule), noise, rounded=True)
    assert_equal(step.x, "chain_out")
    assert torch.equal(system.denoiser.logits(step.x).argmax(-1), RECORDED["chain_tokens"])


def test_the_loss_aware_sampler_gives_the_recorded_probabilities() -> None:
    recorded = json.loads((FOLDER / "importance_sampler.json").read_text())
    sampler = LossSecondMoment(recorded["num_timesteps"])
    sampler.update(torch.tensor(recorded["t"]), torch.tensor(recorded["loss"], dtype=torch.float64))
    expected = torch.tensor(recorded["weights"], dtype=torch.float64)
    torch.testing.assert_close(sampler.probabilities(), expected, atol=1e-12, rtol=0)


def test_the_layout_is_the_recorded_one() -> None:
    recorded = json.loads((FOLDER / "merge_and_mask.json").read_text())
    rows = recorded["rows"]
    start_id, end_id = rows[0]["src"][0], recorded["sep"]
    sides = [pad([row[side][1:-1] for row in rows], recorded["pad"]) for side in ("src", "trg")]
    special = SpecialTokens(97, pad=recorded["pad"], start=start_id, end=end_id, unknown=3, mask=3)
    sequences = lay_out(Batch(*sides[0], *sides[1]), special, recorded["seq_len"])
    assert sequences.ids.tolist() == [row["input_ids"] for row in rows]
    assert sequences.target.int().tolist() == [row["input_mask"] for row in rows]


@torch.no_grad()
def test_the_wrong_variance_or_unscaled_time_would_be_noticed(system: PublishedDiffuSeq) -> None:
    """The recorded numbers tell the published choices from their neighbours."""
    grid = published_steps(system.schedule)
    noise = [RECORDED["p_sample_noround_10_noise"]]
    x, out = RECORDED["p_sample_noround_10_x"], RECORDED["p_sample_noround_10_out"]
    *_, small = ancestral(
        system.denoise_at,
        x,
        one_step(grid, 10),
        noise=lambda _: noise[0],
        variance="small",
        project=anchor(system.denoiser.embed(IDS), ~TARGET),
    )
    assert (small.x - out).abs().max() > 1e-3
    unscaled = PublishedDiffuSeq(replace(system.config, rescale_time=False), system.special).eval()
    unscaled.load_state_dict(system.state_dict())
    step = published_walk(unscaled, x, one_step(grid, 10), noise, rounded=False)
    assert (step.x - out).abs().max() > 1e-3
