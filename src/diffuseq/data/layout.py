"""The published sequence: `[CLS] x [SEP] [SEP] [CLS] y [SEP] [PAD] …`, source and target in one row.

Everything from the target's [CLS] on counts as target, padding included: [PAD] is a word like any other.

Legend: b rows, s source length, t target length, l length of the whole sequence, a length of an answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diffuseq.data.batch import Batch
from diffuseq.errors import InputError
from diffuseq.system import SpecialTokens

NUM_SEPARATORS = 5
"""[CLS], [SEP], [SEP], [CLS] and [SEP]: positions of a sequence that hold no word of source or target."""
_QUARTER = 4
"""A source may fill the sequence but for this fraction, which stays for an answer of open length."""


@dataclass(frozen=True)
class Sequences:
    """ids: long [b l]; target: bool [b l], True from the target's [CLS] on, padding included; target_start:
    long [b], the position of that [CLS].
    """

    ids: Tensor
    target: Tensor
    target_start: Tensor


@dataclass(frozen=True)
class Question:
    """Sequences whose answer is open.

    ids: long [b l], the known words in their places; known: bool [b l]; answer: long [b a], the positions of
    the answer's words; pinned: long [b a], words that are given, −1 where free; outside: bool [b a], True
    where the sequence has no such position; fixed_length: whether the answer has exactly a words.
    """

    ids: Tensor
    known: Tensor
    answer: Tensor
    pinned: Tensor
    outside: Tensor
    fixed_length: bool


def fit_lengths(source: Tensor, target: Tensor, room: int) -> tuple[Tensor, Tensor]:
    """Lengths [b] of source and target after the published cut to at most `room` words together.

    The longer side loses its last words until both fit; once they are equally long, both lose one at a
    time. (So with an odd room the two of equal length end with one word less than there is room for.)
    """
    half = room // 2
    shorter = torch.minimum(source, target)
    longest = torch.where(2 * shorter > room, torch.full_like(shorter, half), room - shorter)
    fits = source + target <= room
    return (
        torch.where(fits, source, torch.minimum(source, longest)),
        torch.where(fits, target, torch.minimum(target, longest)),
    )


def lay_out(batch: Batch, special: SpecialTokens, length: int) -> Sequences:
    """Pairs as published sequences of `length` positions, the longer side cut first.

    Raises `InputError` when not even one word of each side fits.
    """
    source, target = fit_lengths(
        (~batch.source_padding).sum(1), (~batch.target_padding).sum(1), _words_that_fit(length)
    )
    return _place(batch.source, source, batch.target, target, special, length)


def lay_out_question(
    source: Tensor,
    source_padding: Tensor,
    special: SpecialTokens,
    length: int,
    answer_length: int | None = None,
    template: Tensor | None = None,
) -> Question:
    """Sources [b s] with the answer still open, for generation.

    An answer of open length may fill the sequence; a source is cut where it would leave it less than a
    quarter. `answer_length`, or a template [b a] of words that are pinned (−1 where free), fixes the length:
    then [CLS], [SEP] and what follows it are known as well. Raises `InputError` when no room is left to the
    source.
    """
    fixed = template.shape[1] if template is not None else answer_length
    fits = _words_that_fit(length)
    room = min(length // _QUARTER, fits - 1) if fixed is None else fixed
    if not 1 <= room < fits:
        raise InputError(
            f"The answer is to have {room} tokens; in a sequence of {length} it may have 1 to {fits - 1}."
        )
    lengths = (~source_padding).sum(1).clamp_max(fits - room)
    opened = _place(source, lengths, None, torch.zeros_like(lengths), special, length)
    start = opened.target_start[:, None]
    width = length - 1 - int(start.min()) if fixed is None else fixed
    answer = start + 1 + torch.arange(width, device=source.device)
    pinned = torch.full_like(answer, -1) if template is None else template
    if fixed is None:
        return Question(
            opened.ids, ~opened.target, answer.clamp_max(length - 1), pinned, answer >= length, False
        )
    position = torch.arange(length, device=source.device)[None]
    words = _shifted(pinned, position - start - 1)
    inside = (position > start) & (position <= start + fixed)
    ids = torch.where(inside, words.clamp_min(0), opened.ids)
    ids = torch.where(position == start, special.start, ids)
    ids = torch.where(position == start + fixed + 1, special.end, ids)
    outside = torch.zeros_like(answer, dtype=torch.bool)
    return Question(ids, ~inside | (words >= 0), answer, pinned, outside, True)


def _words_that_fit(length: int) -> int:
    if length < NUM_SEPARATORS + 2:
        raise InputError(
            f"sequence_length is {length}; it must be at least {NUM_SEPARATORS + 2}, for the special tokens "
            "and one word of source and target each."
        )
    return length - NUM_SEPARATORS


def _place(
    source: Tensor,
    source_length: Tensor,
    target: Tensor | None,
    target_length: Tensor,
    special: SpecialTokens,
    length: int,
) -> Sequences:
    """Write words and special tokens at their positions; without a target all after the source is [PAD]."""
    position = torch.arange(length, device=source.device)[None]
    source_end = source_length[:, None] + 1
    target_start = source_end + 2
    ids = torch.full((len(source), length), special.pad, dtype=torch.long, device=source.device)
    ids = torch.where((position > 0) & (position < source_end), _shifted(source, position - 1), ids)
    ids = torch.where((position == source_end) | (position == source_end + 1), special.end, ids)
    ids = torch.where(position == 0, special.start, ids)
    if target is not None:
        target_end = target_start + 1 + target_length[:, None]
        inside = (position > target_start) & (position < target_end)
        ids = torch.where(inside, _shifted(target, position - target_start - 1), ids)
        ids = torch.where(position == target_start, special.start, ids)
        ids = torch.where(position == target_end, special.end, ids)
    return Sequences(ids, position >= target_start, target_start[:, 0])


def _shifted(words: Tensor, index: Tensor) -> Tensor:
    """words[b, index], with any word where the index is outside."""
    return words.gather(1, index.expand(len(words), -1).clamp(0, words.shape[1] - 1))
