"""Paired bootstrap over sentences: confidence intervals, and p-values between two systems.

Koehn (2004), "Statistical significance tests for machine translation evaluation". Corpora are drawn with
replacement from the test set; one seed draws the same corpora for every metric and every system, which is
what makes the comparison a paired one.

Legend: n sentences, m counts a sentence, b resampled corpora.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Finish = Callable[[Floats], Floats]


def mean(sums: Floats) -> Floats:
    """The score of a mean over sentences, from (sum of values, number of them): [… 2] → […]."""
    return np.divide(sums[..., 0], sums[..., 1], out=np.zeros_like(sums[..., 0]), where=sums[..., 1] > 0)


@dataclass(frozen=True)
class Statistics:
    """A metric of one system: counts [n m] of every sentence that add up, and what the sums mean.

    finish: [… m] → […], the score of a corpus from the sums of its counts.
    """

    counts: Floats
    finish: Finish

    @classmethod
    def of_mean(cls, values: Floats) -> Statistics:
        """A mean over sentences; a sentence whose value is nan has none and does not count."""
        known = ~np.isnan(values)
        return cls(np.stack([np.where(known, values, 0.0), known.astype(np.float64)], axis=1), mean)

    def score(self) -> float:
        return float(self.finish(self.counts.sum(axis=0)))

    def resample(self, corpora: int, seed: int) -> Floats:
        """The score of each resampled corpus: [b]."""
        return self.finish(_weights(len(self.counts), corpora, seed) @ self.counts)


def interval(scores: Floats, level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of resampled scores."""
    low, high = np.quantile(scores, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def p_value(first: Statistics, second: Statistics, corpora: int, seed: int) -> float:
    """How often chance alone makes a difference as large as the measured one; two-sided.

    The resampled differences, moved to a mean of 0, are the distribution under "no difference" (Riezler and
    Maxwell 2005). Never below 1 / (corpora + 1), nor, with n sentences, below 2^(1 − n): in so many of all cases n
    differences have one sign by chance, however large they are.
    """
    measured = abs(first.score() - second.score())
    if measured == 0:
        return 1.0
    drawn = first.resample(corpora, seed) - second.resample(corpora, seed)
    extreme = np.abs(drawn - drawn.mean()) >= measured
    return max(float((1 + extreme.sum()) / (corpora + 1)), 0.5 ** (len(first.counts) - 1))


def holm(p_values: list[float]) -> list[float]:
    """p-values of a family of comparisons, adjusted so that even one false alarm is rare (Holm 1979)."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = running
    return adjusted


@lru_cache(maxsize=1)
def _weights(sentences: int, corpora: int, seed: int) -> Floats:
    """How often each sentence stands in each corpus: [b n]. Kept, since every metric needs the same."""
    drawn = np.random.default_rng([int(seed) % 2**64, sentences]).integers(
        0, sentences, size=(corpora, sentences)
    )
    flat = (drawn + sentences * np.arange(corpora)[:, None]).reshape(-1)
    return np.bincount(flat, minlength=corpora * sentences).reshape(corpora, -1).astype(np.float64)
