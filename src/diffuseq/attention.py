"""Attention by whatever computes it fastest where it runs.

Legend: b rows, h heads, n queries, m keys, e width of a head.
"""

from __future__ import annotations

import math
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from diffuseq.dropout import drop

FEW = 1 << 24
"""Scores of a layer, up to which they are kept for the backward pass: 64 MiB in single precision."""

_ON_GPU = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
"""Not cuDNN's, which plans anew for every shape: longer than all else, where lengths vary (docs/log.md)."""


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    *,
    is_causal: bool = False,
    dropout: float = 0.0,
) -> Tensor:
    """softmax(q kᵀ / √e) v [b h n e] of queries [b h n e], keys and values [b h m e] (Vaswani et al., 2017, Eq. 1).

    mask: bool, broadcast to [b h n m], True where a query sees a key. is_causal: instead of a mask, each query sees
    the keys up to its own place. dropout: the share of the weights that is dropped.

    PyTorch's fused kernel, but for training on a CPU with few scores: its backward pass there takes up to ten times
    as long as that of the products that it consists of (docs/log.md).
    """
    n, m = query.shape[-2], key.shape[-2]
    num_scores = math.prod(query.shape[:-1]) * m
    if query.device.type != "cpu" or not torch.is_grad_enabled() or num_scores > FEW:
        with nullcontext() if query.device.type == "cpu" else sdpa_kernel(_ON_GPU):
            return F.scaled_dot_product_attention(
                query, key, value, attn_mask=mask, is_causal=is_causal, dropout_p=dropout
            )
    if is_causal:
        mask = torch.ones(n, m, dtype=torch.bool, device=query.device).tril()
    return _attend_by_products(query, key, value, mask, dropout)


def _attend_by_products(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float
) -> Tensor:
    n, m = query.shape[-2], key.shape[-2]
    queries, keys = query.flatten(0, 1), key.flatten(0, 1).transpose(1, 2)
    unseen = torch.zeros((), dtype=query.dtype)
    if mask is not None:
        # half of the smallest number: whoever sees nothing gets a mean and not nonsense
        lowest = torch.finfo(query.dtype).min / 2
        unseen = torch.zeros(mask.shape, dtype=query.dtype).masked_fill_(~mask, lowest)
        unseen = unseen.expand(*query.shape[:2], n, m).reshape(-1, n, m)
    scores = torch.baddbmm(unseen, queries * query.shape[-1] ** -0.5, keys)
    with torch.autocast("cpu", enabled=False):  # which would do the softmax in single precision
        weights = drop(scores.softmax(-1), dropout)
    return torch.bmm(weights, value.flatten(0, 1)).view(query.shape)
