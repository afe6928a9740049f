"""The machine that the numbers belong to."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path
from typing import Any

import torch

from diffuseq.precision import use_bf16

_WIDE = 768


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Its processor, the threads and the device in use, and the libraries, as JSON values."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "vector_instructions": torch.backends.cpu.get_cpu_capability(),
        "bf16_in_hardware": has_fast_bf16(device),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.system(),
    }


@cache
def has_fast_bf16(device: torch.device) -> bool:
    """Whether wide networks gain by bf16 here; measured once, so that all that is told of it agrees."""
    return use_bf16("auto", device, _WIDE)


def machine_line(machine: dict[str, Any]) -> str:
    """The same as one sentence."""
    precision = "bf16 in hardware" if machine["bf16_in_hardware"] else "no fast bf16"
    return (
        f"{machine['processor']}, {machine['threads']} of {machine['cores']} cores "
        f"({machine['vector_instructions']}), device {machine['device']}, {precision}, "
        f"torch {machine['torch']}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
