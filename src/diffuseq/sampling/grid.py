"""Grids of noise levels: where on the way from noise to text the network is called.

A grid of n calls has n + 1 levels, from the noisiest to the cleanest. The network is called at the first n
of them; the last is where the final update arrives: clean data (alpha 1, sigma 0) or, with end="lowest", the
lowest noise level of the schedule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from diffuseq.diffusion.schedule import DiscreteSchedule, Schedule
from diffuseq.errors import InputError, unknown_name

End = Literal["clean", "lowest"]


class Level(NamedTuple):
    """One noise level: its time in the grid's units, alpha and sigma."""

    time: float
    alpha: float
    sigma: float


@dataclass(frozen=True, eq=False)
class Grid:
    """n calls, n + 1 levels: time, alpha and sigma are float64 [n+1].

    time is the schedule's u in [0, 1], except in `published_steps`, where it is the chain's index t (and −1
    at the clean end).
    """

    time: Tensor
    alpha: Tensor
    sigma: Tensor

    def __len__(self) -> int:
        """Number of network calls."""
        return len(self.time) - 1

    def levels(self) -> list[Level]:
        """The n + 1 levels as plain numbers, which keep float64 while the states are float32."""
        return [
            Level(*level)
            for level in zip(*(v.tolist() for v in (self.time, self.alpha, self.sigma)), strict=True)
        ]


def uniform_time(schedule: Schedule, calls: int, end: End = "clean") -> Grid:
    """Levels evenly spaced in time, from 1 to the schedule's lowest time."""
    return _at_times(schedule, torch.linspace(1, schedule.lowest_time, calls + 1, dtype=torch.float64), end)


def uniform_log_snr(schedule: Schedule, calls: int, end: End = "clean") -> Grid:
    """Levels evenly spaced in log-SNR (Lu et al., 2022, "DPM-Solver")."""
    first, last = (float(schedule.log_snr(u)) for u in (1.0, schedule.lowest_time))
    return _at_times(
        schedule, schedule.time(torch.linspace(first, last, calls + 1, dtype=torch.float64)), end
    )


def trailing(schedule: Schedule, calls: int, end: End = "clean") -> Grid:
    """Calls at u = 1, 1 − 1/n, …, 1/n (Lin et al., 2024, "Common Diffusion Noise Schedules and Sample Steps
    are Flawed", section 3.3); on a chain of T steps each is moved to the chain's nearest index, so that the
    network sees only levels it was trained on. Differs from `uniform_time` on chains only.
    """
    if isinstance(schedule, DiscreteSchedule):
        grid = published_steps(schedule, calls, end)
        return Grid(schedule.time_of_index(grid.time), grid.alpha, grid.sigma)
    times = torch.arange(calls, 0, -1, dtype=torch.float64) / calls
    return _at_times(schedule, torch.cat([times, times.new_tensor([schedule.lowest_time])]), end)


def published_steps(schedule: DiscreteSchedule, calls: int | None = None, end: End = "clean") -> Grid:
    """The chain's own levels, with the index t as time: all T of them, or `calls` spread evenly.

    The released DDIM walks t → t − 1 and then jumps to t − gap, which leaves noise behind; here every level
    has its own ᾱ, so any number of calls is right.
    """
    calls = len(schedule) - (end == "lowest") if calls is None else calls
    _check_calls(calls, len(schedule), len(schedule) - (end == "lowest"))
    if end == "clean":
        indices = torch.cat([_spread_indices(len(schedule), calls), torch.tensor([-1.0]).double()])
    else:
        indices = torch.linspace(len(schedule) - 1, 0, calls + 1, dtype=torch.float64).round()
    alpha_bar = torch.cat([schedule.alpha_bar, schedule.alpha_bar.new_ones(1)])[indices.long()]
    return Grid(indices, alpha_bar.sqrt(), (1 - alpha_bar).sqrt())


GRIDS: dict[str, Callable[..., Grid]] = {
    "uniform-time": uniform_time,
    "uniform-log-snr": uniform_log_snr,
    "trailing": trailing,
    "published-steps": published_steps,
}


def make_grid(name: str, schedule: Schedule, calls: int, end: End = "clean") -> Grid:
    """A grid by name: uniform-time, uniform-log-snr, trailing or published-steps.

    Raises `InputError` for an unknown name, fewer than one call, more calls than the chain has steps, or
    published-steps on a schedule that is no chain.
    """
    if name not in GRIDS:
        raise unknown_name("grid", name, GRIDS)
    if calls < 1:
        raise InputError(f"steps is {calls}; generation needs at least 1 network call.")
    if name == "published-steps" and not isinstance(schedule, DiscreteSchedule):
        raise InputError("The grid 'published-steps' is for published systems; choose uniform-time here.")
    return GRIDS[name](schedule, calls, end)


def _at_times(schedule: Schedule, times: Tensor, end: End) -> Grid:
    alpha, sigma = schedule.alpha(times), schedule.sigma(times)
    if end == "clean":
        times, alpha, sigma = times.clone(), alpha.clone(), sigma.clone()
        times[-1], alpha[-1], sigma[-1] = 0.0, 1.0, 0.0
    return Grid(times, alpha, sigma)


def _spread_indices(num_steps: int, calls: int) -> Tensor:
    """`calls` indices of a chain, evenly spread, from the last (T − 1) down to about T/calls − 1; float64."""
    return (torch.arange(calls, 0, -1, dtype=torch.float64) * num_steps / calls).round() - 1


def _check_calls(calls: int, num_steps: int, most: int) -> None:
    if not 1 <= calls <= most:
        end = "" if most == num_steps else " down to its lowest level"
        raise InputError(
            f"steps is {calls}; a chain of {num_steps} steps allows 1 to {most} network calls{end}."
        )
