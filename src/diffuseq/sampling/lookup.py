"""How a text may go on, looked up in one that it has much in common with.

An answer that repeats its source repeats it in pieces. Once its last words are words of the source, what follows
them there is the best guess of what follows here (Yang et al., 2023, "Inference with Reference: Lossless
Acceleration of Large Language Models"; Saxena, 2023, "Prompt Lookup Decoding").

Legend: n rows, l positions, s words of what is looked up in.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_MOST = 4
"""So many words before are compared; the place that has most of them in common is taken."""


def looked_up(tokens: Tensor, last: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """What follows in known [n s] on the last words of a text, in the text's places, and whether any does [n].

    tokens [n l]: the text; it goes up to the place `last` [n], −1 where there is none yet. known: ids, −1 where
    there is no word. The words [n l] begin at the place behind, and are −1 elsewhere. Of places that have equally
    many words in common the first is taken.
    """
    in_common = torch.zeros_like(known)
    is_same = F.pad(known, (-1, 1), value=-1) >= 0  # something follows
    for back in range(min(_MOST, known.shape[1])):
        at = last[:, None] - back
        word = tokens.gather(1, at.clamp(0, tokens.shape[1] - 1))
        is_same = is_same & (at >= 0) & (F.pad(known, (back, -back), value=-1) == word)
        in_common += is_same
    most, found = in_common.max(1, keepdim=True)
    place = torch.arange(tokens.shape[1], device=tokens.device)
    origin = place - last[:, None] + found
    follows = known.gather(1, origin.clamp(0, known.shape[1] - 1))
    is_there = (most > 0) & (place > last[:, None]) & (origin < known.shape[1])
    return follows.masked_fill(~is_there, -1), most[:, 0] > 0
