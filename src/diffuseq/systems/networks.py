"""Our denoiser as samplers call it.

`Network` serves the samplers with one level for all positions (`Denoise`) and settle (`Predict`), `Reader`
fixed-point (`Read`).

Legend: n rows, l target length, m positions, d embedding width, w width, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from diffuseq.chunks import whole
from diffuseq.model.denoiser import Encoded, Level
from diffuseq.model.order import Order, places_of
from diffuseq.model.packing import rows_to_keep
from diffuseq.sampling.step import Estimate

if TYPE_CHECKING:
    from diffuseq.systems.diffuseq import DiffuSeq

_NEVER = -1e30
"""The log-probability of tokens without text, which would only shorten an answer: out of reach at any temperature,
and finite, for guidance takes differences."""


def _log_p(probability: Tensor, silent: list[int]) -> Tensor:
    """The logarithms of probabilities [… v], in their place, those of silent tokens out of reach."""
    probability.log_()[..., silent] = _NEVER
    return probability


class Network:
    """The denoiser as samplers call it, its last estimate fed back where it has learned to use one.

    Called with one level for all positions it gives words and x_0 estimates (`Denoise`); `words` serves
    settle (`Predict`). temperature sharpens the distribution whose mean the estimate is; at 0 it is the
    likeliest word. Pinned words (ids [n l], −1 where free) are told to be clean whatever the level of the
    others, as in training with token-wise noise, and are their own estimate.

    With `cache`, `words` computes what was open when it was last called and takes the rest as it stands: a
    word that has settled is computed once more, clean, and then keeps its keys and values, though the words
    around it change. A self-conditioned network, whose estimates go on changing, computes everything; one whose
    positions see only what settled before (`rank`) has nothing to compute anew.
    """

    def __init__(
        self,
        system: DiffuSeq,
        encoded: Encoded,
        padding: Tensor,
        table: Tensor,
        temperature: float,
        pinned: Tensor | None,
        cache: bool = False,
    ) -> None:
        self.system, self.encoded, self.padding = system, encoded, padding
        self.table, self.temperature = table, temperature
        self.stale: Tensor | None = None
        self.rank: Tensor | None = None
        if system.denoiser.in_order:
            self.rank = torch.full(padding.shape, torch.inf, device=padding.device)
            self.length = (~padding).sum(1)
        if system.denoiser.in_order or (cache and not system.config.self_condition):
            self.stale, self.encoded = ~padding, encoded.with_room(padding.shape[1])
        self.is_pinned = None if pinned is None else pinned >= 0
        self.known = None if pinned is None else table[pinned.clamp_min(0)]
        self.last: Tensor | None = None
        self.clean_or_noise = system.clean_or_noise()
        self.silent = system.special.without_text()

    def __call__(self, x: Tensor, time: float) -> Estimate:
        """x [n l d] at one time in 0…1."""
        times = torch.full(x.shape[:1], time, device=x.device)[:, None]
        if self.is_pinned is not None:
            times = times.masked_fill(self.is_pinned, 0.0)
        hidden = self._decode(x, self._level(times))
        probability = whole(self._distributions(hidden, torch.ones_like(self.padding)))
        probability = probability.view(*x.shape[:2], -1)
        x0 = self._mean(probability)
        if self.is_pinned is not None and self.known is not None:
            x0 = torch.where(self.is_pinned[..., None], self.known, x0)
        self._remember(x0)
        return Estimate(x0, _log_p(probability, self.silent))

    def words(self, x: Tensor, is_open: Tensor) -> Iterator[Tensor]:
        """Log-probabilities [m v] at the open positions [n l], which are pure noise, in consecutive parts; the
        others are clean."""
        if self.stale is None:
            hidden, where = self._decode(x, self.clean_or_noise.at(is_open.long())), is_open
        else:
            self._rank_settled(self.stale & ~is_open)
            hidden, where = self._decode_stale(x, is_open, self.stale)
            self.stale = is_open
        probabilities = self._distributions(hidden, where)
        if self.system.config.self_condition:
            probability = whole(probabilities)
            x0 = x.clone()
            x0[is_open] = self._mean(probability).to(x0.dtype)
            self._remember(x0)
            probabilities = iter([probability])
        return (_log_p(probability, self.silent) for probability in probabilities)

    def _rank_settled(self, new: Tensor) -> None:
        """Words that settled [n l] in the last call come after all before, and from left to right."""
        if self.rank is not None:
            last = torch.where(self.rank.isinf(), -1.0, self.rank).amax(1, keepdim=True)
            self.rank = torch.where(new, last + new.cumsum(1), self.rank)

    def _level(self, times: Tensor) -> Level:
        return self.system.denoiser.level(self.system.schedule.log_snr(times).float())

    def _decode(self, x: Tensor, level: Level) -> Tensor:
        """States [n l w] for x at its level [n 1] or [n l]."""
        if self.system.config.self_condition and self.last is None:
            self.last = torch.zeros_like(x)
        return self.system.denoiser.decode(x, level, self.padding, self.encoded, self.last)

    def _decode_stale(self, x: Tensor, is_open: Tensor, stale: Tensor) -> tuple[Tensor, Tensor]:
        """States [n m w] of the positions that are to be computed, and which of them [n m] are open."""
        places = places_of(stale)
        opened = F.pad(is_open, (0, 1)).gather(1, places)
        scale, features, modulation = self.clean_or_noise
        everywhere = is_open.long()
        level = Level(scale[everywhere], features[everywhere], modulation[opened.long()])
        order = None if self.rank is None else Order.of_words(self.rank, self.length)
        hidden = self.system.denoiser.decode_places(x, level, self.padding, self.encoded, places, order=order)
        return hidden, opened

    def _distributions(self, hidden: Tensor, where: Tensor) -> Iterator[Tensor]:
        """p of every word [m v] at the positions `where` [n l] of the states [n l w], in parts."""
        return self.system.denoiser.distributions(hidden, self.encoded, where, self.table)

    def _mean(self, probability: Tensor) -> Tensor:
        """The x_0 estimate [… d] of p [… v]: the mean of the embeddings of words that have text; p of the others
        becomes 0."""
        probability[..., self.silent] = 0.0
        if self.temperature == 0:
            return self.table[probability.argmax(-1)]
        if self.temperature == 1:
            return probability @ self.table
        return (probability.log() / self.temperature).softmax(-1) @ self.table

    def _remember(self, x0: Tensor) -> None:
        if self.system.config.self_condition:
            self.last = x0


class Reader:
    """Every word given those before it, from left to right, pinned words before all others (`Read`).

    noise [n l d]: what the positions are before they are words; it never changes. length [n]: the number of
    words, or of positions where `is_open_ended`: the end is a word then, and nobody knows the number.
    """

    def __init__(
        self,
        system: DiffuSeq,
        encoded: Encoded,
        noise: Tensor,
        length: Tensor,
        table: Tensor,
        pinned: Tensor | None,
        is_open_ended: bool,
    ) -> None:
        self.system, self.noise, self.table = system, noise, table
        rows, positions = noise.shape[:2]
        place = torch.arange(positions, device=noise.device).expand(rows, -1).float()
        is_given = torch.zeros_like(place, dtype=torch.bool) if pinned is None else pinned >= 0
        rank = torch.where(is_given, place - positions, place)
        self.order = Order.of_words(rank, length, is_known=not is_open_ended)
        self.encoded = encoded.with_room(2 * positions)
        self.levels = system.clean_or_noise()
        self.rows = torch.arange(rows, device=noise.device)
        self.silent = system.special.without_text(end=not is_open_ended)

    def __call__(self, tokens: Tensor, stale: Tensor, asked: Tensor) -> Iterator[Tensor]:
        self._forget_rows_at_rest(asked.any(1))
        tokens, stale, asked = (part[self.rows] for part in (tokens, stale, asked))
        denoiser, is_known = self.system.denoiser, tokens >= 0
        words = self.table[tokens.clamp_min(0)]
        order = self.order._replace(seen=self.order.seen.masked_fill(~is_known, torch.inf))
        places = places_of(asked)
        states = denoiser.decode_places_in_order(
            words, self.noise, self.levels, self.encoded, order, places_of(stale & is_known), places
        )
        found = denoiser.distributions(states, self.encoded, places < tokens.shape[1], self.table)
        return (_log_p(probability, self.silent) for probability in found)

    def _forget_rows_at_rest(self, is_moving: Tensor) -> None:
        """Rows in which nothing is asked for any more are not computed."""
        kept = rows_to_keep(is_moving[self.rows])
        if kept is not None:
            self.rows, self.noise = self.rows[kept], self.noise[kept]
            self.order = self.order.select(kept)
            self.encoded = self.encoded.select(kept)
