"""SARI against any number of references (Xu et al. 2016, "Optimizing Statistical Machine Translation for Text
Simplification"), in the corpus form that EASSE (Alva-Manchego et al. 2019) made the standard.

For n = 1 … 4, precision and recall of three operations on n-grams, each with counts summed over the corpus:
  add     different n-grams of the output that the source lacks, against those that any reference has
  keep    occurrences of the source's n-grams that the output keeps, weighted by the references that keep them
  delete  occurrences of the source's n-grams that the output drops, weighted by the references that drop them
SARI is the mean over operations and orders of F1, in 0…100. Texts are lower-cased and tokenised by 13a.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from diffuseq.metrics.corpus import tokenize_13a

ORDERS = 4
SIGNATURE = "SARI|case:lower|tok:13a|orders:4|delete:f1|corpus:sums"

Grams = Counter[tuple[str, ...]]
Floats = NDArray[np.float64]


class SariCounter:
    """Counts outputs against fixed sources and references, whose n-grams are extracted once."""

    def __init__(self, sources: Sequence[str], references: Sequence[Sequence[str]]) -> None:
        self._fixed = [
            [(_grams(source, order), _pooled(targets, order), len(targets)) for order in range(1, ORDERS + 1)]
            for source, targets in (
                (_tokens(source), [_tokens(text) for text in targets])
                for source, targets in zip(sources, references, strict=True)
            )
        ]

    def __call__(self, hypotheses: Sequence[str]) -> Floats:
        """Counts [n 36]: order × (add, keep, delete) × (right, in the output, in the references)."""
        rows = []
        for fixed, hypothesis in zip(self._fixed, hypotheses, strict=True):
            tokens = _tokens(hypothesis)
            rows.append([_operations(_grams(tokens, i + 1), *known) for i, known in enumerate(fixed)])
        return np.array(rows, dtype=np.float64).reshape(len(rows), -1)


def sari_from_counts(sums: Floats) -> Floats:
    """SARI in 0…100 from summed counts [… 36]. An operation with nothing to do and nothing done scores 0."""
    counts = sums.reshape(*sums.shape[:-1], ORDERS, 3, 3)
    right, ours, theirs = counts[..., 0], counts[..., 1], counts[..., 2]
    f1 = np.divide(2 * right, ours + theirs, out=np.zeros_like(right), where=ours + theirs > 0)
    return np.asarray(100 * f1.mean(axis=(-2, -1)))


def _tokens(text: str) -> list[str]:
    return tokenize_13a(text.lower()).split()


def _grams(tokens: list[str], order: int) -> Grams:
    return Counter(zip(*(tokens[i:] for i in range(order)), strict=False))


def _pooled(references: list[list[str]], order: int) -> Grams:
    pooled: Grams = Counter()
    for tokens in references:
        pooled.update(_grams(tokens, order))
    return pooled


def _operations(output: Grams, source: Grams, pooled: Grams, weight: int) -> list[tuple[int, int, int]]:
    """Counts of add, keep and delete for one order; `pooled` of all `weight` references together."""
    added, wanted = output.keys() - source.keys(), pooled.keys() - source.keys()
    kept = dropped = keep_wanted = drop_wanted = keep_right = drop_right = 0
    for gram, count in source.items():
        most, found, wish = weight * count, weight * output[gram], pooled[gram]
        keep = found if found < most else most  # `min` is a call, and this is the innermost loop
        wish = wish if wish < most else most
        both = keep if keep < wish else wish
        kept, keep_wanted, keep_right = kept + keep, keep_wanted + wish, keep_right + both
        dropped, drop_wanted = dropped + most - keep, drop_wanted + most - wish
        drop_right += most - (keep + wish - both)
    return [
        (len(added & wanted), len(added), len(wanted)),
        (keep_right, kept, keep_wanted),
        (drop_right, dropped, drop_wanted),
    ]
