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

The end is a word like others, so that an answer is as long as its words make it.

Legend: n rows, l positions, m of them asked for, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from diffuseq.sampling.step import Estimate
from diffuseq.sampling.words import WordStep, draw_apart, sum_log_p

Read = Callable[[Tensor, Tensor, Tensor], Iterable[Tensor]]
"""(tokens [n l], stale [n l], asked [n l]) → log-probabilities [m v] of the words at the positions that are asked
for, row by row, each given those before it, in consecutive parts; −1 stands for a word that is not known. stale:
what is not as it was in the last call."""


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
    drafted: Tensor | None = None,
) -> Iterator[WordStep]:
    """Yield a `WordStep` after each of `calls` calls; the last are the same where nothing moves any more.

    window [n]: positions of each row. quantiles [n l]: the noise, a number in 0…1 for each. end: the id that ends
    an answer, before which there is at least one word; what has no end within its window ends there. None: all of
    the window is words. pinned [n l] holds ids of words that are given, −1 elsewhere; every position knows them.
    drafted [n]: the first call asks for so many positions only, for most answers are shorter than their window;
    all by default. temperature and repeats as in `settle`. In the first call nothing but what is given is known to
    anybody, so that with one call all words are drawn independently. Two neighbours that became the same word in
    the very last call never saw each other so; without repeats the right one is left out there, which ends texts
    that are not at rest ("language???").
    """
    rows, length = len(window), int(window.max())
    place = torch.arange(length, device=window.device)
    tokens = torch.full((rows, length), -1, device=window.device) if pinned is None else pinned
    is_given = tokens >= 0
    log_p = torch.zeros_like(quantiles)
    given_after = F.pad(tokens[:, 1:], (0, 1), value=-1)
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
            chosen, chosen_log_p = draw_apart(
                read(tokens, stale, asked), never, quantiles[asked], temperature
            )
            before, tokens = tokens, tokens.masked_scatter(asked, chosen)
            log_p = log_p.masked_scatter(asked, chosen_log_p)
            first = _first(asked & (tokens != before), length)
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


def _first(found: Tensor, otherwise: int) -> Tensor:
    """The first place of every row [n l] where something is found; `otherwise` where nothing is."""
    return torch.where(found.any(1), found.int().argmax(1), otherwise)
