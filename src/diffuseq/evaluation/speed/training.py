"""Pairs a second of training: ours against the published system."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from diffuseq.config import Config
from diffuseq.data.batch import Batch
from diffuseq.evaluation.speed.sizes import Size
from diffuseq.evaluation.speed.table import Table, rounded, times
from diffuseq.evaluation.speed.timing import Timing, time_in_turn
from diffuseq.evaluation.speed.workload import training_batches
from diffuseq.registry import build
from diffuseq.system import SpecialTokens
from diffuseq.training.loop import Training, prepare


class Trainee:
    """A system in training, with the two halves of a step apart: the passes, and the update."""

    def __init__(
        self, config: Config, special: SpecialTokens, batches: Sequence[Batch], device: torch.device
    ) -> None:
        torch.manual_seed(0)
        self.config, self.device = config, device
        self.training: Training = prepare(build(config.system, special), config.training)
        self.training.model.train()
        self.batches = [batch.to(device) for batch in batches]
        self.generator = torch.Generator(device).manual_seed(0)

    @property
    def pairs(self) -> int:
        """Pairs in one round of passes."""
        return sum(map(len, self.batches))

    def passes(self) -> None:
        """Forward and backward of every batch, as they are trained on."""
        if self.training.graphed is None:
            self.plain_passes()
            return
        for batch in self.batches:
            self.training.graphed(batch, seed=0)

    def plain_passes(self) -> None:
        """The same, operation by operation, for who counts them."""
        for batch in self.batches:
            self.training.passes(batch, self.generator)

    def update(self) -> None:
        """Clip, optimiser step, average: what comes once in `training.batch_size` pairs."""
        clip = self.config.training.clip
        parameters = list(self.training.system.parameters())
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(parameters, clip)
        for optimizer in self.training.optimizers:
            optimizer.step()
        self.training.average.update(1000)
        for optimizer in self.training.optimizers:
            optimizer.zero_grad(set_to_none=False)  # recorded passes add to where the gradients are


@dataclass(frozen=True)
class TrainingTime:
    """Seconds a pair: in forward and backward, and in its share of the update."""

    passes: float
    update: float

    @property
    def total(self) -> float:
        return self.passes + self.update


def training_times(trainees: dict[str, Trainee], repeats: int) -> dict[str, TrainingTime]:
    """Seconds a pair of every trainee, measured in turn."""
    device = next(iter(trainees.values())).device
    passes = time_in_turn({name: t.passes for name, t in trainees.items()}, repeats, device)
    updates = time_in_turn({name: t.update for name, t in trainees.items()}, min(repeats, 3), device)
    return {name: _per_pair(t, passes[name], updates[name]) for name, t in trainees.items()}


def our_trainee(size: Size, device: torch.device) -> Trainee:
    """Our recipe on QQP-like pairs: a few at a time on a CPU, all of a step on a GPU."""
    rows = size.training_rows if device.type == "cpu" else size.ours.training.batch_size
    return Trainee(size.ours, size.special, training_batches(rows, size.special), device)


def measure(size: Size, device: torch.device) -> Table:
    """Ours as its recipe says; the published as published."""
    published = training_batches(size.published_training_rows, size.published_special, count=1)
    trainees = {
        "published": Trainee(size.published, size.published_special, published, device),
        "ours": our_trainee(size, device),
    }
    measured = training_times(trainees, size.repeats)
    slowest = measured["published"].total
    rows, numbers = [], {}
    for name, found in measured.items():
        rows.append(
            (
                name,
                rounded(1 / found.total),
                f"{found.update / found.total:.0%}",
                times(slowest / found.total),
            )
        )
        numbers[f"{name}: pairs a second"] = 1 / found.total
        numbers[f"{name}: times the published"] = slowest / found.total
    ours, theirs = size.ours, size.published
    return Table(
        "Training",
        ("system", "pairs/s", "of it the update", "against published"),
        tuple(rows),
        numbers,
        (
            f"Forward, backward and update, on pairs as long as QQP's. Ours: {ours.system.encoder_layers} + "
            f"{ours.system.decoder_layers} layers of {ours.system.width}, {size.words[0]:,} words, batches "
            f"sorted by length, draws of noise a pair: {ours.system.draws}, {_precision(trainees['ours'])}. "
            f"Published: {theirs.system.layers} layers of {theirs.system.width}, {size.words[1]:,} words, "
            f"{theirs.system.sequence_length} positions, all of them in the loss, fp32.",
            f"The update comes once in {ours.training.batch_size:,} pairs ({ours.training.optimizer}) and "
            f"once in {theirs.training.batch_size:,} ({theirs.training.optimizer}), as the recipes say; it "
            "is measured by itself and shared out. Medians of repeats in turn.",
        ),
    )


def _per_pair(trainee: Trainee, passes: Timing, update: Timing) -> TrainingTime:
    return TrainingTime(passes.median / trainee.pairs, update.median / trainee.config.training.batch_size)


def _precision(trainee: Trainee) -> str:
    return "bf16" if trainee.training.bf16 else "fp32"
