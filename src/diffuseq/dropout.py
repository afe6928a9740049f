"""Dropout whose chance is drawn four places at a time on a CPU.

PyTorch draws every place of a mask there by a number of its own, one after the other, which takes as long as an
eighth of the matrix products of a training step (docs/log.md). Sixteen bits of chance are enough for a place, and
the generator gives sixty-four at once. A GPU draws as PyTorch does.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_BITS = 16
_LEAST = -(1 << (_BITS - 1))


class Dropout(nn.Module):
    """Zeros for a share of the numbers in training, the others larger by as much (Srivastava et al., 2014)."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        return drop(x, self.share) if self.training else x

    def extra_repr(self) -> str:
        return str(self.share)


def drop(x: Tensor, share: float) -> Tensor:
    """x with a share of its numbers 0, to the nearest 2⁻¹⁶, and the others divided by the rest of the share; by the
    global generator."""
    if share == 0:
        return x
    dropped = round(share * (1 << _BITS))
    if x.device.type != "cpu" or not 0 < dropped < 1 << _BITS:
        return F.dropout(x, share)
    chance = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(1 << 63), None)
    kept = chance.view(torch.int16)[: x.numel()].view(x.shape) >= _LEAST + dropped
    return x * (1 / (1 - share)) * kept.to(x.dtype)
