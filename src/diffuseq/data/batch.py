"""A batch of tokenised pairs: what every system trains on.

Legend: b pairs, s source length, l target length, v vocabulary. Masks are booleans with one meaning and one
polarity.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Token ids without any special tokens; each system adds the ones that it needs.

    source, target: long [b s], [b l]; source_padding, target_padding: bool, True where there is no token.
    labels: what is learned in place of the words of the target and the end behind them, as probabilities of all
    words of the vocabulary [b l+1 v] (see `diffuseq.training.teachers`); None: those words themselves.
    """

    source: Tensor
    source_padding: Tensor
    target: Tensor
    target_padding: Tensor
    labels: Tensor | None = None

    def __len__(self) -> int:
        return self.source.shape[0]

    def to(self, device: torch.device | str) -> Batch:
        return self.map(lambda tensor: tensor.to(device, non_blocking=True))

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """A batch of what `change` makes of every tensor."""
        changed = {name: change(tensor) for name, tensor in vars(self).items() if tensor is not None}
        return replace(self, **changed)

    def tensors(self) -> list[Tensor]:
        """All that there are, in the order of the fields."""
        return [tensor for tensor in vars(self).values() if tensor is not None]


def with_end(target: Tensor, padding: Tensor, end: int) -> Tensor:
    """Targets [b l] with the end in the place of all padding, and one place more [b l+1]."""
    return F.pad(target.masked_fill(padding, end), (0, 1), value=end)


def pad(rows: Sequence[Sequence[int]], pad_id: int, length: int | None = None) -> tuple[Tensor, Tensor]:
    """Rows of ids to (ids [b n], padding [b n]); n is the longest row unless `length` says otherwise."""
    width = max(1, max((len(row) for row in rows), default=1)) if length is None else length
    ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
    padding = torch.ones((len(rows), width), dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.as_tensor(row, dtype=torch.long)
        padding[i, : len(row)] = False
    return ids, padding
