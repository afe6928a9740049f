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
neighbour had: the draft moves with the words instead (`diffuseq.sampling.realign`). And where a text is given as
the first draft, what comes behind words of it is looked up there (`diffuseq.sampling.lookup`).

The end is a word like others, so that an answer is as long as its words make it.

Legend: n rows, l positions, m of them asked for, v vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from diffuseq.sampling.lookup import looked_up
from diffuseq.sampling.realign import Drawn, realigned
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
    draft [n l] holds what stands there before the first call, −1 where nothing does, and where a text that is not
    at rest ends in words of it, what follows them in it comes next; by default nothing but what is given, so that
    with one call all words are drawn independently. drafted [n]: the first call asks for so many positions only and
    for those of the draft, for most answers are shorter than their window; all by default. temperature and repeats
    as in `settle`. Two neighbours that became the same word in the very last call never saw
    each other so; without repeats the right one is left out there, which ends texts that are not at rest
    ("language???").
    """
    texts = _Texts(window, quantiles, pinned, end)
    texts.begin_with(draft, drafted)
    for index in range(calls):
        stale, asked = texts.moving()
        if asked.any():
            stood: list[Tensor] = []
            parts = _noting(read(texts.tokens, stale, asked), texts.tokens[asked], stood)
            never = texts.ruled_out(asked, repeats)
            words = draw_apart(parts, never, quantiles[asked], temperature)
            texts.take(asked, *words, is_ousted=torch.cat(stood) < _OUSTED)
        yield texts.step(index, calls, embed, repeats or end is None or index < calls - 1)


class _Texts:
    """The texts of all rows as they stand.

    tokens [n l] are −1 where no word is known, log_p [n l] is what each had when it was drawn. What lies between
    the first change, at `first` [n], and `until` [n] may still move; the text of a row is its first `words` [n].
    """

    def __init__(self, window: Tensor, quantiles: Tensor, pinned: Tensor | None, end: int | None) -> None:
        self.window, self.end, self.length = window, end, int(window.max())
        self.place = torch.arange(self.length, device=window.device)
        nothing = torch.full((len(window), self.length), -1, device=window.device)
        self.given = nothing if pinned is None else pinned
        self.is_given, self.given_behind = self.given >= 0, F.pad(self.given, (-1, 1), value=-1)
        self.may_move = ~self.is_given.any(1, keepdim=True)  # given words keep what is between them in place
        self.tokens, self.log_p = self.given, torch.zeros_like(quantiles)
        self.first, self.until, self.words = torch.full_like(window, -1), window - 1, window
        self.draft: Tensor | None = None

    def begin_with(self, draft: Tensor | None, drafted: Tensor | None) -> None:
        """draft and drafted as in `fixed_point`."""
        self.draft = draft
        if draft is not None:
            self.tokens = torch.where(self.is_given | (self.place >= self.window[:, None]), self.given, draft)
            drafted = None if drafted is None else drafted.maximum((draft >= 0).sum(1)).minimum(self.window)
        if drafted is not None:
            self.until = drafted - 1

    def moving(self) -> tuple[Tensor, Tensor]:
        """What is not as it was before the last call, and what of it is to be drawn anew [n l]."""
        stale = (self.place >= self.first[:, None]) & (self.place <= self.until[:, None])
        return stale, stale & (self.place > self.first[:, None]) & ~self.is_given

    def ruled_out(self, asked: Tensor, repeats: bool) -> list[Tensor]:
        """Words that must not stand where it is asked [n l], as `draw_apart` takes them: the end as the first word,
        and without repeats the word before and a given one behind."""
        never = []
        if self.end is not None:
            never.append(torch.where(self.place == 0, self.end, -1).expand_as(asked)[asked])
        if not repeats:
            never += [F.pad(self.tokens, (1, -1), value=-1)[asked], self.given_behind[asked]]
        return never

    def take(self, asked: Tensor, chosen: Tensor, log_p: Tensor, *, is_ousted: Tensor) -> None:
        """The words [m] that were drawn where it was asked [n l]; what is behind the first change moves with it.

        is_ousted [m]: whether the word that stood there hardly could."""
        before = Drawn(self.tokens, self.log_p)
        drawn = Drawn(self.tokens.masked_scatter(asked, chosen), self.log_p.masked_scatter(asked, log_p))
        self.first = _first(asked & (drawn.tokens != before.tokens), self.length)
        ousted = torch.zeros_like(asked).masked_scatter(asked, is_ousted) & self.may_move
        self.tokens, self.log_p = realigned(drawn, before, self.first, ousted, self.window)
        if self.draft is not None:
            self._follow(self.draft)
        if self.end is not None:
            self.words = _first(self.tokens == self.end, self.length).minimum(self.window)
            self.until = self.words.minimum(self.window - 1)

    def _follow(self, draft: Tensor) -> None:
        """Put behind the last word that is final what follows on it in the draft [n l].

        Until these are drawn, their log-probabilities stay those of what was drawn in their places.
        """
        words, is_found = looked_up(self.tokens, self.first.clamp_max(self.length - 1), draft)
        follows = is_found[:, None] & self.may_move & (self.place > self.first[:, None])
        words = words.masked_fill(self.place >= self.window[:, None], -1)
        self.tokens = torch.where(follows, words, self.tokens)

    def step(self, index: int, calls: int, embed: Callable[[Tensor], Tensor], repeats: bool) -> WordStep:
        """The texts as a sampler shows them. Without repeats a word that is that before it is left out."""
        stutters = torch.zeros_like(self.is_given)
        if not repeats:
            stutters = F.pad(self.tokens[:, 1:] == self.tokens[:, :-1], (1, 0)) & ~self.is_given
        written = self.tokens.clamp_min(0)
        x = embed(written)
        # where the end has just left, there are no words yet
        no_word = (self.place >= self.words[:, None]) | (self.tokens < 0) | stutters
        return WordStep(
            index,
            calls,
            1.0 - index / calls,
            x,
            Estimate(x),
            tokens=written,
            log_p=self.log_p,
            settled=(self.place <= self.first[:, None]) | self.is_given,
            padding=no_word,
            text_log_p=sum_log_p(self.log_p, stutters | (self.place > self.until[:, None])),
        )


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
