"""Sources of noise: a callable that gives standard normal noise for a tensor.

Legend: b sources, k candidates of each, n = b·k rows, l target length, d embedding width.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from hashlib import blake2b

import torch
from torch import Tensor

from diffuseq.sampling.step import Noise
from diffuseq.sampling.words import uniform

Quantiles = Callable[[], Tensor]
"""Numbers in 0…1, one a position [n l] and fresh in every call, by which samplers draw words."""


class RowNoise:
    """Noise with one generator for each row, so that a row's answer depends on its own seed and length only.

    seeds: one integer a row [n]; lengths: how many positions of each row are real [n], the whole row by
    default. A row draws noise for its own positions and is zero beyond them, so neither the other rows nor
    the padding of the batch change what it gets. Noise is drawn in float32 on the CPU and then moved, so
    that the kind of device does not change it either.
    """

    def __init__(self, seeds: Sequence[int], lengths: Sequence[int] | Tensor | None = None) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        # a tensor's all at once, for one by one a GPU is waited for once a row
        self._lengths = lengths.tolist() if isinstance(lengths, Tensor) else lengths

    def __call__(self, x: Tensor) -> Tensor:
        """Noise for x [n l d]; the generators move on."""
        noise = torch.zeros(x.shape)
        lengths = self._lengths or [x.shape[1]] * len(self._generators)
        for row, length, generator in zip(noise, lengths, self._generators, strict=True):
            torch.randn((length, x.shape[2]), generator=generator, out=row[:length])
        return noise.to(device=x.device, dtype=x.dtype)


def word_quantiles(noise: Noise, x: Tensor, seeds: Sequence[int], stratified: int = 1) -> Quantiles:
    """What to draw words of x [n l d] by. stratified: how many rows at a time, the candidates of a source,
    share out the quantiles of every position among them; 1: each row draws on its own."""
    counter = itertools.count()

    def quantiles() -> Tensor:
        independent = uniform(noise(x[..., :1])[..., 0])
        return stratify(independent, seeds, stratified, next(counter)) if stratified > 1 else independent

    return quantiles


def stratify(independent: Tensor, seeds: Sequence[int], candidates: int, index: int = 0) -> Tensor:
    """Latin hypercube sampling (McKay, Beckman & Conover, 1979): from independent uniform numbers [n l] others,
    each of them uniform as well, but so that at every position each of k equal parts of 0…1 holds one candidate of
    a source. What is averaged over the candidates varies less, and they repeat one another less often.

    seeds: one integer a row [n]; that of a source's first candidate and the index decide who gets which part, the
    same at a position however many follow it.
    """
    shape = independent.shape[1], candidates
    parts = [
        torch.rand(shape, generator=torch.Generator().manual_seed(_seed_of_parts(seed, index))).argsort(1).T
        for seed in seeds[::candidates]
    ]
    return (torch.cat(parts).to(independent) + independent) / candidates


def _seed_of_parts(seed: int, index: int) -> int:
    """Far from the candidate's own, and another one for every index."""
    return (seed + (index + 1) * 0x9E37_79B9_7F4A_7C15) % 2**63


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
