"""Kernels compute what PyTorch computes, forward and backward: on a GPU, or in Triton's interpreter where it is
installed without one (`pip install triton`); it comes with PyTorch only for GPUs."""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from diffuseq import kernels
from diffuseq.attention import attend
from diffuseq.data.batch import Batch, pad
from diffuseq.model.blocks import even, normed, rotary, rotate, split_heads
from diffuseq.recipes import recipe
from diffuseq.registry import build
from diffuseq.system import SpecialTokens

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="Triton is not installed; it comes with PyTorch for GPUs",
)
needs_gpu = pytest.mark.skipif(DEVICE.type != "cuda", reason="there is no GPU")
if DEVICE.type == "cpu":
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is imported, by the first kernel


def numbers(*shape: int) -> Tensor:
    return torch.randn(shape, device=DEVICE).requires_grad_()


def compare(found: Tensor, expected: Tensor, given: tuple[Tensor, ...], tolerance: float = 1e-5) -> None:
    """Values, and gradients of a weighted sum. A GPU multiplies in TF32."""
    tolerance = max(tolerance, 1e-2 if DEVICE.type == "cuda" else 0.0)
    weight = torch.randn_like(expected)
    torch.testing.assert_close(found.float(), expected, rtol=tolerance, atol=tolerance)
    for ours, theirs in zip(
        torch.autograd.grad((found * weight).sum(), given),
        torch.autograd.grad((expected * weight).sum(), given),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=4 * tolerance)


