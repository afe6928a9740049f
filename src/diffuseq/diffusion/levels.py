"""Which noise level every target position gets in training, and when: partial noising taken to its end.

The published method noises the whole target to one level. Here a share of the sequences has levels of
their own for every token: some tokens clean, the rest pure noise. Clean neighbours teach quickly, and a
sampler that settles confident tokens first meets just such inputs. Taken further still, a sequence passes
through all such states, one word after the other becoming clean: its *order*, and a network that sees in every
position only what settled before learns from all of them at once.

Legend: b rows, l target length.
"""

from __future__ import annotations

import math

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


GROUP = (4, 32)
"""Smallest and largest size of a group of words that settle together."""


def settling_order(
    padding: Tensor,
    left_to_right: float,
    length_first: float,
    generator: torch.Generator | None,
    look_ahead: float = 0.0,
) -> Tensor:
    """Ranks [b l+1], when every position of targets [b l] and the end of each settles: 0, 1, ….

    The end of a target of n words, at position n, settles like a word. A share `left_to_right` of the rows
    settles from left to right, the end last; the others in random order. Of all of them a share `length_first`
    has the end before any word, and of those from left to right with the end last a share `look_ahead` settles in
    groups (`grouped`). What lies beyond is asked at some moment before the end has settled.
    """
    rows, length = padding.shape
    device = padding.device
    count = (~padding).sum(1, keepdim=True)
    place = torch.arange(length + 1, device=device)
    chance = torch.rand(rows, length + 1, generator=generator, device=device)
    in_reading_order, has_end_first = torch.rand(2, rows, 1, generator=generator, device=device)
    is_in_order, is_end_first = in_reading_order < left_to_right, has_end_first < length_first
    key = torch.where(is_in_order, place / (length + 1), chance)
    key = key.masked_fill((place == count) & is_end_first, -1.0)
    rank = key.masked_fill(place > count, 2.0).argsort(1).argsort(1).float()
    if look_ahead:
        chosen = torch.rand(rows, 1, generator=generator, device=device) < look_ahead
        rank = torch.where(chosen & is_in_order & ~is_end_first, grouped(rank, generator), rank)
    moment = (chance * (rank.gather(1, count) + 1)).floor()
    return torch.where(place > count, moment, rank)


def grouped(rank: Tensor, generator: torch.Generator | None) -> Tensor:
    """Ranks [b l] of which so many that follow one another become the same, as many in every group of a row: who
    settles together does not see each other, so that all but the first of a group learn to look ahead (Stern et
    al., 2018, "Blockwise Parallel Decoding"; Gloeckle et al., 2024, "Better & Faster Large Language Models via
    Multi-token Prediction"). Sizes are log-uniform within `GROUP`; three of ten rows begin with a whole group,
    the others in the middle of one.
    """
    size, begin, whole = torch.rand(3, len(rank), 1, generator=generator, device=rank.device)
    least, most = math.log(GROUP[0]), math.log(GROUP[1] + 1)
    size = (least + size * (most - least)).exp().floor().clamp_max(GROUP[1])
    begin = (begin * size).floor().masked_fill(whole < 0.3, 0.0)
    return ((rank + begin) / size).floor()
