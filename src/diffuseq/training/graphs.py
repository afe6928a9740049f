"""Forward and backward as CUDA graphs: recorded once for every shape of a batch, and replayed from then on.

A step of a small network is some thousand kernels of a few microseconds each, and starting them one by one from
Python takes several times as long as computing them (docs/log.md). A graph is started at once (NVIDIA, "CUDA C++
Programming Guide", CUDA Graphs). What is computed, and by which random numbers, is the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from diffuseq.data.batch import Batch
from diffuseq.system import System
from diffuseq.training.chance import seed_global

MULTIPLE = 8
"""Lengths are rounded up to a multiple of it: pairs as long as questions then come in half a dozen shapes."""
MOST_SHAPES = 64
"""Shapes that are recorded; batches of any further shape are computed kernel by kernel."""
WARM_UPS = 3
"""Passes before recording, in which kernels are chosen, and compiled where the system is."""


class Passed(NamedTuple):
    """What forward and backward of a chunk leave beside the gradients: its weight, its loss, what is logged."""

    weight: Tensor
    value: Tensor
    logs: dict[str, Tensor]


Passes = Callable[[Batch, torch.Generator], Passed]
"""Adds the gradient of a batch, times its weight, to those of the parameters; randomness from the generator and the
global one."""


@dataclass(frozen=True)
class Recording:
    graph: torch.cuda.CUDAGraph
    batch: Batch
    passed: Passed


class GraphedPasses:
    """`Passes` as recordings, by the shape of the batch. One process, one GPU, and a system that is `graphable`."""

    def __init__(self, passes: Passes, parameters: Sequence[nn.Parameter], device: torch.device) -> None:
        self.passes, self.parameters, self.device = passes, parameters, device
        self.generator = torch.Generator(device)
        self.pool = torch.cuda.graph_pool_handle()
        self.recordings: dict[tuple[torch.Size, torch.Size], Recording] = {}
        self.preparing = 0.0
        """Seconds that recording has taken, compiling included: no time of training, or a run by the clock
        would skip its warm-up."""
        for parameter in parameters:  # recorded kernels add to where the gradients are now
            parameter.grad = torch.zeros_like(parameter)

    def __call__(self, batch: Batch, seed: int) -> Passed:
        """As `Passes` does, with both generators seeded; the result is overwritten by the next call."""
        shape = batch.source.shape, batch.target.shape
        recording = self.recordings.get(shape)
        if recording is None and len(self.recordings) >= MOST_SHAPES:
            self._seed(seed)
            return self.passes(batch, self.generator)
        if recording is None:
            recording = self.recordings[shape] = self._record(batch)
        for place, tensor in zip(recording.batch.tensors(), batch.tensors(), strict=True):
            place.copy_(tensor)
        self._seed(seed)
        recording.graph.replay()
        return recording.passed

    def _seed(self, seed: int) -> None:
        seed_global(seed, self.device)
        self.generator.manual_seed(seed)

    def _record(self, batch: Batch) -> Recording:
        start = time.perf_counter()
        batch = batch.map(torch.clone)
        gradients = [parameter.grad.clone() for parameter in self.parameters if parameter.grad is not None]
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(WARM_UPS):
                self.passes(batch, self.generator)
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.generator)
        # other threads may go on meanwhile: one makes the next batch ready
        with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
            passed = self.passes(batch, self.generator)
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            assert parameter.grad is not None
            parameter.grad.copy_(gradient)  # less what the warm-ups added
        torch.cuda.synchronize()
        self.preparing += time.perf_counter() - start
        return Recording(graph, batch, passed)


def can_be_graphed(system: System, device: torch.device, num_processes: int) -> bool:
    """Whether `GraphedPasses` can take the place of the system's passes here."""
    return device.type == "cuda" and num_processes == 1 and system.graphable
