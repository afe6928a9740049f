"""What stands behind a word that changed, moved along with it.

In a text that is drawn all at once what is behind the first change is a draft. Where a word was missing or is one
too many, the rest of it is not wrong but a place off.

Legend: n rows, l positions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Drawn(NamedTuple):
    """Words [n l], −1 where none is known, and the log-probability of each when it was drawn [n l]."""

    tokens: Tensor
    log_p: Tensor


def realigned(drawn: Drawn, before: Drawn, first: Tensor, is_ousted: Tensor, window: Tensor) -> Drawn:
    """The words that were drawn, those behind the first change moved along if it moved them.

    first [n] is its place, l where nothing changed; window [n] as in `fixed_point`. Unless the word before
    is_ousted there [n l], one took the place of another, and all stays. Else, where the new word stood further on
    before, those between were too many, and what was drawn behind it follows. Else it was missing, and what stood
    in its place follows with what was drawn behind that.
    """
    length = drawn.tokens.shape[1]
    place = torch.arange(length, device=first.device)
    at = first.clamp_max(length - 1)[:, None]
    is_behind = place > at
    found = is_behind & (before.tokens == drawn.tokens.gather(1, at))
    # nothing stood there, or could still
    stays = (before.tokens.gather(1, at) < 0) | ~is_ousted.gather(1, at)
    by = torch.where(found.any(1, keepdim=True), found.int().argmax(1, keepdim=True) - at, -1)
    origin = place + by.masked_fill(stays, 0)
    is_pushed, is_beyond = is_behind & (origin == at), origin >= window[:, None]
    origin = origin.clamp(0, length - 1)

    def move(now: Tensor, old: Tensor, nothing: int) -> Tensor:
        moved = torch.where(is_pushed, old.gather(1, at), now.gather(1, origin))
        return torch.where(is_behind, moved.masked_fill(is_beyond, nothing), now)

    return Drawn(move(drawn.tokens, before.tokens, -1), move(drawn.log_p, before.log_p, 0))
