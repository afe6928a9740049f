"""Fixed-point iteration: the whole text from left to right, in fewer calls than it has words.

Every position has noise of its own, which never changes, and by it draws its word from what the network says of
it given the words before it. So the noise decides the text: the one in which every position draws the very word
that stands there. A call asks the network for all positions at once, each given the words before it *as they
stand*, and every position draws anew. What stands to the left of the first change is final, and so is the word
that changed, since nothing before it moved; when nothing changes, all is. That is an exact draw of the
network's distribution from left to right, and as most words hardly depend on those that are still moving, few
calls suffice (Wiggers & Hoogeboom, 2020, "Predictive Sampling with Forecasting Autoregressive Models", with the
draws as forecasts; Song et al., 2021, "Accelerating Feedforward Computation via Parallel Nonlinear Equation
Solving"; Santilli et al., 2023, "Accelerating Transformer Inference for Translation via Parallel Decoding", for the
likeliest words).

What stands behind the first change is a draft, which decides nothing but how many calls it takes. Where a word was
missing or is one too many the rest is not wrong but a place off, and every position would draw anew what its
neighbour had: the draft moves with the words instead (`realigned`).

The end is a word like others, so that an answer is as long as its words make it.

Legend: n rows, l positions, m of them asked for, v vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from diffuseq.sampling.step import Estimate
from diffuseq.sampling.words import WordStep, draw_apart, sum_log_p

Read = Callable[[Tensor, Tensor, Tensor], Iterable[Tensor]]
"""(tokens [n l], stale [n l], asked [n l]) → log-probabilities [m v] of the words at the positions that are asked
for, row by row, each given those before it, in consecutive parts; −1 stands for a word that is not known. stale:
what is not as it was in the last call."""

_OUSTED = math.log(0.05)
"""A word that is less likely than that where it stood is not one of several that could stand there."""


def fixed_point(
    read: Read,
    embed: Callable[[Tensor], Tensor],
    window: Tensor,
    calls: int,
    *,
    quantiles: Tensor,
    temperature: float = 1.0,
    repeats: bool = True,
    pinned: Tensor | None = None,
    end: int | None = None,
    draft: Tensor | None = None,
    drafted: Tensor | None = None,
) -> Iterator[WordStep]:
    """Yield a `WordStep` after each of `calls` calls; the last are the same where nothing moves any more.

    window [n]: positions of each row. quantiles [n l]: the noise, a number in 0…1 for each. end: the id that ends
    an answer, before which there is at least one word; what has no end within its window ends there. None: all of
    the window is words. pinned [n l] holds ids of words that are given, −1 elsewhere; every position knows them.
    draft [n l] holds what stands there before the first call, −1 where nothing does; by default nothing but what is
    given, so that with one call all words are drawn independently. drafted [n]: the first call asks for so many
    positions only and for those of the draft, for most answers are shorter than their window; all by default.
    temperature and repeats as in `settle`. Two neighbours that became the same word in the very last call never saw
    each other so; without repeats the right one is left out there, which ends texts that are not at rest
    ("language???").
    """
    rows, length = len(window), int(window.max())
    place = torch.arange(length, device=window.device)
    given = torch.full((rows, length), -1, device=window.device) if pinned is None else pinned
    is_given, tokens = given >= 0, given
    if draft is not None:
        tokens = torch.where(is_given | (place >= window[:, None]), given, draft)
        drafted = None if drafted is None else drafted.maximum((draft >= 0).sum(1)).minimum(window)
    log_p = torch.zeros_like(quantiles)
    given_after = F.pad(given[:, 1:], (0, 1), value=-1)
    may_move = ~is_given.any(1, keepdim=True)  # given words keep what is between them in place
    # what may move: from behind the first change to the end
    first, until = torch.full_like(window, -1), (window if drafted is None else drafted) - 1
    words = window
    for index in range(calls):
        stale = (place >= first[:, None]) & (place <= until[:, None])
        asked = stale & (place > first[:, None]) & ~is_given
        if asked.any():
            never = []
            if end is not None:
                never.append(torch.where(place == 0, end, -1).expand_as(asked)[asked])
            if not repeats:
                never += [F.pad(tokens[:, :-1], (1, 0), value=-1)[asked], given_after[asked]]
            stood: list[Tensor] = []
            parts = _noting(read(tokens, stale, asked), tokens[asked], stood)
            chosen, chosen_log_p = draw_apart(parts, never, quantiles[asked], temperature)
            before = Drawn(tokens, log_p)
            drawn = Drawn(tokens.masked_scatter(asked, chosen), log_p.masked_scatter(asked, chosen_log_p))
            first = _first(asked & (drawn.tokens != tokens), length)
            is_ousted = torch.zeros_like(asked).masked_scatter(asked, torch.cat(stood) < _OUSTED)
            tokens, log_p = realigned(drawn, before, first, is_ousted & may_move, window)
            if end is not None:
                words = _first(tokens == end, length).minimum(window)
                until = words.minimum(window - 1)
        stutters = torch.zeros_like(is_given)
        if not repeats and end is not None and index == calls - 1:
            stutters = F.pad(tokens[:, 1:] == tokens[:, :-1], (1, 0)) & ~is_given
        written = tokens.clamp_min(0)
        x = embed(written)
        yield WordStep(
            index,
            calls,
            1.0 - index / calls,
            x,
            Estimate(x),
            tokens=written,
            log_p=log_p,
            settled=(place <= first[:, None]) | is_given,
            padding=(place >= words[:, None])
            | (tokens < 0)  # where the end has just left, there are no words yet
            | stutters,
            text_log_p=sum_log_p(log_p, stutters | (place > until[:, None])),
        )


class Drawn(NamedTuple):
    """Words [n l], −1 where none is known, and the log-probability of each when it was drawn [n l]."""

    tokens: Tensor
    log_p: Tensor


def realigned(drawn: Drawn, before: Drawn, first: Tensor, is_ousted: Tensor, window: Tensor) -> Drawn:
    """The words that were drawn, those behind the first change moved along if it moved them.

    first [n] is its place, l where nothing changed; window [n] as in `fixed_point`. Unless the word before
    is_ousted there [n l], one took the place of another, and all stays. Else, where the new word stood further on
    before, those between were too many, and what was drawn behind it follows. Else it was missing, and what stood
    in its place follows with what was drawn behind that.
    """
    length = drawn.tokens.shape[1]
    place = torch.arange(length, device=first.device)
    at = first.clamp_max(length - 1)[:, None]
    is_behind = place > at
    found = is_behind & (before.tokens == drawn.tokens.gather(1, at))
    # nothing stood there, or could still
    stays = (before.tokens.gather(1, at) < 0) | ~is_ousted.gather(1, at)
    by = torch.where(found.any(1, keepdim=True), found.int().argmax(1, keepdim=True) - at, -1)
    origin = place + by.masked_fill(stays, 0)
    is_pushed, is_beyond = is_behind & (origin == at), origin >= window[:, None]
    origin = origin.clamp(0, length - 1)

    def move(now: Tensor, old: Tensor, nothing: int) -> Tensor:
        moved = torch.where(is_pushed, old.gather(1, at), now.gather(1, origin))
        return torch.where(is_behind, moved.masked_fill(is_beyond, nothing), now)

    return Drawn(move(drawn.tokens, before.tokens, -1), move(drawn.log_p, before.log_p, 0))


def _noting(parts: Iterable[Tensor], words: Tensor, noted: list[Tensor]) -> Iterator[Tensor]:
    """The parts [.. v] as they come, and noted from each what it says of one word for every position [m], of which
    those below 0 are none."""
    done = 0
    for part in parts:
        these = words[done : done + len(part), None].clamp_min(0)
        noted.append(part.gather(1, these)[:, 0].float())
        done += len(part)
        yield part


def _first(found: Tensor, otherwise: int) -> Tensor:
    """The first place of every row [n l] where something is found; `otherwise` where nothing is."""
    return torch.where(found.any(1), found.int().argmax(1), otherwise)
