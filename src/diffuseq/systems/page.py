"""What answers of our DiffuSeq are written on: how long it is, and what stands there before anything is written.

Legend: b sources, k candidates a source, n = b·k rows, l target length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from diffuseq.config import DiffusionGeneration
from diffuseq.decoding.lengths import apportion
from diffuseq.model.denoiser import Encoded
from diffuseq.system import Request

if TYPE_CHECKING:
    from diffuseq.systems.diffuseq import DiffuSeq


class Page(NamedTuple):
    """What n answers are written on, before anything is written.

    lengths [n] and padding [n l] of the rows. drafted: where answers end where they end, and lengths are what they
    have room in, how many positions are drafted at first [n]. draft: ids of words that stand there before the first
    call [n l] (−1: none; None: none at all). pinned: ids of words that are given [n l] (−1: free; None: all are).
    """

    lengths: Tensor
    padding: Tensor
    drafted: Tensor | None
    draft: Tensor | None
    pinned: Tensor | None

    @classmethod
    def of(cls, system: DiffuSeq, request: Request, encoded: Encoded, most: int | None = None) -> Page:
        """most: what answers have room for that others write as well; as much as the system takes by default."""
        most = system.config.max_length if most is None else most
        lengths, drafted = answer_lengths(system, request, encoded, most)
        padding = torch.arange(int(lengths.max()), device=lengths.device) >= lengths[:, None]
        draft = first_draft(request, padding.shape[1], None if drafted is None else system.special.end)
        return cls(lengths, padding, drafted, draft, pinned_words(request))

    @property
    def is_open_ended(self) -> bool:
        """Whether answers end where they end, instead of having a length."""
        return self.drafted is not None


def pinned_words(request: Request) -> Tensor | None:
    """The words that are given [n l], −1 where free; None: none is."""
    if request.template is None:
        return None
    return request.template.to(request.source.device).repeat_interleave(request.candidates, 0)


def first_draft(request: Request, length: int, end: int | None) -> Tensor | None:
    """What stands in the place of an answer before the first call [n l], None for nothing: the source's words and
    an end behind them (None: none), −1 further on. Where words are given, places are not the source's."""
    settings: DiffusionGeneration = request.settings
    if settings.sampler != "fixed-point" or settings.draft != "source" or request.template is not None:
        return None
    words = F.pad(request.source.masked_fill(request.source_padding, -1), (0, length), value=-1)
    if end is not None:
        words.scatter_(1, (~request.source_padding).sum(1, keepdim=True), end)
    return words[:, :length].repeat_interleave(request.candidates, 0)


_ROOM, _DRAFTED = 0.99, 0.7
"""Shares of all answers that have room, and that are no longer than what is drafted."""


def answer_lengths(
    system: DiffuSeq, request: Request, encoded: Encoded, most: int
) -> tuple[Tensor, Tensor | None]:
    """Lengths of the answers [n], and None: the template's, the one asked for, or the `length_beam` likeliest ones
    in proportion to their probability. With fixed-point, where none is given: the positions that they have room in,
    and how many of these are drafted at first [n]. Predicted ones are `most` at most."""
    settings, k = request.settings, request.candidates
    given = given_length(request)
    if given is not None:
        return torch.full((len(request.source) * k,), given, device=request.source.device), None
    known = encoded.states, request.source_padding, (~request.source_padding).sum(1)
    if settings.sampler == "fixed-point":
        covered = system.length_head.log_probs(*known).exp().cumsum(1)
        room, drafted = (  # lengths are counted from one, and then comes the end
            ((covered < share).sum(1) + 2).clamp_max(most).repeat_interleave(k) for share in (_ROOM, _DRAFTED)
        )
        return room, drafted
    beam = max(1, min(settings.length_beam, k, system.config.max_length))
    lengths, log_p = system.length_head.top(*known, beam)
    return lengths.gather(1, apportion(log_p, k)).flatten(), None


def given_length(request: Request) -> int | None:
    """The length of the answers where it is not to be predicted."""
    asked: int | None = request.settings.length
    return asked if request.template is None else request.template.shape[1]
