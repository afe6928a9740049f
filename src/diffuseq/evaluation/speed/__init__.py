"""How fast: ours against the published system, against GPT-2, and against what the machine can do.

Everything is measured in one run and given as ratios, for seconds depend on the machine. `measure` runs the
parts that are asked for; each part is a module here and gives a `Table`.

    training   pairs a second of a whole training step
    sampling   sentences a second of decoding
    gpt2       latency and throughput against an autoregressive model
    peak       share of the machine's measured matrix-product rate
    growth     how cost grows with length, batch, candidates, calls and pairs
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from diffuseq.errors import unknown_name
from diffuseq.evaluation.speed import autoregressive, growth, peak, sampling, training
from diffuseq.evaluation.speed.sizes import Size, find_size
from diffuseq.evaluation.speed.table import Table

PARTS: dict[str, Callable[[Size, torch.device], Table]] = {
    "training": training.measure,
    "sampling": sampling.measure,
    "gpt2": autoregressive.measure,
    "peak": peak.measure,
    "growth": growth.measure,
}


def measure(
    size: str, parts: Sequence[str], device: torch.device, *, quick: bool = False
) -> Iterator[tuple[str, Table]]:
    """Yield (part, its table) as they are measured. Raises `InputError` for unknown sizes and parts.

    quick: fewer repeats and shorter ranges.
    """
    for part in parts:
        if part not in PARTS:
            raise unknown_name("part of the benchmark", part, PARTS)
    chosen = find_size(size, quick)
    return ((part, PARTS[part](chosen, device)) for part in parts)
