"""Which noise level every target position gets in training, and when: partial noising taken to its end.

The published method noises the whole target to one level. Here a share of the sequences has levels of
their own for every token: some tokens clean, the rest pure noise. Clean neighbours teach quickly, and a
sampler that settles confident tokens first meets just such inputs. Taken further still, a sequence passes
through all such states, one word after the other becoming clean: its *order*, and a network that sees in every
position only what settled before learns from all of them at once.

Legend: b rows, l target length.
"""

from __future__ import annotations

import torch
from torch import Tensor


def one_level(rows: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
    """Times [b 1] in 0…1, stratified: one draw in each of `rows` equal parts, in random order."""
    offset = torch.rand(rows, generator=generator, device=device)
    order = torch.randperm(rows, generator=generator, device=device)
    return ((order + offset) / rows)[:, None]


def mixed_levels(
    padding: Tensor, token_wise: float, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Times [b l] and which positions are noised [b l].

    A share `token_wise` of the rows keeps a random part of its tokens clean (time 0, not noised) and has
    pure noise (time 1) on the rest, at least one token; the other rows have one uniform time throughout.
    """
    rows, length = padding.shape
    device = padding.device
    time = one_level(rows, generator, device).expand(rows, length).clone()
    noised = ~padding
    split = torch.rand(rows, 1, generator=generator, device=device) < token_wise
    count = (~padding).sum(1, keepdim=True)
    # the number of noised tokens is uniform over 1 … count, which tokens is a random order
    order = torch.rand(rows, length, generator=generator, device=device)
    rank = order.masked_fill(padding, 2.0).argsort(1).argsort(1)
    share = torch.rand(rows, 1, generator=generator, device=device)
    chosen = rank < (share * count).floor() + 1
    time = torch.where(split, chosen.to(time.dtype), time)
    return time, noised & (chosen | ~split)


def settling_order(
    padding: Tensor, left_to_right: float, length_first: float, generator: torch.Generator | None
) -> Tensor:
    """Ranks [b l+1], when every position of targets [b l] and the end of each settles: 0, 1, ….

    The end of a target of n words, at position n, settles like a word. A share `left_to_right` of the rows
    settles from left to right, the end last; the others in random order. Of all of them a share `length_first`
    has the end before any word. What lies beyond is asked at some moment before the end has settled.
    """
    rows, length = padding.shape
    device = padding.device
    count = (~padding).sum(1, keepdim=True)
    place = torch.arange(length + 1, device=device)
    chance = torch.rand(rows, length + 1, generator=generator, device=device)
    in_reading_order, has_end_first = torch.rand(2, rows, 1, generator=generator, device=device)
    key = torch.where(in_reading_order < left_to_right, place / (length + 1), chance)
    key = key.masked_fill((place == count) & (has_end_first < length_first), -1.0)
    rank = key.masked_fill(place > count, 2.0).argsort(1).argsort(1).float()
    moment = (chance * (rank.gather(1, count) + 1)).floor()
    return torch.where(place > count, moment, rank)
