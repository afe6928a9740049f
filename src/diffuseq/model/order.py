"""In which order the positions of a target settle, and so who sees whom.

Legend: b rows, l target length, m positions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Order(NamedTuple):
    """When what settles: rank [b l] of every position, infinity for not yet; seen [b l], the same for what can be
    seen there, infinity for nothing; length [b], the number of words, and end [b], the rank from which on it is
    known.

    A position sees what can be seen from a rank below its own.
    """

    rank: Tensor
    seen: Tensor
    length: Tensor
    end: Tensor

    @classmethod
    def of_targets(cls, rank: Tensor, length: Tensor) -> Order:
        """Of whole targets of so many words [b] with their ends, whose positions have these ranks [b l]; l exceeds
        every length. Nothing can be seen from the end on."""
        place = torch.arange(rank.shape[1], device=rank.device)
        seen = rank.masked_fill(place >= length[:, None], torch.inf)
        return cls(rank, seen, length, rank.gather(1, length[:, None])[:, 0])

    @classmethod
    def of_words(cls, rank: Tensor, length: Tensor, *, is_known: bool = True) -> Order:
        """Of words with these ranks [b l] alone: their numbers [b] are known before any of them, or to none."""
        return cls(rank, rank, length, torch.full_like(rank[:, 0], -torch.inf if is_known else torch.inf))

    def select(self, rows: Tensor) -> Order:
        """Some of the rows."""
        return Order(*(part[rows] for part in self))

    def before(self, places: Tensor) -> Tensor:
        """Which positions those at the places [b m] see before them: [b m l]."""
        own = self.rank.gather(1, places.clamp_max(self.rank.shape[1] - 1))
        return self.seen[:, None, :] < own[:, :, None]

    def seen_in_two_streams(self, places: Tensor, is_noise: Tensor) -> Tensor:
        """What those at the places [b m] see, clean words first and then noise: [b m 2l]. All see the clean words
        before them, and each itself, in its own stream; is_noise [m]."""
        itself, is_noise = is_at(places, self.rank.shape[1]), is_noise[:, None]
        return torch.cat((self.before(places) | (itself & ~is_noise), itself & is_noise), 2)


def places_of(chosen: Tensor) -> Tensor:
    """The chosen positions [b l] of every row as numbers [b m], ascending; a row with fewer has l for the rest."""
    length = chosen.shape[1]
    numbers = torch.arange(length, device=chosen.device)
    return torch.where(chosen, numbers, length).sort(1).values[:, : int(chosen.sum(1).max())]


def is_at(places: Tensor, length: int) -> Tensor:
    """Which of so many positions each of the places [b m] is: [b m l]; none, where it is beyond."""
    return places[..., None] == torch.arange(length, device=places.device)


def take(x: Tensor, places: Tensor) -> Tensor:
    """What stands at the places [b m] of x [b l w]; at places beyond something without meaning."""
    within = places.clamp_max(x.shape[1] - 1)[..., None]
    return x.gather(1, within.expand(-1, -1, x.shape[2]))
