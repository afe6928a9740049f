"""Muon, the split of parameters over optimisers, and the course of the learning rate."""

import pytest
import tiny_runs as tiny
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from transformers.pytorch_utils import Conv1D

from diffuseq.baselines.configs import Gpt2Config, GpvaeT5Config
from diffuseq.config import DiffuSeqConfig, TrainingConfig
from diffuseq.errors import InputError
from diffuseq.registry import build
from diffuseq.system import SpecialTokens
from diffuseq.training.optim import (
    Muon,
    learning_rate_factor,
    make_optimizers,
    orthogonalize,
    orthogonalize_all,
)


@given(rows=st.integers(2, 24), columns=st.integers(2, 24), scale=st.sampled_from([1e-4, 1.0, 1e4]))
@hypothesis_settings(max_examples=30, deadline=None)
def test_newton_schulz_keeps_singular_vectors_and_brings_singular_values_near_one(
    rows: int, columns: int, scale: float
) -> None:
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows * 100 + columns)) * scale
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    result = orthogonalize(matrix[None], iterations=10)[0]
    inner = left.T @ result @ right.T
    well_conditioned = values > 0.05 * values[0]
    diagonal = inner.diagonal()[well_conditioned]
    assert ((diagonal > 0.6) & (diagonal < 1.3)).all()
    assert (inner - inner.diagonal().diag()).abs().max() < 1e-2


@pytest.mark.parametrize("decay", [1.0, 0.7])
def test_the_short_cut_for_wide_matrices_changes_nothing(decay: float) -> None:
    """Even where the singular values fall over eight orders of magnitude, as those of gradients do."""
    generator = torch.Generator().manual_seed(0)
    left, _ = torch.linalg.qr(torch.randn(48, 48, generator=generator, dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(160, 48, generator=generator, dtype=torch.float64))
    matrix = left * decay ** torch.arange(48) @ right.T
    expected = matrix / matrix.norm()
    for _ in range(5):
        gram = expected @ expected.T
        expected = 3.4445 * expected + (-4.7750 * gram + 2.0315 * gram @ gram) @ expected
    result = orthogonalize(matrix.float()[None])[0].double()
    torch.testing.assert_close(result, expected, atol=2e-3, rtol=0)


def test_matrices_of_one_shape_are_orthogonalised_as_each_alone_would_be() -> None:
    shapes = [(8, 12), (12, 8), (8, 12), (5, 5)]
    matrices = [
        torch.randn(shape, generator=torch.Generator().manual_seed(i)) for i, shape in enumerate(shapes)
    ]
    for matrix, together in zip(matrices, orthogonalize_all(matrices), strict=True):
        torch.testing.assert_close(together, orthogonalize(matrix[None])[0], atol=1e-4, rtol=1e-4)


def test_muon_moves_every_matrix_by_a_step_of_the_size_of_its_learning_rate() -> None:
    for shape in ((16, 16), (64, 16), (16, 64)):
        parameter = torch.nn.Parameter(torch.zeros(shape))
        optimizer = Muon([parameter], lr=0.1)
        parameter.grad = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 1e3
        optimizer.step()
        norm = torch.linalg.matrix_norm(parameter.detach(), 2)
        largest = 0.1 * max(1.0, shape[0] / shape[1]) ** 0.5
        assert 0.6 * largest < norm < 1.3 * largest


def test_muon_gets_the_hidden_matrices_and_adamw_every_other_parameter_once() -> None:
    system = tiny.system()
    adamw, muon = make_optimizers(system, TrainingConfig(optimizer="muon"))
    hidden = {id(p) for group in muon.param_groups for p in group["params"]}
    other = {id(p) for group in adamw.param_groups for p in group["params"]}
    assert hidden.isdisjoint(other)
    assert hidden | other == {id(p) for p in system.parameters()}
    for name, parameter in system.named_parameters():
        expected = parameter.ndim == 2 and "embedding" not in name and "head" not in name
        assert (id(parameter) in hidden) == expected, name


@pytest.mark.parametrize(
    "config",
    [
        Gpt2Config(weights="random", layers=1, heads=2, width=8, max_length=16),
        GpvaeT5Config(weights="random", layers=1, heads=2, width=8, head_width=4, feed_forward=16),
    ],
)
def test_muon_leaves_the_tables_of_transformers_networks_alone(config: Gpt2Config | GpvaeT5Config) -> None:
    system = build(config, SpecialTokens(vocab_size=32, pad=0, start=1, end=2, unknown=3, mask=4))
    _, muon = make_optimizers(system, TrainingConfig(optimizer="muon"))
    hidden = {id(p) for group in muon.param_groups for p in group["params"]}
    tables = [module for module in system.modules() if isinstance(module, torch.nn.Embedding)]
    layers = [module for module in system.modules() if isinstance(module, torch.nn.Linear | Conv1D)]
    assert len(tables) > 1
    assert not any(id(table.weight) in hidden for table in tables)
    tied = {id(table.weight) for table in tables}
    assert all(id(layer.weight) in hidden for layer in layers if id(layer.weight) not in tied)


def test_weight_decay_is_for_matrices_alone() -> None:
    (adamw,) = make_optimizers(tiny.system(), TrainingConfig(weight_decay=0.1))
    for group in adamw.param_groups:
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.1 if parameter.ndim >= 2 else 0.0)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_gains_and_offsets_of_channels_are_no_matrices_however_many_there_are(optimizer: str) -> None:
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "heads": 2, "width": 16, "feed_forward": 16}
    system = build(DiffuSeqConfig(**sizes, embedding_width=8, max_length=8), tiny.SPECIAL)
    adamw, *_ = make_optimizers(system, TrainingConfig(optimizer=optimizer, weight_decay=0.1))  # type: ignore[arg-type]
    decay = {id(p): group["weight_decay"] for group in adamw.param_groups for p in group["params"]}
    found = {name: p for name, p in system.named_parameters() if name.endswith(("gains", "offset", "bias"))}
    assert sum(parameter.ndim >= 2 for parameter in found.values()) == 3
    assert {name: decay[id(parameter)] for name, parameter in found.items()} == dict.fromkeys(found, 0.0)
    for matrix in (system.denoiser.word_embedding.weight, system.length_head.offset.weight):  # type: ignore[attr-defined, union-attr]
        assert decay[id(matrix)] == 0.1


def test_a_linear_decay_without_warm_up_is_the_published_one() -> None:
    settings = TrainingConfig(schedule="linear", warmup=0.0)
    for step in range(100):
        assert learning_rate_factor(settings, step / 100, (step + 1) / 100) == pytest.approx(1 - step / 100)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant", "inverse-sqrt"])
def test_the_learning_rate_rises_to_its_peak_and_never_again(schedule: str) -> None:
    settings = TrainingConfig(schedule=schedule, warmup=0.1, final_learning_rate=0.05)  # type: ignore[arg-type]
    factors = [learning_rate_factor(settings, s / 200, (s + 1) / 200) for s in range(200)]
    assert factors[:20] == sorted(factors[:20]) and 0 < factors[0] < 0.1
    assert max(factors) == pytest.approx(1.0)
    assert factors[20:] == sorted(factors[20:], reverse=True)
    assert min(factors[20:]) >= 0.05


def test_an_inverse_square_root_without_a_warm_up_is_refused() -> None:
    with pytest.raises(InputError, match="warm-up"):
        learning_rate_factor(TrainingConfig(schedule="inverse-sqrt", warmup=0.0), 0.5, 0.6)
