"""Averaged weights: an exponential moving average of the parameters, which is the model that is kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


class AveragedWeights:
    """average ← d·average + (1 − d)·weights after every step, with d = min(decay, (1 + step) / (10 + step)).

    The warm-up of d lets the first, useless weights fade at once (Polyak & Juditsky 1992 for the average).
    decay = 0 turns averaging off: the average is then the weights themselves and costs nothing.
    """

    def __init__(self, parameters: Sequence[Tensor], decay: float) -> None:
        self.parameters = list(parameters)
        self.decay = decay
        self.values = [p.detach().clone() for p in self.parameters] if decay else []

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after `step` optimiser steps (1 for the first)."""
        if self.values:
            torch._foreach_lerp_(self.values, self.parameters, 1 - self.rate(step))

    def rate(self, step: int) -> float:
        return min(self.decay, (1 + step) / (10 + step))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within the block the system carries the averaged weights; afterwards its own, bit for bit."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def take(self) -> None:
        """Give the system the averaged weights for good."""
        for value, parameter in zip(self.values, self.parameters, strict=False):
            parameter.copy_(value)

    @torch.no_grad()
    def _swap(self) -> None:
        for value, parameter in zip(self.values, self.parameters, strict=False):
            keep = parameter.detach().clone()
            parameter.copy_(value)
            value.copy_(keep)
