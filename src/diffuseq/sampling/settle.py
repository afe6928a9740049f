"""Confident tokens settle first: a sampler for networks that know a noise level for every token.

Every position starts as pure noise. After each call a word is drawn at every open position, and the ones
the network is surest of become clean and stay; the others get fresh noise. After the last call all are
clean. The order of confidence is that of mask-predict (Ghazvininejad et al., 2019) and MaskGIT (Chang et
al., 2022); here the open positions are Gaussian noise, so that the same network also serves samplers with
one level for all.

Legend: n rows, l positions, d embedding width, v vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from diffuseq.sampling.noise import Quantiles
from diffuseq.sampling.step import Estimate, Noise
from diffuseq.sampling.words import WordStep, draw_apart, gumbel, sum_log_p

_SURE = 1e9
"""Surer than any log-probability with its share of chance."""

Predict = Callable[[Tensor, Tensor], Iterable[Tensor]]
"""(x [n l d], is_open [n l]) → logits [m v] of the m open positions, row by row, in consecutive parts; the others
are clean."""


def settle(
    predict: Predict,
    embed: Callable[[Tensor], Tensor],
    x: Tensor,
    padding: Tensor,
    calls: int,
    *,
    noise: Noise,
    quantiles: Quantiles,
    temperature: float = 1.0,
    repeats: bool = True,
    order_noise: float = 0.0,
    leftmost_first: bool = False,
    sure_enough: float = 1.0,
    pinned: Tensor | None = None,
) -> Iterator[WordStep]:
    """Yield a `WordStep` after each of `calls` calls.

    predict is asked for open positions alone: the vocabulary's softmax is the dearest part of a call, and a
    settled word stays whatever the network says. embed(ids) gives clean words [n l d]; x is pure noise, and
    quantiles what words are drawn by; padding [n l] is True past the end of a row; pinned [n l] holds ids of words
    that are given, −1 elsewhere.

    temperature 0 takes the likeliest word everywhere; 1 draws from the network's distribution. repeats: whether
    a token may stand twice in a row; if not, no position takes the word of a settled neighbour, and of two that
    draw the same word side by side the surer settles first. order_noise: scale of the Gumbel noise on what
    decides who settles first (as in MaskGIT), falling to none with the last call; it keeps the likeliest way to
    begin an answer from being every candidate's. leftmost_first: in every call the leftmost open word settles,
    and the surest only where more than one word is due: two words that settle together do not know of one another,
    and the surest is the least likely to mind. sure_enough: words of more than this probability settle at once, due
    or not, unless they are a surer word's twin.
    """
    tokens = torch.zeros_like(padding, dtype=torch.long) if pinned is None else pinned.clamp_min(0)
    settled = padding.clone() if pinned is None else padding | (pinned >= 0)
    x = torch.where(settled[..., None], embed(tokens), x)
    num_closed = settled.sum(1, keepdim=True)
    num_open = padding.shape[1] - num_closed
    log_p = torch.zeros_like(tokens, dtype=torch.float32)
    for index in range(calls):
        is_open = ~settled
        if not is_open.any():  # answers shorter than `calls` are done before the last one
            yield _step(index, calls, x, embed(tokens), tokens, log_p, settled, padding)
            continue
        quantile = quantiles()
        never = []
        if not repeats:
            words = F.pad(tokens.masked_fill(is_open | padding, -1), (1, 1), value=-1)
            never = [words[:, :-2][is_open], words[:, 2:][is_open]]
        chosen, chosen_log_p = draw_apart(predict(x, is_open), never, quantile[is_open], temperature)
        tokens = tokens.masked_scatter(is_open, chosen)
        log_p = log_p.masked_scatter(is_open, chosen_log_p)
        sureness = log_p
        if order_noise:
            sureness = log_p + order_noise * (1 - index / calls) * gumbel(noise(x[..., :1])[..., 0])
        at_once = is_open & (log_p.exp() > sure_enough) if sure_enough < 1 else torch.zeros_like(is_open)
        sureness = sureness.masked_fill(at_once, _SURE)
        if leftmost_first:
            leftmost = is_open & (is_open.cumsum(1) == 1)
            at_once, sureness = at_once | leftmost, sureness.masked_fill(leftmost, 2 * _SURE)
        if not repeats:
            twins = is_less_sure_twin(tokens, sureness, is_open)
            at_once, sureness = at_once & ~twins, sureness.masked_fill(twins, -math.inf)
        # how many are to be settled by now, the same share of every row's own open positions
        due = num_closed + (num_open * (index + 1) / calls).ceil().long()
        goal = torch.maximum(due, (settled | at_once).sum(1, keepdim=True))
        order = (
            sureness.masked_fill(settled, math.inf)
            .argsort(dim=1, descending=True, stable=True)
            .argsort(dim=1)
        )
        settled = settled | (order < goal)
        x = torch.where(settled[..., None], embed(tokens), noise(x))
        yield _step(index, calls, x, embed(tokens), tokens, log_p, settled, padding)


def _step(
    index: int,
    calls: int,
    x: Tensor,
    clean: Tensor,
    tokens: Tensor,
    log_p: Tensor,
    settled: Tensor,
    padding: Tensor,
) -> WordStep:
    text_log_p = sum_log_p(log_p, padding)
    time, estimate = 1.0 - index / calls, Estimate(clean)
    return WordStep(index, calls, time, x, estimate, tokens, log_p, settled, padding, text_log_p)


def is_less_sure_twin(tokens: Tensor, log_p: Tensor, is_open: Tensor) -> Tensor:
    """The open positions [n l] whose open neighbour has the same word and is surer of it (of equals: the left)."""
    twins = (tokens[:, 1:] == tokens[:, :-1]) & is_open[:, 1:] & is_open[:, :-1]
    left_wins = log_p[:, :-1] >= log_p[:, 1:]
    return F.pad(twins & ~left_wins, (0, 1)) | F.pad(twins & left_wins, (1, 0))
