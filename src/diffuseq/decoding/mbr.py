"""Minimum Bayes risk: of several candidates, the one that agrees most with the others.

The choice of the published script of DiffuSeq (Gong et al., ICLR 2023, Section 3.3, after Kumar and Byrne
2004): the utility is sentence-BLEU (NLTK's, smoothing method 4), the mean over all other candidates decides,
and the first wins a tie. Ours may add the candidate's own log-probability.

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


def choose(
    candidates: Sequence[Sequence[str]],
    log_p: Sequence[Sequence[float]] | None = None,
    weight: float = 0.0,
    sources: Sequence[str] | None = None,
) -> list[int]:
    """The index of the chosen candidate of each source.

    log_p and weight as in `utilities`; sources: with them, copies of the source are passed over
    (`barred_copies`). Sources may have different numbers of candidates; one candidate is chosen as it is.
    Raises `InputError` for a source without any.
    """
    if not candidates:
        return []
    barred = None if sources is None else barred_copies(sources, candidates)
    sizes = [len(group) for group in candidates]
    return choose_from(pairwise_sentence_bleu(candidates), sizes, log_p, weight, barred)


def choose_from(
    matrix: NDArray[np.float64],
    sizes: Sequence[int],
    log_p: Sequence[Sequence[float]] | None = None,
    weight: float = 0.0,
    barred: Sequence[Sequence[int]] | None = None,
) -> list[int]:
    """The choice, given the pairwise BLEU [s k k] of groups of `sizes` candidates. barred: indices of each group's
    candidates that are never chosen; not all of a group."""
    for source, size in enumerate(sizes):
        if size == 0:
            raise InputError(f"Source {source} has no candidate; minimum Bayes risk needs at least one.")
    utility = utilities(matrix, sizes, log_p, weight).round(_DECIMALS)
    utility[np.arange(matrix.shape[1]) >= np.array(sizes)[:, None]] = -np.inf
    if barred is not None:
        for row, indices in zip(utility, barred, strict=True):
            row[list(indices)] = -np.inf
    return [int(i) for i in utility.argmax(axis=1)]


def barred_copies(sources: Sequence[str], candidates: Sequence[Sequence[str]]) -> list[list[int]]:
    """Indices of the candidates that are their source itself, but for case and spaces; none where all are."""
    copies = [
        [index for index, text in enumerate(group) if _bare(text) == _bare(source)]
        for source, group in zip(sources, candidates, strict=True)
    ]
    return [found if len(found) < len(group) else [] for found, group in zip(copies, candidates, strict=True)]


def _bare(text: str) -> str:
    return "".join(text.split()).casefold()


def utilities(
    matrix: NDArray[np.float64],
    sizes: Sequence[int],
    log_p: Sequence[Sequence[float]] | None = None,
    weight: float = 0.0,
) -> NDArray[np.float64]:
    """What each candidate is worth [s k]: its mean BLEU with the others + weight · its log-probability.

    log_p: of each candidate of each source, in nats. With weight 0 this is minimum Bayes risk as published. The
    others tell what many candidates agree on, which may be a copy of the source or a common mistake; the
    log-probability tells which texts the model itself doubts (docs/log.md has what that is worth).
    """
    others = np.maximum(np.array(sizes) - 1, 1)[:, None]
    utility = (matrix.sum(axis=2) - np.diagonal(matrix, axis1=1, axis2=2)) / others
    if log_p is not None and weight:
        for row, values in zip(utility, log_p, strict=True):
            row[: len(values)] += weight * np.asarray(values)
    return np.asarray(utility)
