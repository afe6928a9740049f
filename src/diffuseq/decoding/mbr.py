"""Minimum Bayes risk: of several candidates, the one that agrees most with the others.

The choice of the published script of DiffuSeq (Gong et al., ICLR 2023, Section 3.3, after Kumar and Byrne
2004): the utility is sentence-BLEU (NLTK's, smoothing method 4), the mean over all other candidates decides,
and the first wins a tie. Ours may add what the candidate's own log-probability counts and subtract what its BLEU
with the source costs: where a paraphrase is wanted, what many candidates agree on is too often the source.
Where a script has no spaces between words, every character is one here, for two sentences are hardly ever equal.

Legend: s sources, k candidates a source.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from diffuseq.errors import InputError
from diffuseq.metrics.bleu import pairwise_sentence_bleu, sentence_bleu
from diffuseq.metrics.scripts import spaced

_DECIMALS = 10  # sums that differ by less are ties, so that the order of summation never decides


def pairwise_bleu(candidates: Sequence[str]) -> NDArray[np.float64]:
    """BLEU of each candidate (row) with each other as its reference (column): [k k]."""
    return pairwise_group_bleu([candidates])[0]


def pairwise_group_bleu(groups: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """`pairwise_bleu` of the candidates of each source: [s k k]; entries beyond a smaller group are 0."""
    return pairwise_sentence_bleu([[spaced(text) for text in group] for group in groups])


def bleu_to_source(candidates: Sequence[str], source: str) -> list[float]:
    """BLEU of each candidate with the source as its reference, both in lower case: a model that writes no capitals
    goes no further from its source by that."""
    texts = [spaced(text.lower()) for text in candidates]
    return [float(value) for value in sentence_bleu(texts, [spaced(source.lower())] * len(texts))]


def bonus(
    log_p: Sequence[float] | NDArray[np.float64],
    weight: float,
    to_source: Sequence[float] | NDArray[np.float64],
    source_weight: float,
) -> NDArray[np.float64]:
    """What a group's candidates [k] have beside their mean BLEU: weight · log_p − source_weight · to_source."""
    return weight * np.asarray(log_p) - source_weight * np.asarray(to_source)


def choose(
    candidates: Sequence[Sequence[str]],
    log_p: Sequence[Sequence[float]] | None = None,
    weight: float = 0.0,
    sources: Sequence[str] | None = None,
    *,
    source_weight: float = 0.0,
    copies: bool = True,
) -> list[int]:
    """The index of the chosen candidate of each source: the one with the largest

        mean BLEU with the others + weight · log_p − source_weight · BLEU with the source.

    log_p: of each candidate of each source, in nats. With both weights 0 this is minimum Bayes risk as published.
    The others tell what many candidates agree on, which may be a copy of the source or a common mistake; the
    log-probability tells which texts the model itself doubts (docs/log.md has what both are worth). copies:
    whether the source itself may be chosen (`barred_copies`). Sources may have different numbers of candidates;
    one candidate is chosen as it is. Raises `InputError` for a source without any, and where sources are needed
    and missing.
    """
    if not candidates:
        return []
    asked = utilities(candidates, log_p, weight, sources, source_weight=source_weight, copies=copies)
    return [int(i) for i in asked.argmax(axis=1)]


def utilities(
    candidates: Sequence[Sequence[str]],
    log_p: Sequence[Sequence[float]] | None = None,
    weight: float = 0.0,
    sources: Sequence[str] | None = None,
    *,
    source_weight: float = 0.0,
    copies: bool = True,
) -> NDArray[np.float64]:
    """What `choose` takes the largest of, for every candidate [s k]; −∞ for one that cannot be chosen. Raises
    `InputError` as `choose` does."""
    if sources is None and (source_weight or not copies):
        raise InputError("To choose by the source (source_weight, copies), give the sources.")
    barred = None if copies or sources is None else barred_copies(sources, candidates)
    likelihood: Sequence[Sequence[float]] = [[0.0] * len(group) for group in candidates]
    nearness = likelihood
    if log_p is not None and weight:
        likelihood = log_p
    if sources is not None and source_weight:
        nearness = [bleu_to_source(*each) for each in zip(candidates, sources, strict=True)]
    extra = [bonus(p, weight, near, source_weight) for p, near in zip(likelihood, nearness, strict=True)]
    sizes = [len(group) for group in candidates]
    return expected_utility(pairwise_group_bleu(candidates), sizes, extra, barred)


def choose_from(
    matrix: NDArray[np.float64],
    sizes: Sequence[int],
    extra: Sequence[NDArray[np.float64]] | None = None,
    barred: Sequence[Sequence[int]] | None = None,
) -> list[int]:
    """The choice, given the pairwise BLEU [s k k] of groups of `sizes` candidates. extra: what is added to the mean
    BLEU of each group's candidates; barred: indices of each group's candidates that are never chosen; not all of
    a group."""
    return [int(i) for i in expected_utility(matrix, sizes, extra, barred).argmax(axis=1)]


def expected_utility(
    matrix: NDArray[np.float64],
    sizes: Sequence[int],
    extra: Sequence[NDArray[np.float64]] | None = None,
    barred: Sequence[Sequence[int]] | None = None,
) -> NDArray[np.float64]:
    """What `choose_from` takes the largest of, for every candidate [s k]; −∞ for one that cannot be chosen. Raises
    `InputError` for a source without any."""
    for source, size in enumerate(sizes):
        if size == 0:
            raise InputError(f"Source {source} has no candidate; minimum Bayes risk needs at least one.")
    others = np.maximum(np.array(sizes) - 1, 1)[:, None]
    utility = (matrix.sum(axis=2) - np.diagonal(matrix, axis1=1, axis2=2)) / others
    if extra is not None:
        for row, values in zip(utility, extra, strict=True):
            row[: len(values)] += values
    utility = utility.round(_DECIMALS)
    utility[np.arange(matrix.shape[1]) >= np.array(sizes)[:, None]] = -np.inf
    if barred is not None:
        for row, indices in zip(utility, barred, strict=True):
            row[list(indices)] = -np.inf
    return utility


def barred_copies(sources: Sequence[str], candidates: Sequence[Sequence[str]]) -> list[list[int]]:
    """Indices of the candidates that are their source itself, but for case and spaces; none where all are."""
    copies = [
        [index for index, text in enumerate(group) if bare(text) == bare(source)]
        for source, group in zip(sources, candidates, strict=True)
    ]
    return [found if len(found) < len(group) else [] for found, group in zip(copies, candidates, strict=True)]


def bare(text: str) -> str:
    """A text without spaces and case: what makes two candidates the same."""
    return "".join(text.split()).casefold()
