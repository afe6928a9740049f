"""Which times a network is trained on: uniform, or more often where its loss is large.

A time sampler draws indices t of the chain, long [b], and the weights [b] that keep the expected loss that
of uniform times.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from torch import Tensor

from diffuseq.devices import finest_float
from diffuseq.errors import InputError

Gather = Callable[[Tensor], Tensor]
"""A tensor [b] of this process → the ones of all processes, concatenated in the same order everywhere."""


def from_all_processes(values: Tensor) -> Tensor:
    """The `Gather` of torch.distributed; without it the values [b] themselves. The counts b may differ."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return values
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, values.cpu())
    return torch.cat(parts)


class TimeSampler(Protocol):
    """Draws training times and may learn from the losses that they gave."""

    def sample(self, count: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Times, long [count], and weights, float32 [count], on the generator's device (the CPU without)."""
        ...

    def update(self, times: Tensor, losses: Tensor) -> None:
        """Tell the unweighted losses [b] at times [b]."""
        ...

    def state(self) -> dict[str, Any]:
        """Plain values, for resuming."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        ...


class UniformTimes:
    """Every time is equally likely; all weights are 1."""

    def __init__(self, num_times: int) -> None:
        self.num_times = num_times

    def sample(self, count: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        device = generator.device if generator is not None else "cpu"
        times = torch.randint(self.num_times, (count,), generator=generator, device=device)
        return times, torch.ones(count, device=device)

    def update(self, times: Tensor, losses: Tensor) -> None:
        """Nothing is learned from losses."""

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """There is no state."""


class LossSecondMoment:
    """p_t ∝ √E[L_t²] over the last losses of each time (Nichol & Dhariwal, 2021, Eq. 18).

    Uniform until every time has `history` losses; a share `mixing` of the probability stays uniform for
    good. `gather` shares the losses of all processes, so that they keep one history.
    """

    def __init__(
        self, num_times: int, history: int = 10, mixing: float = 0.001, gather: Gather | None = None
    ) -> None:
        self.num_times, self.mixing, self.gather = num_times, mixing, gather
        self._history: list[deque[float]] = [deque(maxlen=history) for _ in range(num_times)]
        # of the history, nan where it is not full; kept, for it is asked for in every micro-batch
        self._root_mean_square = torch.full((num_times,), math.nan, dtype=torch.float64)

    def probabilities(self) -> Tensor:
        """p_t, float64 [T]."""
        total = self._root_mean_square.sum()
        if total.isnan() or total == 0:  # no time has any loss left, so none is worth more than another
            return torch.full((self.num_times,), 1 / self.num_times, dtype=torch.float64)
        return (1 - self.mixing) * self._root_mean_square / total + self.mixing / self.num_times

    def sample(self, count: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        device = generator.device if generator is not None else torch.device("cpu")
        p = self.probabilities().to(device, finest_float(device))
        times = torch.multinomial(p, count, replacement=True, generator=generator)
        return times, (1 / (self.num_times * p[times])).float()

    def update(self, times: Tensor, losses: Tensor) -> None:
        """Remember the losses; one that is not finite is left out, for it would poison all weights."""
        if self.gather is not None:
            times, losses = self.gather(times), self.gather(losses)
        finite = losses.isfinite()
        for time, loss in zip(times[finite].tolist(), losses[finite].tolist(), strict=True):
            self._history[time].append(loss)
        self._look_at(times[finite].unique().tolist())

    def _look_at(self, times: Iterable[int]) -> None:
        """Take in the history of these times as it is now."""
        for time in times:
            losses = self._history[time]
            if len(losses) == losses.maxlen:
                self._root_mean_square[time] = math.sqrt(sum(loss * loss for loss in losses) / len(losses))

    def state(self) -> dict[str, Any]:
        return {"history": [list(losses) for losses in self._history]}

    def load_state(self, state: dict[str, Any]) -> None:
        """Raises `InputError` when the state is of another number of times."""
        history = state["history"]
        if len(history) != self.num_times:
            raise InputError(
                f"The saved loss history has {len(history)} times, but diffusion_steps is {self.num_times}; "
                "resume with the settings that the run was started with."
            )
        for kept, losses in zip(self._history, history, strict=True):
            kept.clear()
            kept.extend(losses)
        self._root_mean_square.fill_(math.nan)
        self._look_at(range(self.num_times))
