"""Whether bf16 autocast pays on this machine: asked of the hardware, then measured once."""

from __future__ import annotations

import time
from typing import Literal

import torch

WIDE_ENOUGH = 384
"""Below this width a CPU spends more on converting than it saves on multiplying."""


def use_bf16(precision: Literal["auto", "fp32", "bf16"], device: torch.device, width: int) -> bool:
    """Decide at the start of a run; its checkpoints keep the answer, so that a resumed run agrees."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or width < WIDE_ENOUGH or not _cpu_has_bf16():
        return False
    return _seconds(torch.bfloat16, width) < 0.8 * _seconds(torch.float32, width)


def _cpu_has_bf16() -> bool:
    if torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "AVX2"):
        return False
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _seconds(dtype: torch.dtype, width: int) -> float:
    """The best of a few matrix products of the size that a layer has."""
    weight = torch.ones(width, width, dtype=dtype)
    rows = torch.ones(2048, width, dtype=dtype)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        rows @ weight
        best = min(best, time.perf_counter() - start)
    return best
