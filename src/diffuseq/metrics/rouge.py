"""ROUGE-1, -2 and -L F-measures (Lin 2004), number for number torchmetrics' `rouge*_fmeasure`.

The tokens are those of Google's rouge-score and of torchmetrics: lower-cased runs of a–z and 0–9, everything
else parts words; no stemming. DiffuSeq's tables give the mean ROUGE-L F-measure. Note that text outside
ASCII letters has no tokens here and scores 0, as it does in the published script.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from diffuseq.metrics import ngrams
from diffuseq.metrics.references import check_references

_WORD = re.compile(r"[a-z0-9]+")

Floats = NDArray[np.float64]


def rouge_n(hypotheses: Sequence[str], references: Sequence[str | Sequence[str]], order: int) -> Floats:
    """ROUGE-`order` F-measure of every hypothesis: [n], in 0…1; the best of several references."""
    pairs = _Pairs(hypotheses, references)
    tokens = ngrams.encode([*pairs.hypotheses, *pairs.references])
    count = len(pairs.hypotheses)
    rows, numbers = list(ngrams.grams(tokens, order))[-1]
    found = ngrams.keys(rows, numbers)
    ours = rows < count
    hits = ngrams.shared(
        ngrams.Keys(rows[ours], found.keys[ours], found.size),
        ngrams.Keys(rows[~ours] - count, found.keys[~ours], found.size),
        count,
    )
    totals = np.maximum(0, tokens.lengths - order + 1)
    return pairs.best(_f_measure(hits, totals[:count], totals[count:]))


def rouge_l(hypotheses: Sequence[str], references: Sequence[str | Sequence[str]]) -> Floats:
    """ROUGE-L F-measure (longest common subsequence) of every hypothesis: [n]; best of several references."""
    pairs = _Pairs(hypotheses, references)
    hits = [common_subsequence(a, b) for a, b in zip(pairs.hypotheses, pairs.references, strict=True)]
    lengths = [np.array([len(tokens) for tokens in side]) for side in (pairs.hypotheses, pairs.references)]
    return pairs.best(_f_measure(np.array(hits), *lengths))


def common_subsequence(left: Sequence[str], right: Sequence[str]) -> int:
    """Length of the longest common subsequence, one bit a token.

    Hyyrö 2004, "Bit-parallel LCS-length computation revisited": a zero bit in `open_` marks a position of
    `left` where the length grows.
    """
    positions: dict[str, int] = {}
    for i, token in enumerate(left):
        positions[token] = positions.get(token, 0) | 1 << i
    everything = (1 << len(left)) - 1
    open_ = everything
    for token in right:
        matched = open_ & positions.get(token, 0)
        open_ = ((open_ + matched) | (open_ - matched)) & everything
    return len(left) - open_.bit_count()


class _Pairs:
    """Hypotheses against each of their references as flat pairs of token lists."""

    def __init__(self, hypotheses: Sequence[str], references: Sequence[str | Sequence[str]]) -> None:
        check_references(hypotheses, references)
        split = [_WORD.findall(text.lower()) for text in hypotheses]
        self.hypotheses: list[list[str]] = []
        self.references: list[list[str]] = []
        starts = []
        for tokens, given in zip(split, references, strict=True):
            starts.append(len(self.hypotheses))
            for reference in (given,) if isinstance(given, str) else given:
                self.hypotheses.append(tokens)
                self.references.append(_WORD.findall(reference.lower()))
        self._starts = np.array(starts, dtype=np.int64)

    def best(self, scores: Floats) -> Floats:
        return np.maximum.reduceat(scores, self._starts) if len(scores) else scores


def _f_measure(hits: NDArray[np.int64], predicted: NDArray[np.int64], expected: NDArray[np.int64]) -> Floats:
    """2pr / (p + r) = 2 · hits / (predicted + expected); 0 where there is nothing."""
    return np.asarray(2.0 * hits / np.maximum(1, predicted + expected), dtype=np.float64)
