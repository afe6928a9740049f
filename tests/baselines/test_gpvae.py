"""GPVAE-T5: the Gaussian process against closed forms, T5 against transformers."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from autoregressive_cases import SPECIAL, answers, pairs, request, system
from torch.distributions import MultivariateNormal, Normal
from torch.distributions import kl_divergence as closed_form
from transformers import T5Config, T5ForConditionalGeneration

from diffuseq.baselines.autoregressive import closed, opened
from diffuseq.baselines.configs import GpvaeT5Config
from diffuseq.baselines.gaussian_process import JITTER, covariance, kl_divergence
from diffuseq.baselines.gpvae_t5 import GpvaeT5
from diffuseq.errors import InputError


def gpvae(**changes: object) -> GpvaeT5:
    built = system("gpvae-t5", **changes)
    assert isinstance(built, GpvaeT5)
    return built


def test_the_kernel_is_the_squared_exponential() -> None:
    features = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [1.0, 2.0]]])
    kernel = covariance(features, torch.zeros(1, 3, dtype=torch.bool), variance=3.0, length=0.8)[0]
    squares = [[0, 1, 5], [1, 0, 4], [5, 4, 0]]
    for i, j in ((i, j) for i in range(3) for j in range(3)):
        expected = 3.0 * math.exp(-squares[i][j] / (2 * 0.64)) + (3.0 * JITTER if i == j else 0.0)
        assert float(kernel[i, j]) == pytest.approx(expected, rel=1e-5)


def test_the_divergence_is_that_of_the_closed_form() -> None:
    torch.manual_seed(0)
    sizes, dims = [5, 3, 1], 4
    features, mean, log_variance, prior_mean = (torch.randn(3, 5, dims) for _ in range(4))
    padding = torch.arange(5) >= torch.tensor(sizes)[:, None]
    kernel = covariance(features, padding, variance=1.7, length=2.0)
    given = kl_divergence(mean, log_variance, prior_mean, torch.linalg.cholesky(kernel), padding)
    for row, size in enumerate(sizes):
        total = 0.0
        for dim in range(dims):
            posterior = MultivariateNormal(mean[row, :size, dim], log_variance[row, :size, dim].exp().diag())
            prior = MultivariateNormal(prior_mean[row, :size, dim], kernel[row, :size, :size])
            total += float(closed_form(posterior, prior))
        assert float(given[row]) == pytest.approx(total, rel=1e-4)


def test_far_apart_positions_are_independent_normals() -> None:
    torch.manual_seed(0)
    mean, log_variance, prior_mean = (torch.randn(2, 4, 3) for _ in range(3))
    padding = torch.zeros(2, 4, dtype=torch.bool)
    kernel = covariance(torch.arange(4.0).expand(2, 4)[..., None], padding, variance=2.0, length=1e-3)
    given = kl_divergence(mean, log_variance, prior_mean, torch.linalg.cholesky(kernel), padding)
    scale = math.sqrt(2.0 * (1 + JITTER))
    expected = closed_form(Normal(mean, (log_variance / 2).exp()), Normal(prior_mean, scale)).sum((1, 2))
    torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-4)


def test_a_posterior_that_is_the_prior_has_no_divergence() -> None:
    mean = torch.randn(2, 4, 3)
    log_variance = torch.full_like(mean, math.log(1.5 * (1 + JITTER)))
    padding = torch.zeros(2, 4, dtype=torch.bool)
    root = torch.linalg.cholesky(covariance(100 * torch.randn(2, 4, 5), padding, variance=1.5, length=0.1))
    torch.testing.assert_close(kl_divergence(mean, log_variance, mean, root, padding), torch.zeros(2))


def test_equal_states_do_not_break_the_prior() -> None:
    features = torch.ones(1, 30, 8)
    root = torch.linalg.cholesky(covariance(features, torch.zeros(1, 30, dtype=torch.bool), 1.0, 1.0))
    assert root.isfinite().all()


@pytest.mark.parametrize("sample_from", ["posterior", "prior"])
def test_latents_have_the_moments_of_their_distribution(sample_from: str) -> None:
    built = gpvae(
        scalar=2.0, sample_from=sample_from, kernel_of="positions", kernel_length=1.5, kernel_variance=0.7
    )
    torch.nn.init.normal_(built.log_variance.weight, std=0.05)
    batch = pairs(1).map(lambda tensor: tensor[:1])
    with torch.no_grad():
        encoded = built.encode(batch.source, batch.source_padding)
        mean, root = built.prior(encoded)
        latents = built.draw(encoded, list(range(3000)))
    expected_mean = (mean if sample_from == "prior" else encoded.mean)[0]
    torch.testing.assert_close(latents.mean(0), expected_mean, atol=0.15, rtol=0.0)
    spread = root[0] @ root[0].T if sample_from == "prior" else encoded.log_variance[0, :, 0].exp().diag()
    torch.testing.assert_close(latents[..., 0].T.cov(), 4 * spread, atol=0.45, rtol=0.0)


def test_a_scalar_of_zero_takes_the_mean_and_a_larger_one_spreads_the_candidates() -> None:
    built = gpvae()
    torch.nn.init.normal_(built.write.weight, std=1.0)
    batch = pairs(6)

    def kinds(scalar: float) -> int:
        built.config = dataclasses.replace(built.config, scalar=scalar)
        candidates = 1 if scalar == 0 else 8
        return len({tuple(text) for text in answers(built, request(batch, candidates))})

    assert kinds(1e-4) <= 7
    assert kinds(5.0) > 12
    built.config = dataclasses.replace(built.config, scalar=0.0)
    with pytest.raises(InputError, match="Greedy decoding has one answer"):
        answers(built, request(batch, candidates=2))


def test_greedy_candidates_have_latents_of_their_own_whatever_the_batch() -> None:
    built = gpvae(scalar=5.0)
    torch.nn.init.normal_(built.write.weight, std=1.0)
    batch = pairs(4)
    asked = request(batch, candidates=5)
    together = answers(built, asked)
    assert len({tuple(text) for text in together[:5]}) > 1
    single = dataclasses.replace(
        asked, source=batch.source[2:3], source_padding=batch.source_padding[2:3], seeds=asked.seeds[10:15]
    )
    assert answers(built, single) == together[10:15]


def test_the_loss_is_the_evidence_lower_bound() -> None:
    built = gpvae(kl_weight=0.3)
    for layer in (built.mean, built.prior_mean, built.log_variance):
        torch.nn.init.normal_(layer.weight, std=0.1)
    batch = pairs(5)
    loss = built(batch, torch.Generator().manual_seed(0))
    with torch.no_grad():
        encoded = built.encode(batch.source, batch.source_padding)
        mean, root = built.prior(encoded)
        kl = kl_divergence(encoded.mean, encoded.log_variance, mean, root, encoded.padding).sum()
    tokens = int((~batch.target_padding).sum()) + len(batch)
    assert float(kl) > 1.0
    torch.testing.assert_close(loss.logs["kl"], kl / tokens)
    torch.testing.assert_close(loss.value, loss.logs["nll"] + 0.3 * loss.logs["kl"])


def test_noise_in_training_comes_from_the_generator() -> None:
    built = gpvae()
    torch.nn.init.normal_(built.write.weight, std=1.0)
    batch = pairs(5)
    values = [built(batch, torch.Generator().manual_seed(seed)).value.item() for seed in (0, 0, 1)]
    assert values[0] == values[1] != values[2]


def saved_t5(folder: Path, **changes: object) -> T5ForConditionalGeneration:
    torch.manual_seed(3)
    sizes = {
        "d_model": 16,
        "d_kv": 8,
        "d_ff": 32,
        "num_layers": 2,
        "num_heads": 2,
        "decoder_start_token_id": 0,
    }
    config = T5Config(
        vocab_size=SPECIAL.vocab_size, pad_token_id=0, eos_token_id=SPECIAL.end, **sizes, **changes
    )
    model = T5ForConditionalGeneration(config).eval()
    model.save_pretrained(folder)
    return model


def test_without_its_latent_it_is_t5(tmp_path: Path) -> None:
    theirs = saved_t5(tmp_path)
    ours = GpvaeT5(GpvaeT5Config(name=str(tmp_path)), SPECIAL).eval()
    torch.nn.init.zeros_(ours.write.weight)
    batch = pairs(5)
    source, source_padding = closed(batch.source, batch.source_padding, SPECIAL)
    inputs, padding = opened(batch.target, batch.target_padding, SPECIAL.pad)
    with torch.no_grad():
        given = ours.project(ours.decode(batch.source, batch.source_padding, inputs, padding))
        expected = theirs(
            source, attention_mask=~source_padding, decoder_input_ids=inputs, decoder_attention_mask=~padding
        ).logits
    torch.testing.assert_close(given[~padding], expected[~padding], atol=1e-5, rtol=1e-4)


def test_a_loaded_network_opens_again_without_its_folder(tmp_path: Path) -> None:
    saved_t5(tmp_path)
    first = GpvaeT5(GpvaeT5Config(name=str(tmp_path)), SPECIAL).eval()
    assert (first.config.weights, first.config.layers, first.config.head_width) == ("saved", 2, 8)
    again = GpvaeT5(dataclasses.replace(first.config, name="nowhere/at-all"), SPECIAL).eval()
    again.load_state_dict(first.state_dict())
    asked = request(pairs(3), candidates=2)
    assert answers(first, asked) == answers(again, asked)


def test_no_weight_is_stored_twice() -> None:
    pointers = [tensor.data_ptr() for tensor in gpvae().state_dict().values()]
    assert len(pointers) == len(set(pointers))


def test_a_later_t5_is_refused(tmp_path: Path) -> None:
    saved_t5(tmp_path, feed_forward_proj="gated-gelu")
    with pytest.raises(InputError, match="differs from the T5 of 2020 in feed_forward_proj"):
        GpvaeT5(GpvaeT5Config(name=str(tmp_path)), SPECIAL)
