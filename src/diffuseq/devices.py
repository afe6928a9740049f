"""Where to compute: a device that this machine has, checked before anything is loaded onto it; and how finely."""

from __future__ import annotations

import torch

from diffuseq.errors import InputError


def usable_device(name: str | torch.device | None) -> torch.device:
    """The device of this name; a GPU where there is one for None.

    Raises `InputError` when there is no such device, or nothing can be computed on it.
    """
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type != "meta":
            torch.zeros(1, device=device).tolist()
            return device
    except (RuntimeError, TypeError, AssertionError, NotImplementedError, ImportError):
        pass
    raise InputError(f"There is no device {str(name)!r} to compute on here; give cpu, cuda, cuda:1 or mps.")


def finest_float(device: torch.device) -> torch.dtype:
    """Double precision, or single on a device that has no other (Apple's GPUs)."""
    return torch.float32 if device.type == "mps" else torch.float64
