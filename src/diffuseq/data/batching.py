"""Which pairs stand in which batch: a pure function of (seed, step), and the batches themselves.

Every epoch shuffles all examples, groups them by similar lengths, and shuffles the batches. Nothing but a
cache is kept between batches, so that a run resumes in the middle of an epoch without reading what came
before, on any number of processes: the rows of a step are those of all processes, which split them.

Legend: n pairs, b pairs of a batch, s source length, l target length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffuseq.data.batch import Batch
from diffuseq.data.store import TokenStore
from diffuseq.errors import InputError

GROUP_BATCHES = 64
"""Batches that are sorted by length together: more means less padding, but batches that are less mixed."""


class BatchPlan:
    """The examples of every optimiser step.

    An epoch is ceil(examples / batch_size) batches of exactly `batch_size` examples; the last one is filled
    up with examples from the epoch's beginning, so none is left out. With `both_directions` an epoch has 2n
    examples: example n + i is pair i from target to source. Raises `InputError` for no pairs.
    """

    def __init__(
        self,
        source_lengths: NDArray[Any],
        target_lengths: NDArray[Any],
        batch_size: int,
        seed: int,
        both_directions: bool = False,
    ):
        if len(source_lengths) == 0:
            raise InputError("There are no pairs to make batches of; give data with at least one pair.")
        if batch_size < 1:
            raise InputError(f"training.batch_size is {batch_size}; it must be at least 1.")
        self._lengths = (source_lengths, target_lengths)
        self._epoch: _Epoch | None = None
        self.num_examples = len(source_lengths) * (2 if both_directions else 1)
        self.batch_size = batch_size
        self.seed = seed

    @property
    def batches_per_epoch(self) -> int:
        return -(-self.num_examples // self.batch_size)

    def rows(self, step: int) -> NDArray[np.int64]:
        """The examples of optimiser step `step` (0 is the first), over all processes: int64 [batch_size]."""
        return self.batch(*divmod(step, self.batches_per_epoch))

    def batches(self, epoch: int, start: int = 0) -> Iterator[NDArray[np.int64]]:
        """The examples of batch `start`, `start` + 1, … of an epoch."""
        for number in range(start, self.batches_per_epoch):
            yield self.batch(epoch, number)

    def batch(self, epoch: int, number: int) -> NDArray[np.int64]:
        """The examples of one batch: int64 [batch_size]. Shuffles on an epoch's first use, then looks up."""
        if self._epoch is None or self._epoch.number != epoch:
            self._epoch = self._shuffle(epoch)
        examples, place = self._epoch.examples, int(self._epoch.order[number])
        group = place // GROUP_BATCHES
        if group not in self._epoch.sorted_groups:
            first = group * GROUP_BATCHES * self.batch_size
            members = examples[first : first + GROUP_BATCHES * self.batch_size]
            members[:] = members[np.argsort(self._sort_key(members), kind="stable")]
            self._epoch.sorted_groups.add(group)
        return examples[place * self.batch_size : (place + 1) * self.batch_size].astype(np.int64)

    def _shuffle(self, epoch: int) -> _Epoch:
        random = np.random.Generator(np.random.PCG64([self.seed, epoch]))
        index_type = np.int32 if self.num_examples < 1 << 31 else np.int64
        examples = random.permutation(np.arange(self.num_examples, dtype=index_type))
        examples = np.resize(examples, self.batches_per_epoch * self.batch_size)  # from the beginning again
        return _Epoch(epoch, examples, random.permutation(self.batches_per_epoch), set())

    def _sort_key(self, examples: NDArray[Any]) -> NDArray[np.int64]:
        """By the longer side first: the simple order that leaves least padding, equal both ways round."""
        source, target = (side[examples % len(side)].astype(np.int64) for side in self._lengths)
        return (np.maximum(source, target) << 32) + source + target


@dataclass
class _Epoch:
    """An epoch's examples, of which a group is sorted when it is first needed, and its order of batches."""

    number: int
    examples: NDArray[Any]
    order: NDArray[np.int64]
    sorted_groups: set[int]


@dataclass(frozen=True)
class StoredPairs:
    """A store and its plan as what the training loop asks for (`training.feed.Data`)."""

    store: TokenStore
    plan: BatchPlan
    pad_id: int
    multiple: int = 1
    """Lengths are rounded up to a multiple of it."""

    @cached_property
    def longest(self) -> int:
        """The length of the longest text. There are systems that take no longer one."""
        return max(
            int(side.max(initial=1)) for side in (self.store.source_lengths, self.store.target_lengths)
        )

    def rows(self, step: int) -> Sequence[int]:
        """The examples of an optimiser step over all processes."""
        return self.plan.rows(step)  # type: ignore[return-value]

    def collate(self, rows: Sequence[int]) -> Batch:
        """These examples as one batch."""
        return collate(self.store, rows, self.pad_id, self.multiple, self.longest)

    def pairs(self, rows: Sequence[int]) -> Sequence[int]:
        """The pairs in the store that these examples are, turned round or not."""
        return [int(row) % len(self.store) for row in rows]


def collate(
    store: TokenStore,
    examples: Sequence[int] | NDArray[Any],
    pad_id: int,
    multiple: int = 1,
    longest: int | None = None,
) -> Batch:
    """The batch of some examples; example len(store) + i is pair i from target to source.

    multiple: lengths are rounded up to a multiple of it, those of targets with their ends, for fewer different
    shapes on a GPU, but to no more than `longest`.
    """
    index = np.asarray(examples, dtype=np.int64)
    rows, turned = index % len(store), index >= len(store)
    source, source_padding = _gather(store, 2 * rows + turned, pad_id, multiple, longest)
    target, target_padding = _gather(store, 2 * rows + 1 - turned, pad_id, multiple, longest, ends=1)
    return Batch(source, source_padding, target, target_padding)


def _gather(
    store: TokenStore, texts: NDArray[Any], pad_id: int, multiple: int, longest: int | None, ends: int = 0
) -> tuple[Tensor, Tensor]:
    """Ids [b s] and padding [b s] of texts (2i is source i, 2i + 1 is target i), read in one go; s and so many
    places for an end are a multiple, or s is the longest length."""
    starts = store.offsets[texts]
    lengths = store.offsets[texts + 1] - starts
    width = max(1, int(lengths.max(initial=1)))
    rounded = -(-(width + ends) // multiple) * multiple - ends
    position = np.arange(rounded if longest is None else min(rounded, max(width, longest)))
    padding = position >= lengths[:, None]
    ids = np.full(padding.shape, pad_id, dtype=np.int64)
    ids[~padding] = store.tokens[(starts[:, None] + position)[~padding]]
    if ids.max(initial=0) >= store.vocab_size:
        raise InputError(
            f"The token store {store.path} is damaged: it has the id {ids.max()}, of a vocabulary of "
            f"{store.vocab_size}; delete it, so that it is built again."
        )
    return torch.from_numpy(ids), torch.from_numpy(padding)
