"""What a training is fed: the pairs of every step, and each process's share of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from diffuseq.data.batch import Batch
from diffuseq.errors import InputError
from diffuseq.training.chance import mix

if TYPE_CHECKING:
    from diffuseq.training.loop import Training


class Data(Protocol):
    """What the loop trains on: pure functions, for resuming and for sharding without overlap."""

    def rows(self, step: int) -> Sequence[int]:
        """The pairs of an optimiser step over all processes, as row numbers; the same on every process."""
        ...

    def collate(self, rows: Sequence[int]) -> Batch:
        """These rows as one batch."""
        ...

    def pairs(self, rows: Sequence[int]) -> Sequence[int]:
        """The places of these rows' pairs in the data: a row may be a pair turned round."""
        ...


@dataclass(frozen=True)
class Stream:
    """`Data` from a function of the step that gives the step's whole batch: for benchmarks and tests."""

    batch: Callable[[int], Batch]
    size: int

    def rows(self, step: int) -> Sequence[int]:
        return range(step * self.size, (step + 1) * self.size)

    def collate(self, rows: Sequence[int]) -> Batch:
        everything = self.batch(rows[0] // self.size)
        chosen = torch.tensor([row % self.size for row in rows])
        return everything.map(lambda tensor: tensor[chosen])

    def pairs(self, rows: Sequence[int]) -> Sequence[int]:
        return rows


def check_split(pairs: int, chunks: int) -> None:
    """Raise `InputError` for a step of fewer pairs than micro-batches."""
    if pairs < chunks:
        raise InputError(
            f"A step has {pairs} pairs for {chunks} micro-batches (processes × accumulate); "
            "give a larger training.batch_size or less to split it into."
        )


@dataclass
class Loaded:
    """This process's share of a step: its chunks as (seed, batch, rows of the data), and how many pairs all
    processes have."""

    chunks: list[tuple[int, Batch, Sequence[int]]]
    pairs: int
    data: Data


def load_all(training: Training, data: Data) -> Iterator[Loaded]:
    """The steps from the current one on; beside a GPU the next is made ready while this one is computed."""
    step = training.progress.step
    if training.accelerator.device.type == "cpu":
        while True:
            yield _load(training, data, step)
            step += 1
    with ThreadPoolExecutor(1, "collate") as worker:
        ahead = worker.submit(_load, training, data, step)
        while True:
            loaded, step = ahead.result(), step + 1
            ahead = worker.submit(_load, training, data, step)
            yield loaded


def _load(training: Training, data: Data, step: int) -> Loaded:
    accumulate, rank = training.settings.accumulate, training.accelerator.process_index
    rows = data.rows(step)
    check_split(len(rows), training.chunks)
    mine = range(rank * accumulate, (rank + 1) * accumulate)
    chunks = [(i, rows[i :: training.chunks]) for i in mine]  # strided: rows of one length spread evenly
    seed = training.settings.seed
    shares = [(mix(seed, step, i), data.collate(chunk), chunk) for i, chunk in chunks]
    return Loaded(shares, len(rows), data)
