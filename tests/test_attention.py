"""Attention by products is the attention of the kernel, in value and gradient."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from diffuseq import attention
from diffuseq.attention import attend

SHAPE = (3, 2, 5, 8)


def tensors(keys: int = 7) -> tuple[Tensor, ...]:
    random = torch.Generator().manual_seed(0)
    shapes = (SHAPE, (3, 2, keys, 8), (3, 2, keys, 8))
    return tuple(torch.randn(shape, generator=random).requires_grad_() for shape in shapes)


def masks() -> dict[str, Tensor | None]:
    seen = torch.rand(3, 1, 5, 7, generator=torch.Generator().manual_seed(1)) < 0.6
    seen[..., 0] = True
    return {"none": None, "each": seen, "one for all queries": seen[:, :, :1]}


def with_gradients(result: Tensor, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    weight = torch.arange(result.numel(), dtype=result.dtype).view_as(result).sin()
    return [result.detach(), *torch.autograd.grad((result * weight).sum(), inputs)]


@pytest.mark.parametrize("mask", masks().values(), ids=masks())
def test_products_give_what_the_kernel_gives(mask: Tensor | None) -> None:
    inputs = tensors()
    ours = with_gradients(attend(*inputs, mask), inputs)
    kernel = with_gradients(F.scaled_dot_product_attention(*inputs, attn_mask=mask), inputs)
    torch.testing.assert_close(ours, kernel)


def test_a_causal_mask_is_the_kernels() -> None:
    inputs = tensors(keys=5)
    ours = with_gradients(attend(*inputs, is_causal=True), inputs)
    kernel = with_gradients(F.scaled_dot_product_attention(*inputs, is_causal=True), inputs)
    torch.testing.assert_close(ours, kernel)


def test_under_autocast_it_stays_in_bf16_and_near() -> None:
    inputs, mask = tensors(), masks()["each"]
    with torch.autocast("cpu", torch.bfloat16):
        halves = tuple(x.bfloat16() for x in inputs)
        result = attend(*halves, mask)
    assert result.dtype == torch.bfloat16
    exact = F.scaled_dot_product_attention(*inputs, attn_mask=mask)
    torch.testing.assert_close(result.float(), exact, atol=0.03, rtol=0.03)


def test_who_sees_nothing_has_finite_gradients() -> None:
    inputs, mask = tensors(), torch.ones(3, 1, 5, 7, dtype=torch.bool)
    mask[1] = False
    assert all(part.isfinite().all() for part in with_gradients(attend(*inputs, mask), inputs))


def test_many_scores_are_left_to_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = tensors()
    few = attend(*inputs)
    monkeypatch.setattr(attention, "_attend_by_products", None)
    monkeypatch.setattr(attention, "FEW", 3 * 2 * 5 * 7 - 1)
    torch.testing.assert_close(attend(*inputs), few)
    monkeypatch.setattr(attention, "FEW", 3 * 2 * 5 * 7)
    with torch.no_grad():  # nothing to learn, so no slow backward pass
        torch.testing.assert_close(attend(*inputs), few)


def test_dropout_drops_weights_and_keeps_their_mean() -> None:
    query, key, value = tensors()
    torch.manual_seed(0)
    dropped = torch.stack([attend(query, key, value, dropout=0.5) for _ in range(400)])
    assert (dropped[0] - dropped[1]).abs().max() > 0.1
    torch.testing.assert_close(dropped.mean(0), attend(query, key, value), atol=0.3, rtol=0)
