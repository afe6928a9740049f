"""The metrics between two lines of the log: sums over micro-batches, steps and processes, read once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from diffuseq.training.loop import Training


@dataclass
class Window:
    """The metrics since the last line of the log."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    weight: float | Tensor = 0.0
    losses: float = 0.0
    norms: float = 0.0
    factor: float = 0.0
    steps: int = 0
    pairs: int = 0
    seconds: float = 0.0

    def watch(self, logs: dict[str, Tensor], weight: Tensor) -> None:
        """Add what the system said about one chunk."""
        weight = weight.detach()
        self.weight = self.weight + weight
        for name, value in logs.items():
            term = torch.as_tensor(value, device=weight.device).detach().float() * weight
            self.sums[name] = self.sums[name] + term if name in self.sums else term

    def add(self, loss: float, norm: float, factor: float, pairs: int, seconds: float) -> None:
        self.losses += loss
        self.norms += norm
        self.factor = factor
        self.steps += 1
        self.pairs += pairs
        self.seconds += seconds

    def close(self, training: Training) -> dict[str, float]:
        """The means over the window and over all processes; the window starts anew."""
        names = sorted(self.sums)
        weight = torch.as_tensor(self.weight, device=training.accelerator.device)
        sums = torch.stack([weight, *(self.sums[name] for name in names)])
        total, *values = training.accelerator.reduce(sums, "sum").tolist()
        progress = training.progress
        logs = {
            "step": progress.step,
            "loss": self.losses / self.steps,
            **{name: value / total for name, value in zip(names, values, strict=True) if name != "loss"},
            "gradient_norm": self.norms / self.steps,
            "learning_rate": training.optimizers[0].param_groups[0]["lr"],
            "pairs": progress.pairs,
            "pairs_per_second": self.pairs / max(self.seconds, 1e-9),
            "seconds": progress.seconds,
            "done": training.done,
        }
        self.__dict__.update(vars(Window()))
        return logs
