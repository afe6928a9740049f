"""Minimum Bayes risk: of several candidates, the one that agrees most with the others.

The choice of the published script of DiffuSeq (Gong et al., ICLR 2023, Section 3.3, after Kumar and Byrne
2004): the utility is sentence-BLEU (NLTK's, smoothing method 4), the sum over all other candidates decides,
and the first wins a tie.

Legend: s sources, k candidates a source.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from diffuseq.errors import InputError
from diffuseq.metrics.bleu import pairwise_sentence_bleu

_DECIMALS = 10  # sums that differ by less are ties, so that the order of summation never decides


def pairwise_bleu(candidates: Sequence[str]) -> NDArray[np.float64]:
    """BLEU of each candidate (row) with each other as its reference (column): [k k]."""
    return pairwise_sentence_bleu([candidates])[0]


def choose(candidates: Sequence[Sequence[str]]) -> list[int]:
    """The index of the chosen candidate of each source.

    Sources may have different numbers of candidates; one candidate is chosen as it is. Raises `InputError`
    for a source without any.
    """
    if not candidates:
        return []
    return choose_from(pairwise_sentence_bleu(candidates), [len(group) for group in candidates])


def choose_from(matrix: NDArray[np.float64], sizes: Sequence[int]) -> list[int]:
    """The choice, given the pairwise BLEU [s k k] of groups of `sizes` candidates."""
    for source, size in enumerate(sizes):
        if size == 0:
            raise InputError(f"Source {source} has no candidate; minimum Bayes risk needs at least one.")
    utility = matrix.sum(axis=2) - np.diagonal(matrix, axis1=1, axis2=2)
    outside = np.arange(matrix.shape[1]) >= np.array(sizes)[:, None]
    utility = np.where(outside, -1.0, utility.round(_DECIMALS))
    return [int(i) for i in utility.argmax(axis=1)]
