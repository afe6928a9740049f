"""Whether bf16 pays on this machine, asked of the hardware and then measured once; and computing in it, or in fp32
where the program around has another default."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

import torch
from torch import nn

from diffuseq.blocked import is_linear
from diffuseq.config import Precision

T = TypeVar("T")

TRAINING_WIDTH, GENERATION_WIDTH = 256, 384
"""Below these widths a CPU spends more on converting than it saves on multiplying: whole batches are multiplied in
training, and few rows in generation."""


def width_of(network: nn.Module) -> int:
    """How wide its widest matrix is at its narrow side."""
    return max((min(p.shape) for p in network.parameters() if p.ndim == 2), default=0)


def use_bf16(
    precision: Precision, device: torch.device, width: int, wide_enough: int = TRAINING_WIDTH
) -> bool:
    """Decide at the start of a run; its checkpoints keep the answer of "auto", so that a resumed run agrees."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or width < wide_enough or not _cpu_has_bf16():
        return False
    return _pays(width)


def round_matrices(network: nn.Module) -> None:
    """The weights of linear layers to bf16, in place, so that autocast need not convert them in every call."""
    for module in network.modules():
        if is_linear(module):
            module.to(torch.bfloat16)


def in_bf16(device: torch.device, items: Iterator[T]) -> Iterator[T]:
    """The items, each of them computed under autocast; whoever takes them is not under it in between."""
    return each_within(lambda: torch.autocast(device.type, torch.bfloat16), items)


@contextmanager
def fp32_by_default() -> Iterator[None]:
    """Networks are made and computed in fp32, whatever `torch.set_default_dtype` the program around has."""
    theirs = torch.get_default_dtype()
    if theirs == torch.float32:
        yield
        return
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(theirs)


def each_within(context: Callable[[], AbstractContextManager[object]], items: Iterator[T]) -> Iterator[T]:
    """The items, each of them computed within a context; whoever takes them is not in it in between."""
    while True:
        with context():
            try:
                item = next(items)
            except StopIteration:
                return
        yield item


def _cpu_has_bf16() -> bool:
    if torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "AVX2"):
        return False
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


_KINDS = (torch.bfloat16, torch.float32)


def _pays(width: int) -> bool:
    """Whether a product of the size that a layer has takes clearly less processor time; wall time would make the
    answer depend on what else the machine is doing."""
    factors = {d: (torch.ones(2048, width, dtype=d), torch.ones(width, width, dtype=d)) for d in _KINDS}
    best = dict.fromkeys(_KINDS, float("inf"))
    for _ in range(5):
        for dtype, (rows, weight) in factors.items():
            start = time.process_time()
            rows @ weight
            best[dtype] = min(best[dtype], time.process_time() - start)
    return best[torch.bfloat16] < 0.8 * best[torch.float32]