@needs_triton
@pytest.mark.parametrize("groups", [1, 2])
def test_a_norm_gives_what_goes_on_beside_it_one_gradient(groups: int) -> None:
    torch.manual_seed(0)
    x, gains = numbers(3, 6, 40), numbers(groups, 40)
    y, beside = kernels.norm(x, gains, 1e-6)
    expected = F.rms_norm(x, (40,), eps=1e-6) * gains.repeat_interleave(6 // groups, 0)
    assert y.dtype == torch.bfloat16
    compare(y.float() + beside, expected + x, (x, gains), tolerance=2e-2)


@needs_triton
@pytest.mark.parametrize("groups", [0, 1, 2])
def test_what_a_layer_adds_is_gated(groups: int) -> None:
    torch.manual_seed(0)
    x, added, gates = numbers(3, 6, 40), numbers(3, 6, 40), numbers(groups, 40) if groups else None
    spread = 1.0 if gates is None else gates.repeat_interleave(6 // groups, 0)
    given = tuple(part for part in (x, added, gates) if part is not None)
    compare(kernels.add(x, added, 0.0, gates), x + spread * added, given)


@needs_triton
def test_there_may_be_more_groups_than_programs() -> None:
    torch.manual_seed(0)
    x, gains, gates = numbers(2, 600, 8), numbers(600, 8), numbers(600, 8)
    y, beside = kernels.norm(x, gains, 1e-6)
    expected = F.rms_norm(x, (8,), eps=1e-6) * gains
    compare(y.float() + beside, expected + x, (x, gains), tolerance=2e-2)
    added = numbers(2, 600, 8)
    compare(kernels.add(x, added, 0.0, gates), x + gates * added, (x, added, gates))


@needs_triton
def test_what_is_dropped_forward_is_dropped_backward() -> None:
    torch.manual_seed(0)
    x, added = torch.zeros(64, 4, 40, device=DEVICE), numbers(64, 4, 40)
    y = kernels.add(x, added, 0.3, None)
    kept = y != 0
    assert 0.68 < kept.float().mean() < 0.72
    torch.testing.assert_close(y, kept * added / 0.7)
    torch.testing.assert_close(torch.autograd.grad(y.sum(), added)[0], kept / 0.7)
    assert not torch.equal(kernels.add(x, added, 0.3, None), y)
    torch.manual_seed(7)  # chance comes from the global generator
    once = kernels.add(x, added, 0.3, None)
    torch.manual_seed(7)
    assert torch.equal(kernels.add(x, added, 0.3, None), once)


@needs_triton
def test_swiglu() -> None:
    torch.manual_seed(0)
    both = numbers(3, 5, 46)
    gate, value = both.chunk(2, -1)
    compare(kernels.swiglu(both), F.silu(gate) * value, (both,))


@needs_triton
def test_nats_of_words_and_their_mean() -> None:
    torch.manual_seed(0)
    scores, bias, ids = numbers(7, 50), numbers(50), torch.randint(50, (7,), device=DEVICE)
    log_p = (scores + bias).log_softmax(-1)
    expected = torch.stack((-log_p.gather(-1, ids[:, None])[:, 0], -log_p.mean(-1)))
    compare(torch.stack(kernels.word_nats(scores, bias, ids)), expected, (scores, bias))


@needs_triton
@pytest.mark.parametrize("source", [1, 20])
def test_keys_and_values_of_a_memory(source: int) -> None:
    torch.manual_seed(0)
    kv, turn = numbers(2, source, 2 * 64), rotary(source, 32, DEVICE)
    key, value = split_heads(kv, 2, 2)
    found = torch.stack(kernels.keys_and_values(kv, turn, 2))
    compare(found, torch.stack((rotate(even(key), turn), value)), (kv,))


def attention_of(
    dropout: float, n: int, looking: int | None, heads: int, mask: Tensor
) -> Callable[..., Tensor]:
    turn = rotary(n, 32, DEVICE)

    def attention(qkv: Tensor, *memory: Tensor) -> Tensor:
        return kernels.attend(qkv, memory or None, mask, turn, heads, looking, dropout)  # type: ignore[arg-type]

    return attention


@needs_triton
@pytest.mark.parametrize(
    ("n", "s", "looking", "mask_rows"),
    [(10, 0, None, 1), (10, 5, None, 10), (18, 20, 9, 9), (33, 7, None, 33)],
)
def test_attention_over_a_memory_and_the_row_itself(
    n: int, s: int, looking: int | None, mask_rows: int
) -> None:
    torch.manual_seed(0)
    heads, turn = 2, rotary(n, 32, DEVICE)
    qkv, memory = numbers(2, n, 3 * 64), tuple(numbers(2, heads, s, 32) for _ in range(2 if s else 0))
    mask = torch.rand(2, mask_rows, s + n, device=DEVICE) < 0.7
    mask[..., -1] = True
    found = attention_of(0.0, n, looking, heads, mask)(qkv, *memory)
    parts = split_heads(qkv, heads, 3)
    (query, key), value = rotate(even(parts[:2]), turn), parts[2]
    if memory:
        key, value = (torch.cat(both, 2) for both in zip(memory, (key, value), strict=True))
    expected = attend(query[:, :, n - (looking or n) :], key, value, mask[:, None]).transpose(1, 2).flatten(2)
    compare(found, expected, (qkv, *memory))


@needs_triton
def test_attention_drops_the_same_weights_forward_and_backward() -> None:
    torch.manual_seed(0)
    given = numbers(2, 10, 3 * 64), numbers(2, 2, 5, 32), numbers(2, 2, 5, 32)
    attention = attention_of(0.3, 10, None, 2, torch.ones(2, 1, 15, dtype=torch.bool, device=DEVICE))

    def value(*inputs: Tensor) -> Tensor:
        torch.manual_seed(3)
        return (attention(*inputs) * weight).sum()

    weight = torch.randn(2, 10, 64, device=DEVICE)
    gradients = torch.autograd.grad(value(*given), given)
    for number, gradient in enumerate(gradients):
        step = [torch.zeros_like(part) for part in given]
        step[number] = 1e-2 * torch.randn_like(given[number])
        up, down = (
            value(*(part + sign * by for part, by in zip(given, step, strict=True))) for sign in (1.0, -1.0)
        )
        expected = (gradient * step[number]).sum().item()
        assert (up - down).item() / 2 == pytest.approx(expected, rel=2e-2, abs=2e-3)


def test_rows_and_heads_that_are_too_large_are_left_to_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.zeros(1, 7, 192)
    assert not kernels.fit_heads(x, 3)
    monkeypatch.setattr(kernels, "fit", lambda x: True)
    assert [heads for heads in (1, 2, 3, 4, 6, 12) if kernels.fit_heads(x, heads)] == [3, 6]
    mask = torch.ones(1, 1, 1, 64 + 10, dtype=torch.bool)
    assert kernels.are_short(mask, 64) and kernels.are_short(mask, 10)
    assert not kernels.are_short(mask, 65) and not kernels.are_short(mask, 9)


def test_a_cpu_and_who_leaves_them_out_go_without() -> None:
    assert not kernels.fit(torch.zeros(1))
    with kernels.left_out():
        assert not kernels.fit(torch.zeros(1, device=DEVICE))


@pytest.fixture
def in_bf16_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Autocast and tensors as on a machine whose current GPU is the first of two; nothing is computed."""
    before = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    with FakeTensorMode():
        yield
    torch.set_autocast_enabled("cuda", before[0])
    torch.set_autocast_dtype("cuda", before[1])


@pytest.mark.usefixtures("in_bf16_on_a_gpu")
def test_kernels_fit_the_current_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "are_usable", lambda device: True)
    assert kernels.fit(torch.empty(1, device="cuda:0"))
    assert not kernels.fit(torch.empty(1, device="cuda:1"))


@pytest.mark.usefixtures("in_bf16_on_a_gpu")
def test_a_compiler_traces_past_them_in_one_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "are_usable", lambda device: pytest.fail("asked while tracing"))

    @torch.compile(fullgraph=True, backend="eager")
    def with_or_without(x: Tensor) -> Tensor:
        return x[:1] if kernels.fit(x) else x

    assert with_or_without(torch.empty(3, device="cuda")).shape == (3,)


@needs_triton
def test_a_first_kernel_runs_without_a_word() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert kernels._runs(DEVICE)


def test_where_triton_runs_nothing_pytorch_takes_over_and_it_is_told_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(both: Tensor) -> Tensor:
        raise RuntimeError("Failed to find C compiler.\nPlease specify one.")

    kernels.are_usable.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(kernels, "_is_new_enough", lambda device: True)
    monkeypatch.setattr(kernels, "swiglu", fail)
    with pytest.warns(UserWarning, match=r"Failed to find C compiler\.\).*DIFFUSEQ_KERNELS=0") as told:
        assert not kernels.are_usable(DEVICE) and not kernels.are_usable(DEVICE)
    assert len(told) == 1
    kernels.are_usable.cache_clear()
    monkeypatch.setenv("DIFFUSEQ_KERNELS", "0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not kernels.are_usable(DEVICE)
    kernels.are_usable.cache_clear()


def test_gains_for_several_positions_in_a_row_are_those_of_each() -> None:
    torch.manual_seed(0)
    x, gains = torch.randn(2, 6, 8), torch.randn(1, 3, 8)
    torch.testing.assert_close(normed(x, gains)[0], normed(x, gains.repeat_interleave(2, 1))[0])
    assert kernels.are_shared(gains)
    assert not kernels.are_shared(gains.expand(2, -1, -1).clone())


@needs_gpu
def test_a_step_of_training_is_that_of_pytorch() -> None:
    system = replace(recipe("qqp").system, dropout=0.0, wrong_words=0.0)
    torch.manual_seed(0)
    network = build(system, SpecialTokens(40, pad=0, start=2, end=3, unknown=1, mask=4)).to(DEVICE).train()
    batch = Batch(*pad([[5, 6, 7], [8, 9]], 0), *pad([[10, 11], [12, 13, 14, 15]], 0)).to(DEVICE)

    def gradients() -> list[Tensor]:
        generator = torch.Generator(DEVICE).manual_seed(0)
        with torch.autocast("cuda", torch.bfloat16):
            loss = network(batch, generator).value
        parameters = [p for p in network.parameters() if p.requires_grad]
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        return [loss.detach(), *(part for part in found if part is not None)]

    with kernels.left_out():
        expected = gradients()
    difference = sum(float((a - b).norm() ** 2) for a, b in zip(gradients(), expected, strict=True))
    assert difference < 1e-3 * sum(float(part.norm() ** 2) for part in expected)
