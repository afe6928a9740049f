"""Seeds of a training, and the generators that they are for."""

from __future__ import annotations

from hashlib import blake2b

import torch


def mix(*numbers: int) -> int:
    """One well-spread seed from several numbers."""
    text = " ".join(map(str, numbers)).encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big") >> 1


def seed_apart(seed: int, device: torch.device, generator: torch.Generator) -> None:
    """Seed a generator that is passed on, and those of `seed_global` by another seed: of the same one they would
    give the same numbers, and what dropout leaves out would go by the noise."""
    generator.manual_seed(seed)
    seed_global(mix(seed, 1), device)


def seed_global(seed: int, device: torch.device) -> None:
    """Seed the generators that nobody passes on, of the CPU and of this device.

    `torch.manual_seed` seeds those of every kind of device there could be, which takes a millisecond: a tenth of a
    step of a small network on a GPU.
    """
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.default_generators[index].manual_seed(seed)
    elif device.type != "cpu":
        torch.manual_seed(seed)
    torch.default_generator.manual_seed(seed)
