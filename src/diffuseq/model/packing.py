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
    """The numbers [n] of those places of rows [b m], counted through, that stand for something."""

    number: Tensor
    rows: int
    places: int

    @classmethod
    def of(cls, stands: Tensor) -> Packing:
        """Of those places that stand for something [b m]."""
        return cls(stands.flatten().nonzero()[:, 0], *stands.shape)

    @property
    def row(self) -> Tensor:
        """In which row each of the n is."""
        return torch.div(self.number, self.places, rounding_mode="floor")

    def pack(self, x: Tensor) -> Tensor:
        """[b m …] → [n …]"""
        return x.flatten(0, 1).index_select(0, self.number)

    def unpack(self, x: Tensor) -> Tensor:
        """[n …] → [b m …], zeros elsewhere."""
        room = x.new_zeros(self.rows * self.places, *x.shape[1:])
        return room.index_copy_(0, self.number, x).unflatten(0, (self.rows, self.places))

    def last(self, places: int) -> tuple[Packing, Tensor]:
        """The packing of so many of the last places of every row, and which of the n are in it."""
        place = self.number % self.places - (self.places - places)
        kept = (place >= 0).nonzero()[:, 0]
        return Packing((self.row * places + place)[kept], self.rows, places), kept
