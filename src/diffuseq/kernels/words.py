"""Cross-entropy over the vocabulary from scores in bf16, which are read once forward and once backward.

Legend: n words asked, v vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from diffuseq.kernels.rows import load, store


class WordNats(Function):
    """Scores [n v], biases of the words [v] and word ids [n] → −log p of the words, and its mean over all words of
    the vocabulary, both [n] in single precision."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, bias: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        scores = scores.contiguous()
        n, v = scores.shape
        nats, uniform, log_sum = (torch.empty(n, device=scores.device) for _ in range(3))
        _forward[(n,)](
            scores, bias, ids, nats, uniform, log_sum, v, triton.next_power_of_2(v), num_warps=_warps(v)
        )
        ctx.save_for_backward(scores, bias, ids, log_sum)
        return nats, uniform

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, into_nats: Tensor, into_uniform: Tensor) -> tuple[Tensor, Tensor, None]:
        scores, bias, ids, log_sum = ctx.saved_tensors
        n, v = scores.shape
        dscores = torch.empty_like(scores)
        given = into_nats.contiguous(), into_uniform.contiguous()
        _backward[(n,)](
            scores, bias, ids, log_sum, *given, dscores, v, triton.next_power_of_2(v), num_warps=_warps(v)
        )
        return dscores, dscores.sum(0, dtype=bias.dtype), None


def _warps(v: int) -> int:
    return 8 if v <= 16_384 else 16


@triton.jit
def _scores_of(row, scores, bias, v: tl.constexpr, V: tl.constexpr):
    """Of all words, the bias among them."""
    word = tl.arange(0, V)
    return load(scores, row * v + word, word < v) + load(bias, word, word < v)


@triton.jit
def _forward(scores, bias, ids, nats, uniform, log_sum, v: tl.constexpr, V: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    word, score = tl.arange(0, V), _scores_of(row, scores, bias, v, V)
    top = tl.max(tl.where(word < v, score, -1e30), 0)
    whole = top + tl.log(tl.sum(tl.where(word < v, tl.exp(score - top), 0.0), 0))
    own = tl.load(ids + row)
    own_score = tl.load(scores + row * v + own).to(tl.float32) + tl.load(bias + own).to(tl.float32)
    tl.store(nats + row, whole - own_score)
    tl.store(uniform + row, whole - tl.sum(tl.where(word < v, score, 0.0), 0) / v)
    tl.store(log_sum + row, whole)


@triton.jit
def _backward(scores, bias, ids, log_sum, into_nats, into_uniform, dscores, v: tl.constexpr, V: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    word = tl.arange(0, V)
    probability = tl.exp(_scores_of(row, scores, bias, v, V) - tl.load(log_sum + row))
    own, even = tl.load(into_nats + row), tl.load(into_uniform + row)
    gradient = (own + even) * probability - even / v
    gradient -= tl.where(word == tl.load(ids + row), own, 0.0)
    store(dscores, row * v + word, gradient, word < v)
