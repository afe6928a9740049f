"""N-grams as integers, for many texts at once.

The trick that makes everything here one sort: the c-th occurrence of an n-gram in a text is a key of its
own. Then a text is a *set* of keys, the clipped matches of BLEU and ROUGE between two texts are the size of
an intersection, and the clipping against several references is a union.

Legend: n texts, s groups of texts, k texts in a group.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

_GROUPS_AT_ONCE = 128  # keeps the dense blocks of `group_matches` in the cache
_MOST_CELLS = 1 << 22
"""Of such a block, where a text is so long that fewer groups go into one."""


@dataclass(frozen=True)
class Tokens:
    """Tokenised texts: ids [total], one text after the other; rows [total] (which text); lengths [n]."""

    ids: Ints
    rows: Ints
    lengths: Ints
    vocabulary: int


@dataclass(frozen=True)
class Keys:
    """The n-grams of texts: rows [m] (which text) and keys [m], distinct within a text and below `size`."""

    rows: Ints
    keys: Ints
    size: int


def encode(texts: Sequence[Sequence[str]]) -> Tokens:
    """Number the tokens of tokenised texts; equal tokens get equal numbers."""
    flat = list(chain.from_iterable(texts))
    numbers = {token: number for number, token in enumerate(dict.fromkeys(flat))}
    ids = np.fromiter(map(numbers.__getitem__, flat), dtype=np.int64, count=len(flat))
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    rows = np.repeat(np.arange(len(texts), dtype=np.int64), lengths)
    return Tokens(ids, rows, lengths, max(1, len(numbers)))


def grams(tokens: Tokens, orders: int) -> Iterator[tuple[Ints, Ints]]:
    """For n = 1 … orders: (rows [m], grams [m]), an entry an occurrence; equal n-grams have equal numbers."""
    current, start = tokens.ids, np.arange(len(tokens.ids))
    for order in range(1, orders + 1):
        if order > 1:
            end = start + order - 1
            inside = end < len(tokens.ids)
            inside[inside] = tokens.rows[start[inside]] == tokens.rows[end[inside]]
            start, current = start[inside], current[inside]
            pairs = current * tokens.vocabulary + tokens.ids[start + order - 1]
            current = np.unique(pairs, return_inverse=True)[1].reshape(-1)
        yield tokens.rows[start], current


def keys(rows: Ints, numbers: Ints) -> Keys:
    """Occurrences of n-grams to keys: (n-gram, how many times it stood in the text before)."""
    if not len(numbers):
        return Keys(rows, numbers, 1)
    count = int(numbers.max()) + 1
    joined = rows * count + numbers
    order = np.argsort(joined, kind="stable")
    ordered = joined[order]
    position = np.arange(len(ordered))
    starts = np.r_[True, ordered[1:] != ordered[:-1]]
    occurrence = np.empty_like(joined)
    occurrence[order] = position - np.maximum.accumulate(np.where(starts, position, 0))
    return Keys(rows, numbers + count * occurrence, count * (int(occurrence.max()) + 1))


def distinct(rows: Ints, numbers: Ints, num_rows: int) -> Ints:
    """How many different n-grams each row has: [num_rows]."""
    count = int(numbers.max(initial=0)) + 1
    return np.bincount(np.unique(rows * count + numbers) // count, minlength=num_rows)


def shared(left: Keys, right: Keys, num_rows: int) -> Ints:
    """Keys that row i has on both sides, for every i: [num_rows]. A key may stand twice on the right."""
    size = max(left.size, right.size)
    ours = left.rows * size + left.keys
    theirs = np.unique(right.rows * size + right.keys)
    both = np.intersect1d(ours, theirs, assume_unique=True)
    return np.bincount(both // size, minlength=num_rows)


def group_matches(found: Keys, group: Ints, member: Ints, num_groups: int, width: int) -> Ints:
    """Clipped matches between all texts of a group: [s k k].

    `group` and `member` [n] say where each text stands. Intersections of sets are products of 0/1 matrices.
    """
    joined = group[found.rows] * found.size + found.keys
    columns, inverse = np.unique(joined, return_inverse=True)
    owner = columns // found.size
    first = np.searchsorted(owner, np.arange(num_groups + 1))
    column = inverse.reshape(-1) - first[owner[inverse.reshape(-1)]] if len(columns) else inverse
    result = np.zeros((num_groups, width, width), dtype=np.int64)
    where = group[found.rows]
    order = np.argsort(where, kind="stable")
    edges = np.searchsorted(where[order], np.arange(num_groups + 1))
    for low, high in _blocks(np.diff(first) * width):
        chosen = order[edges[low] : edges[high]]
        depth = int(np.diff(first[low : high + 1]).max(initial=0))
        present = np.zeros((high - low, width, depth), dtype=np.float32)
        present[where[chosen] - low, member[found.rows[chosen]], column[chosen]] = 1
        result[low:high] = np.rint(present @ present.transpose(0, 2, 1))
    return result


def _blocks(cells: Ints) -> Iterator[tuple[int, int]]:
    """(first group, the one after the last) of each block, where all groups take as many cells as the largest."""
    low = 0
    while low < len(cells):
        high = min(low + _GROUPS_AT_ONCE, len(cells))
        while high - low > 1 and (high - low) * cells[low:high].max() > _MOST_CELLS:
            high = (low + high) // 2
        yield low, high
        low = high
