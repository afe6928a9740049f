"""Sentence-BLEU, number for number what NLTK's `sentence_bleu` with smoothing method 4 gives.

This is the BLEU of DiffuSeq's tables (Gong et al., ICLR 2023): the mean over sentences of BLEU-4 on tokens
split at white space (Papineni et al. 2002), smoothed by method 4 of Chen and Cherry (2014). Nothing to do
with corpus BLEU: the two are never to be compared.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from diffuseq.metrics import ngrams
from diffuseq.metrics.references import check_references

ORDERS = 4
_SMOOTHING = 5.0  # the K of Chen and Cherry's method 4

Floats = NDArray[np.float64]


def sentence_bleu(hypotheses: Sequence[str], references: Sequence[str | Sequence[str]]) -> Floats:
    """BLEU of every hypothesis against its reference, or its references: [n], in 0…1.

    With several references, counts are clipped by the largest of them and the length is compared with the
    nearest (the shorter of two equally near), as in Papineni et al. and in NLTK. An empty hypothesis scores
    0; a hypothesis of one word that matches scores its brevity penalty. Raises `InputError` for texts without
    references, as ROUGE does.

    >>> sentence_bleu(["the cat sat"], ["the cat sat"]).round(4)
    array([0.5757])
    """
    check_references(hypotheses, references)
    owners: list[int] = []
    targets: list[str] = []
    for row, given in enumerate(references):
        for reference in (given,) if isinstance(given, str) else given:
            owners.append(row)
            targets.append(reference)
    count = len(hypotheses)
    tokens = ngrams.encode([text.split() for text in (*hypotheses, *targets)])
    owner = np.array([*range(count), *owners], dtype=np.int64)
    matches = np.empty((count, ORDERS), dtype=np.int64)
    for order, (rows, numbers) in enumerate(ngrams.grams(tokens, ORDERS)):
        found = ngrams.keys(rows, numbers)
        ours = rows < count
        matches[:, order] = ngrams.shared(
            ngrams.Keys(rows[ours], found.keys[ours], found.size),
            ngrams.Keys(owner[rows[~ours]], found.keys[~ours], found.size),
            count,
        )
    lengths, target_lengths = tokens.lengths[:count], tokens.lengths[count:]
    return _bleu(matches, lengths, _nearest(lengths, target_lengths, owner[count:]))


def pairwise_sentence_bleu(groups: Sequence[Sequence[str]]) -> Floats:
    """BLEU of every text against every other of its group: [s k k].

    Entry [g, i, j] is BLEU(text i; reference text j). k is the size of the largest group;
    entries beyond a smaller group are 0.
    """
    sizes = np.array([len(group) for group in groups], dtype=np.int64)
    width = int(sizes.max(initial=0))
    member = np.array([i for size in sizes for i in range(size)], dtype=np.int64)
    group = np.repeat(np.arange(len(groups)), sizes)
    tokens = ngrams.encode([text.split() for texts in groups for text in texts])
    matches = np.empty((len(groups), width, width, ORDERS), dtype=np.int64)
    for order, (rows, numbers) in enumerate(ngrams.grams(tokens, ORDERS)):
        found = ngrams.keys(rows, numbers)
        matches[..., order] = ngrams.group_matches(found, group, member, len(groups), width)
    lengths = np.zeros((len(groups), width), dtype=np.int64)
    lengths[group, member] = tokens.lengths
    shape = (len(groups), width, width)
    return _bleu(
        matches.reshape(-1, ORDERS),
        np.broadcast_to(lengths[:, :, None], shape).reshape(-1),
        np.broadcast_to(lengths[:, None, :], shape).reshape(-1),
    ).reshape(shape)


def _bleu(matches: NDArray[np.int64], lengths: NDArray[np.int64], targets: NDArray[np.int64]) -> Floats:
    """BLEU from clipped matches [n 4], lengths of the hypotheses [n] and of their references [n]."""
    totals = np.maximum(1, lengths[:, None] - np.arange(ORDERS))
    with np.errstate(divide="ignore", invalid="ignore"):
        zero = (matches == 0) & (lengths[:, None] > 1)
        smoothed = np.log(lengths)[:, None] / (2.0 ** np.cumsum(zero, axis=1) * _SMOOTHING)
        precision = np.where(zero, smoothed, matches) / totals
        logs = np.where(precision > 0, np.log(precision), 0.0)  # NLTK leaves orders without any count out
        brevity = np.where(lengths > targets, 1.0, np.exp(1 - targets / lengths))
    score = brevity * np.exp(logs.mean(axis=1))
    return np.where(matches[:, 0] > 0, score, 0.0)


def _nearest(
    lengths: NDArray[np.int64], targets: NDArray[np.int64], owner: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The reference length that is nearest to each hypothesis: [n]; the shorter of two."""
    distance = np.abs(targets - lengths[owner])
    order = np.lexsort((targets, distance, owner))
    first = np.searchsorted(owner[order], np.arange(len(lengths)))
    return targets[order][first]
