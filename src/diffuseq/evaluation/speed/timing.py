"""Seconds of actions that take turns, so that a machine that slows down slows all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

import torch

Action = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """The seconds of every repeat of one action."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.seconds)

    @property
    def best(self) -> float:
        return min(self.seconds)


def time_in_turn(actions: Mapping[str, Action], repeats: int, device: torch.device) -> dict[str, Timing]:
    """Every action once to warm up, then `repeats` rounds in which each has its turn."""
    for action in actions.values():
        action()
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(repeats):
        for name, action in actions.items():
            seconds[name].append(_seconds(action, device))
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def time_of(action: Action, repeats: int, device: torch.device) -> Timing:
    """One action alone, warmed up."""
    return time_in_turn({"": action}, repeats, device)[""]


def _seconds(action: Action, device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    action()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    """Until the device has done all that it was given; a CPU always has."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
