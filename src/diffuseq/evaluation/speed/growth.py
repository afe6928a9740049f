"""How cost grows with length, batch, candidates, calls and pairs: a power is fitted to each.

Legend: x what grows, y seconds; y ≈ c·x^power.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from diffuseq.config import DiffuSeqConfig
from diffuseq.data.batching import BatchPlan, collate
from diffuseq.data.pairs import Pair
from diffuseq.data.store import build_store
from diffuseq.decoding.mbr import choose
from diffuseq.evaluation.speed.sampling import Writer
from diffuseq.evaluation.speed.sizes import Size, special_tokens
from diffuseq.evaluation.speed.table import Table, rounded
from diffuseq.evaluation.speed.timing import time_in_turn
from diffuseq.evaluation.speed.training import Trainee
from diffuseq.evaluation.speed.workload import draw_pairs, fixed_batch

WORDS = 1024
LENGTH, BATCH, CALLS = 12, 16, 5
"""What is held while something else grows."""
BATCH_OF_PAIRS = 256


@dataclass(frozen=True)
class Series:
    """Seconds for growing x; reason: what makes the power differ from 1."""

    what: str
    x: tuple[int, ...]
    seconds: tuple[float, ...]
    reason: str

    @property
    def power(self) -> float:
        """The slope of log(seconds) over log(x), by least squares."""
        slope, _ = np.polyfit(np.log(self.x), np.log(self.seconds), 1)
        return float(slope)

    @property
    def last_power(self) -> float:
        """The slope between the two largest x, where fixed costs count least."""
        (x, y), (x2, y2) = list(zip(self.x, self.seconds, strict=True))[-2:]
        return math.log(y2 / y) / math.log(x2 / x)


def measure(size: Size, device: torch.device) -> Table:
    """All series, at a network of 2 + 2 layers of 128 (or the size's own, if that is smaller)."""
    ours = size.ours.system
    system = replace(
        ours,
        encoder_layers=min(2, ours.encoder_layers),
        decoder_layers=min(2, ours.decoder_layers),
        width=min(128, ours.width),
        heads=min(4, ours.heads),
        feed_forward=min(256, ours.feed_forward),
        embedding_width=min(64, ours.embedding_width),
        max_length=max(LENGTH, *size.ranges.length),
    )
    small = replace(size, ours=replace(size.ours, system=system), words=(WORDS, WORDS, WORDS))
    series = [*_network_series(small, device), *_candidate_series(size), *_pair_series(size)]
    return Table(
        "Growth",
        ("what grows", "from … to", "first", "last", "power", "at the end"),
        tuple(_row(one) for one in series),
        {f"{one.what}: {name}": getattr(one, name) for one in series for name in ("power", "last_power")},
        (
            f"A power of 1 is linear. The network is small ({_shape(system)}), so that fixed costs and parts "
            f"that are no matrix products show; what does not grow is held at {BATCH} sentences, {LENGTH} "
            f"tokens, {CALLS} calls and 1 candidate. The power is fitted over all points; `at the end` is "
            "that between the last two.",
            *(f"{one.what[0].upper()}{one.what[1:]}: {one.reason}." for one in series if one.reason),
        ),
    )


def _network_series(size: Size, device: torch.device) -> Iterator[Series]:
    """Training and decoding."""
    writer, special, ranges = Writer(size, device), size.special, size.ranges
    fixed = fixed_batch(BATCH, LENGTH, LENGTH, special)

    def decode(rows: int, length: int, calls: int = CALLS, candidates: int = 1) -> Callable[[], None]:
        batch = fixed_batch(rows, length, length, special)
        return writer.action([batch], calls, candidates, length)

    def train(length: int) -> Callable[[], None]:
        return Trainee(size.ours, special, [fixed_batch(BATCH, length, length, special)], device).passes

    attention = "attention compares every position with every other, which is quadratic"
    plan: list[tuple[str, Sequence[int], Callable[[int], Callable[[], None]], str]] = [
        ("length, training", ranges.length, train, attention),
        ("length, decoding", ranges.length, lambda x: decode(BATCH, x), attention),
        (
            "batch, decoding",
            ranges.batch,
            lambda x: decode(x, LENGTH),
            "the sentences share the fixed cost of a call",
        ),
        (
            "candidates, decoding",
            ranges.candidates,
            lambda x: writer.action([fixed], CALLS, x, LENGTH),
            "the source is encoded once",
        ),
        ("calls, decoding", ranges.calls, lambda x: decode(BATCH, LENGTH, x), "the source is encoded once"),
    ]
    for what, xs, make, reason in plan:
        measured = time_in_turn({str(x): make(x) for x in xs}, size.repeats, device)
        yield Series(what, tuple(xs), tuple(measured[str(x)].median for x in xs), reason)


def _candidate_series(size: Size) -> Iterator[Series]:
    """The choice among candidates compares each with each, so its cost is quadratic, and small."""
    xs = tuple(x for x in size.ranges.candidates if x > 1)
    if len(xs) < 2:
        return
    texts = [" ".join(map(str, source)) for source, _ in draw_pairs(200 * max(xs), special_tokens(200))]
    groups = {str(x): [texts[i * x : (i + 1) * x] for i in range(200)] for x in xs}
    actions: dict[str, Callable[[], object]] = {x: partial(choose, group) for x, group in groups.items()}
    measured = time_in_turn(actions, size.repeats, torch.device("cpu"))
    reason = "every candidate is compared with every other; 200 sources"
    yield Series("candidates, the choice", xs, tuple(measured[str(x)].median for x in xs), reason)


def _pair_series(size: Size) -> Iterator[Series]:
    """A token store and one epoch of batches. Words are made up, so that no tokenizer is measured."""
    special = special_tokens(WORDS)
    texts = [(" ".join(map(str, s)), " ".join(map(str, t))) for s, t in draw_pairs(1000, special)]

    def pairs(count: int) -> Iterator[Pair]:
        return (Pair(*texts[i % 1000], (texts[i % 1000][1],)) for i in range(count))

    def encode(rows: list[str]) -> list[list[int]]:
        return [list(map(int, row.split())) for row in rows]

    building, batching = [], []
    for count in size.ranges.pairs:
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            store = build_store(
                pairs(count), encode, Path(folder) / "store", max_source=64, max_target=64, vocab_size=WORDS,
                unknown_id=special.unknown,
            )  # fmt: skip
            middle = time.perf_counter()
            plan = BatchPlan(store.source_lengths, store.target_lengths, BATCH_OF_PAIRS, seed=0)
            for rows in plan.batches(0):
                collate(store, rows, special.pad)
            building.append(middle - start)
            batching.append(time.perf_counter() - middle)
    yield Series("pairs, the token store", size.ranges.pairs, tuple(building), "")
    yield Series("pairs, an epoch of batches", size.ranges.pairs, tuple(batching), "")


def _row(series: Series) -> tuple[str, ...]:
    first, *_, last = series.x
    return (
        series.what,
        f"{first:,} … {last:,}",
        f"{rounded(1000 * series.seconds[0])} ms",
        f"{rounded(1000 * series.seconds[-1])} ms",
        f"{series.power:.2f}",
        f"{series.last_power:.2f}",
    )


def _shape(system: DiffuSeqConfig) -> str:
    return f"{system.encoder_layers} + {system.decoder_layers} layers of {system.width}"
