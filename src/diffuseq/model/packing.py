"""Rows of unequal numbers of places, without those that only fill them up.

Places of rows are computed together as [b m …], m those of the row that has most. While texts come to rest one
after the other, less than half of them stand for something (docs/log.md), and all that is computed of every place
by itself, which is nearly all that a network does but attention, can leave out the rest.

Legend: b rows, m places of each, n of all these that stand for something.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Packing(NamedTuple):
    """Which places of rows [b m] stand for something: the row and the place of each [n]. kept: which of those of a
    larger packing these are (`last`); None for the whole."""

    row: Tensor
    place: Tensor
    size: tuple[int, int]
    kept: Tensor | None = None

    @classmethod
    def of(cls, stands: Tensor) -> Packing:
        """Of those places that stand for something [b m]."""
        row, place = stands.nonzero(as_tuple=True)
        return cls(row, place, (stands.shape[0], stands.shape[1]))

    def pack(self, x: Tensor) -> Tensor:
        """[b m …] → [n …]"""
        return x[self.row, self.place]

    def unpack(self, x: Tensor) -> Tensor:
        """[n …] → [b m …], zeros elsewhere."""
        return x.new_zeros(*self.size, *x.shape[1:]).index_put_((self.row, self.place), x)

    def last(self, places: int) -> Packing:
        """Of so many of the last places of every row."""
        place = self.place - (self.size[1] - places)
        kept = (place >= 0).nonzero()[:, 0]
        return Packing(self.row[kept], place[kept], (self.size[0], places), kept)


def rows_to_keep(is_moving: Tensor) -> Tensor | None:
    """Numbers of the rows in which something still moves [n], once they are half of them or fewer, so that copying
    what is known of them pays; None until then."""
    moving = is_moving.nonzero().squeeze(1)
    return moving if 2 * len(moving) <= len(is_moving) else None


def slots_of(places: Tensor, packing: Packing | None) -> tuple[Tensor, Tensor]:
    """Rows and places that go together, of places [b m]: packed [n], or such as can be spread [b 1] and [b m]."""
    if packing is not None:
        return packing.row, packing.pack(places)
    # by its shape, for a length would be a number for good in what is exported
    return torch.arange(places.shape[0], device=places.device)[:, None], places
