"""Forward and backward as CUDA graphs: recorded once for every shape of a batch, and replayed from then on.

A step of a small network is some thousand kernels of a few microseconds each, and starting them one by one from
Python takes several times as long as computing them (docs/log.md). A graph is started at once (NVIDIA, "CUDA C++
Programming Guide", CUDA Graphs). What is computed, and by which random numbers, is the same.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import torch
from accelerate.utils import DistributedType
from torch import Tensor, nn

from diffuseq.data.batch import Batch
from diffuseq.system import System
from diffuseq.training.chance import seed_apart

MULTIPLE = 8
"""Lengths are rounded up to a multiple of it: pairs as long as questions then come in half a dozen shapes."""
MOST_SHAPES = 64
"""Shapes that are recorded; batches of any further shape are computed kernel by kernel."""
WARM_UPS = 3
"""Passes before recording, in which kernels are tried and chosen, and compiled where the system is."""


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
    """`Passes` as recordings, by the shape of the batch. One process, one GPU, and a system that is `graphable`.

    Where memory ends while one is made, all is computed kernel by kernel from then on, and `warn` is told.
    """

    def __init__(
        self,
        passes: Passes,
        parameters: Sequence[nn.Parameter],
        device: torch.device,
        warn: Callable[[str], None] = warnings.warn,
    ) -> None:
        self.passes, self.parameters, self.device, self.warn = passes, parameters, device, warn
        self.most_shapes = MOST_SHAPES
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
        recording = self._recording(batch)
        if recording is None:
            self._seed(seed)
            return self.passes(batch, self.generator)
        for place, tensor in zip(recording.batch.tensors(), batch.tensors(), strict=True):
            place.copy_(tensor)
        self._seed(seed)
        recording.graph.replay()
        return recording.passed

    def _seed(self, seed: int) -> None:
        seed_apart(seed, self.device, self.generator)

    def _recording(self, batch: Batch) -> Recording | None:
        """That of the batch's shape, made now where it is the first of it; None where there is no room for one."""
        shape = batch.source.shape, batch.target.shape
        if shape in self.recordings or len(self.recordings) >= self.most_shapes:
            return self.recordings.get(shape)
        with suppress(torch.OutOfMemoryError):
            self.recordings[shape] = self._record(batch)
            return self.recordings[shape]
        self._give_up()  # out here, for the error would hold on to what did not fit
        return None

    def _give_up(self) -> None:
        """All recordings go: they share their memory, which comes back only with the last of them and is needed now
        to compute without."""
        self.most_shapes = 0
        self.recordings.clear()
        torch.cuda.empty_cache()
        self.warn(
            "The GPU's memory has no room for CUDA graphs of this training: it goes on without them, which is "
            "slower. A smaller training.batch_size or a larger training.accumulate makes room."
        )

    def _record(self, batch: Batch) -> Recording:
        """A recording for the shape of the batch. The gradients are then what they were, also where memory ends
        (`torch.OutOfMemoryError`)."""
        start = time.perf_counter()
        gradients = [parameter.grad.clone() for parameter in self.parameters if parameter.grad is not None]
        try:
            # Teachers' labels are a place too, the largest, for every shape: what does not fit is not recorded
            return self._warm_up_and_record(batch.map(torch.clone))
        finally:
            torch.cuda.synchronize()  # the passes were not on this stream
            for parameter, gradient in zip(self.parameters, gradients, strict=True):
                assert parameter.grad is not None
                parameter.grad.copy_(gradient)
            self.preparing += time.perf_counter() - start

    def _warm_up_and_record(self, batch: Batch) -> Recording:
        """Adds to the gradients."""
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
        return Recording(graph, batch, passed)


def can_be_graphed(system: System, device: torch.device, distributed: DistributedType) -> bool:
    """Whether `GraphedPasses` can take the place of the system's passes here. A launcher's single process is
    wrapped as several are (DDP, FSDP), and what is done around the passes then is not to be recorded."""
    return device.type == "cuda" and distributed == DistributedType.NO and system.graphable
