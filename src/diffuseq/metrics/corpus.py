"""SacreBLEU and chrF, whose corpus score is a function of counts that add up over sentences.

The counts of each sentence are kept, so that the bootstrap can add them up anew without scoring again.
Counting is done by the sacrebleu library (Post 2018), chrF is chrF2 (Popović 2015); the formulas of the last
step are written here for whole arrays of resampled corpora.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffuseq.errors import InputError
from diffuseq.metrics.references import check_references

_CHRF_BETA = 2.0

Floats = NDArray[np.float64]


class Counter:
    """Counts sentences against fixed references, whose n-grams are extracted once.

    kind: "BLEU" gives counts [n 10] (length, reference length, 4 matches, 4 totals) for `bleu_from_counts`,
    "CHRF" counts [n 18] (in the output, in the reference, matches; six orders) for `chrf_from_counts`.
    Rows may have different numbers of references.
    """

    def __init__(self, kind: str, references: Sequence[Sequence[str]]) -> None:
        self._references = references
        streams = [list(stream) for stream in zip_longest(*references)]
        self._kind = kind
        self._metric = getattr(_library(), kind)(references=streams)

    @property
    def signature(self) -> str:
        """What makes the number comparable, in sacrebleu's own words."""
        return f"{self._kind}|{self._metric.get_signature().format()}"

    def __call__(self, hypotheses: Sequence[str]) -> Floats:
        check_references(hypotheses, self._references)
        return np.array(self._metric._extract_corpus_statistics(list(hypotheses), None), dtype=np.float64)


def bleu_from_counts(sums: Floats) -> Floats:
    """Corpus BLEU in 0…100 from summed counts [… 10]; orders without a match are smoothed ("exp")."""
    length, target = sums[..., 0], sums[..., 1]
    matches, totals = sums[..., 2:6], sums[..., 6:10]
    zero = matches == 0
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(zero, 1.0 / 2.0 ** np.cumsum(zero, axis=-1), matches) / totals
        brevity = np.where(length < target, np.exp(1 - target / length), 1.0)
        score = 100 * brevity * np.exp(np.log(precision).mean(axis=-1))
    usable = (totals > 0).all(axis=-1) & (matches > 0).any(axis=-1)
    return np.where(usable, score, 0.0)


def chrf_from_counts(sums: Floats) -> Floats:
    """Corpus chrF2 in 0…100 from summed counts [… 18]; orders that one side has none of do not count."""
    counts = sums.reshape(*sums.shape[:-1], -1, 3)
    ours, theirs, matches = counts[..., 0], counts[..., 1], counts[..., 2]
    counted = (ours > 0) & (theirs > 0)
    orders = np.maximum(1, counted.sum(axis=-1))
    precision = np.divide(matches, ours, out=np.zeros_like(matches), where=counted).sum(axis=-1) / orders
    recall = np.divide(matches, theirs, out=np.zeros_like(matches), where=counted).sum(axis=-1) / orders
    factor = _CHRF_BETA**2
    bottom = factor * precision + recall
    return 100 * np.divide(
        (1 + factor) * precision * recall, bottom, out=np.zeros_like(bottom), where=bottom > 0
    )


@cache
def _tokenizer() -> Any:
    _library()
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    return Tokenizer13a()


def tokenize_13a(text: str) -> str:
    """The text with blanks between its tokens, by the mteval 13a rules of sacrebleu."""
    tokenized: str = _tokenizer()(text)
    return tokenized


def _library() -> Any:
    try:
        import sacrebleu.metrics
    except ImportError:
        raise InputError(
            "sacreBLEU, chrF and SARI need the package sacrebleu; `pip install diffuseq[metrics]` brings it."
        ) from None
    return sacrebleu.metrics
