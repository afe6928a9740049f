"""Dropout: as much as asked for, the mean as it was, repeatable, and nothing at all while a network answers."""

from __future__ import annotations

import pytest
import torch

from diffuseq.dropout import Dropout, drop


@pytest.mark.parametrize("share", [0.1, 0.25, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_share_is_zero_and_the_mean_stays(share: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.full((301, 777), 3.0, dtype=dtype)
    y = drop(x, share)
    assert y.shape == x.shape and y.dtype == dtype
    assert (y == 0).float().mean().item() == pytest.approx(share, abs=0.004)
    kept = y[y != 0].float()
    torch.testing.assert_close(kept, torch.full_like(kept, 3.0 / (1 - share)), rtol=0.005, atol=0.0)
    for axis in (0, 1):  # neighbours know nothing of one another
        zero = (y == 0).float()
        a, b = zero.narrow(axis, 0, zero.shape[axis] - 1), zero.narrow(axis, 1, zero.shape[axis] - 1)
        assert (a * b).mean().item() == pytest.approx(share * share, abs=0.005)


def test_the_gradient_goes_where_the_number_went() -> None:
    torch.manual_seed(0)
    x = torch.randn(50, 40, requires_grad=True)
    y = drop(x, 0.3)
    y.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, (y != 0) / 0.7)


def test_one_seed_one_mask() -> None:
    x = torch.ones(7, 9)
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(drop(x, 0.5))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_the_ends() -> None:
    x = torch.randn(5, 3)
    assert torch.equal(drop(x, 0.0), x)
    assert torch.equal(drop(x, 1.0), torch.zeros_like(x))
    assert torch.equal(drop(x, 1 - 1e-9), torch.zeros_like(x)), (
        "as near to 1 as sixteen bits do not tell apart"
    )
    assert drop(torch.empty(0, 3), 0.5).shape == (0, 3)


def test_an_answering_network_drops_nothing() -> None:
    layer, x = Dropout(0.5), torch.randn(20, 20)
    assert torch.equal(layer.eval()(x), x)
    assert not torch.equal(layer.train()(x), x)
