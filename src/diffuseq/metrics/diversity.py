"""How much systems vary: dist-n in a text, self-BLEU and distinct n-grams between the candidates, lengths.

Definitions of the published script of DiffuSeq (Gong et al., ICLR 2023, Section 4.1; eval_seq2seq.py).

Legend: n texts, s sources, k candidates a source.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from diffuseq.metrics import ngrams
from diffuseq.metrics.bleu import pairwise_sentence_bleu

Floats = NDArray[np.float64]


def dist_n(texts: Sequence[str], order: int) -> Floats:
    """Distinct over all n-grams within each text: [n], in 0…1; 0 for a text that has none."""
    tokens = ngrams.encode([text.split() for text in texts])
    rows, numbers = list(ngrams.grams(tokens, order))[-1]
    different = ngrams.distinct(rows, numbers, len(texts))
    return np.asarray(different / np.maximum(1, tokens.lengths - order + 1), dtype=np.float64)


def self_bleu(candidates: Sequence[Sequence[str]]) -> Floats:
    """Mean BLEU(candidate i; reference j) over the pairs i < j of each source: [s]; lower is more diverse.

    1 candidate has no pair and gives nan.
    """
    return self_bleu_of_matrix(pairwise_sentence_bleu(candidates), [len(group) for group in candidates])


def self_bleu_of_matrix(matrix: Floats, sizes: Sequence[int]) -> Floats:
    """Self-BLEU [s] from the pairwise BLEU [s k k] of groups of `sizes` candidates."""
    size = np.array(sizes)
    num_pairs = size * (size - 1) / 2
    width = matrix.shape[-1]
    total = matrix[:, np.triu(np.ones((width, width), dtype=bool), 1)].sum(axis=1)
    return np.divide(total, num_pairs, out=np.full(len(size), np.nan), where=num_pairs > 0)


def div_n(candidates: Sequence[Sequence[str]], order: int = 4) -> Floats:
    """Distinct over all n-grams, pooled over the candidates of each source: [s], in 0…1.

    Higher is more diverse; 0 where no candidate is long enough.
    """
    owner = np.repeat(np.arange(len(candidates)), [len(group) for group in candidates])
    tokens = ngrams.encode([text.split() for group in candidates for text in group])
    rows, numbers = list(ngrams.grams(tokens, order))[-1]
    different = ngrams.distinct(owner[rows], numbers, len(candidates))
    total = np.bincount(owner[rows], minlength=len(candidates))
    return np.asarray(different / np.maximum(1, total), dtype=np.float64)


def published_length(texts: Sequence[str]) -> Floats:
    """`len(text.split(" "))` of each text as it stands: [n].

    The published script counts so after it has cut the special tokens out: the two blanks that stood beside
    [CLS] and [SEP] count as words, and an output is two longer than it is.
    """
    return np.array([text.count(" ") + 1 for text in texts], dtype=np.float64)


def word_length(texts: Sequence[str]) -> Floats:
    """Words (split at white space) of each text: [n]."""
    return np.array([len(text.split()) for text in texts], dtype=np.float64)
