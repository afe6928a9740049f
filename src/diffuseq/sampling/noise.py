"""Sources of noise: a callable that gives standard normal noise for a tensor.

Legend: b sources, k candidates of each, n = b·k rows, l target length, d embedding width.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import torch
from torch import Tensor

from diffuseq.sampling.step import Noise


class RowNoise:
    """Noise with one generator for each row, so that a row's answer depends on its own seed and length only.

    seeds: one integer a row [n]; lengths: how many positions of each row are real [n], the whole row by
    default. A row draws noise for its own positions and is zero beyond them, so neither the other rows nor
    the padding of the batch change what it gets. Noise is drawn in float32 on the CPU and then moved, so
    that the kind of device does not change it either.
    """

    def __init__(self, seeds: Sequence[int], lengths: Sequence[int] | Tensor | None = None) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._lengths = None if lengths is None else [int(length) for length in lengths]

    def __call__(self, x: Tensor) -> Tensor:
        """Noise for x [n l d]; the generators move on."""
        noise = torch.zeros(x.shape)
        lengths = self._lengths or [x.shape[1]] * len(self._generators)
        for row, length, generator in zip(noise, lengths, self._generators, strict=True):
            torch.randn((length, x.shape[2]), generator=generator, out=row[:length])
        return noise.to(device=x.device, dtype=x.dtype)


def stratify(uniform: Tensor, seeds: Sequence[int], candidates: int) -> Tensor:
    """Latin hypercube sampling (McKay, Beckman & Conover, 1979): from independent uniform numbers [n l] others,
    each of them uniform as well, but so that at every position each of k equal parts of 0…1 holds one candidate of
    a source. What is averaged over the candidates varies less, and they repeat one another less often.

    seeds: one integer a row [n]; that of a source's first candidate decides who gets which part, the same at a
    position however many follow it.
    """
    shape = uniform.shape[1], candidates
    parts = [
        torch.rand(shape, generator=torch.Generator().manual_seed(seed ^ _PARTS)).argsort(1).T
        for seed in seeds[::candidates]
    ]
    return (torch.cat(parts).to(uniform) + uniform) / candidates


_PARTS = 0x5A17_C0DE
"""Tells the stream that deals out the parts from that of the first candidate's noise."""


def batch_noise(generator: torch.Generator | None = None) -> Noise:
    """Noise for the whole batch from one generator (the global one by default)."""
    device = generator.device if generator is not None else torch.device("cpu")

    def noise(x: Tensor) -> Tensor:
        drawn = torch.randn(x.shape, generator=generator, device=device)
        return drawn.to(device=x.device, dtype=x.dtype)

    return noise


def mix_seed(seed: int, text: str, candidate: int) -> int:
    """The seed of one candidate of one source: the same everywhere, and far from that of any neighbour."""
    digest = blake2b(f"{seed}\0{candidate}\0{text}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
