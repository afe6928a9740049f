"""A part of the positions at a time, where all of them together would not fit the cache.

What is computed of every word of the vocabulary at every position passes over as many numbers a dozen times:
scores, softmax, pointer, logarithm, the draw. For some thousand positions that is a hundred megabytes each time,
and a CPU waits for its memory; some dozens are done before they leave the cache (docs/log.md). A GPU takes all at
once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

SCORES = 1 << 19
"""Scores of words that are looked at together on a CPU: two megabytes in single precision."""


def parts(positions: int, vocab_size: int, device: torch.device) -> Iterator[slice]:
    """The positions in consecutive parts; one, which is empty, of none."""
    most = max(1, SCORES // vocab_size if device.type == "cpu" else positions)
    return (slice(start, min(start + most, positions)) for start in range(0, max(1, positions), most))


def whole(found: Iterable[Tensor]) -> Tensor:
    """What was computed in parts, together."""
    tensors = list(found)
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)
