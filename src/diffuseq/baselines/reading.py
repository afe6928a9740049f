"""What autoregressive systems say of whole texts at once: every word given those before it, as they stand.

That is how they take part in an ensemble (`diffuseq.systems.ensemble`), whose texts are drawn by fixed-point
iteration.

Legend: n rows, r of them still moving, l positions, m of them asked for, p of them computed, h heads, e width of a
head, d width, v vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from diffuseq.attention import attend
from diffuseq.chunks import parts
from diffuseq.model.blocks import Memory
from diffuseq.model.order import places_of
from diffuseq.model.packing import Packing, rows_to_keep
from diffuseq.system import Request

if TYPE_CHECKING:
    from diffuseq.baselines.autoregressive import Autoregressive
    from diffuseq.baselines.transformer import CrossAttention, SelfAttention, Transformer


class PrefixReader:
    """An autoregressive system as fixed-point calls it (`Read`). Where a word before is not known yet it has
    nothing to say: −∞ for all words."""

    def __init__(self, system: Autoregressive, request: Request, positions: int, is_open_ended: bool) -> None:
        """Raises `InputError` for texts that are longer than the network takes."""
        system.check_lengths(request.source.shape[1], positions)
        self.system = system
        memory = system.remember(request.source, request.source_padding)
        self.memory = tuple(part.repeat_interleave(request.candidates, 0) for part in memory)
        self.silent = system.special.without_text(end=not is_open_ended)

    @torch.no_grad()
    def __call__(self, tokens: Tensor, stale: Tensor, asked: Tensor) -> Iterator[Tensor]:
        before = F.pad(tokens[:, :-1], (1, 0), value=self.system.start)
        is_known = (before >= 0).cumprod(1).bool()
        states = self.states(before.clamp_min(0), stale & is_known, asked)
        known = is_known[asked]
        for part in parts(len(states), self.system.special.vocab_size, states.device):
            yield self._log_p(states[part], known[part])

    def states(self, before: Tensor, stale: Tensor, asked: Tensor) -> Tensor:
        """Hidden states [m d] of the places that are asked for [n l], by the words before them [n l]; those that
        are not `stale` [n l] are as they were, or mean nothing."""
        moving, width = asked.any(1), int(asked.any(0).nonzero().max()) + 1
        memory = tuple(part[moving] for part in self.memory)
        return self.system.decode_after(memory, before[moving, :width])[asked[moving, :width]]

    def _log_p(self, states: Tensor, known: Tensor) -> Tensor:
        """Log-probabilities [m v] by states [m d], where they are known [m]."""
        logits = self.system.project(states[known]).float()
        logits[:, self.silent] = -math.inf
        found = logits.new_full((len(states), logits.shape[-1]), -math.inf)
        found[known] = logits.log_softmax(-1)
        return found


class Kept(NamedTuple):
    """What a layer of a Transformer keeps: keys and values of the source [n h s e] and of the target [n h l e]."""

    source: Memory
    target: Memory

    def select(self, rows: Tensor) -> Kept:
        """Some of the rows."""
        return Kept(*(Memory(*(part[rows] for part in memory)) for memory in self))


class TransformerReader(PrefixReader):
    """Keeps keys and values of the words that stand, and computes the places behind those that moved, packed."""

    system: Transformer

    def __init__(self, system: Transformer, request: Request, positions: int, is_open_ended: bool) -> None:
        super().__init__(system, request, positions, is_open_ended)
        self.visible, *pairs = self.memory
        self.layers = []
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            rows, heads, _, size = key.shape
            room = key.new_zeros(2, rows, heads, positions, size)
            self.layers.append(Kept(Memory(key, value), Memory(*room)))
        self.rows = torch.arange(len(self.visible), device=self.visible.device)

    def states(self, before: Tensor, stale: Tensor, asked: Tensor) -> Tensor:
        self._forget_rows_at_rest(asked.any(1))
        before, stale, asked = (part[self.rows] for part in (before, stale, asked))
        places = places_of(stale)
        packing = Packing.of(places < before.shape[1])
        where = packing.row, packing.pack(places)
        x = self.system.embed_at(before[where], where[1])
        seen = torch.arange(before.shape[1], device=places.device) <= places[..., None]
        for layer, kept in zip(self.system.decoder_layers, self.layers, strict=True):
            x = layer(
                x,
                lambda y, a=layer.attention, k=kept: self._hear_target(y, a, k, where, packing, seen),
                lambda y, a=layer.cross, k=kept: self._hear_source(y, a, k, packing),
            )
        states = x.new_zeros(*before.shape, x.shape[-1])
        states[where] = self.system.decoder_norm(x).to(x.dtype)
        return states[asked]

    def _hear_target(
        self,
        x: Tensor,
        attention: SelfAttention,
        kept: Kept,
        where: tuple[Tensor, Tensor],
        packing: Packing,
        seen: Tensor,
    ) -> Tensor:
        """Self-attention of x [p d] to itself and to what is kept."""
        query, key, value = attention.read(x).unflatten(-1, (3, attention.heads, -1)).unbind(-3)
        kept.target.put(*where, key.transpose(0, 1), value.transpose(0, 1))
        query = packing.unpack(query).transpose(1, 2)
        return attention.write(_packed(attend(query, *kept.target, seen[:, None]), packing))

    def _hear_source(self, x: Tensor, attention: CrossAttention, kept: Kept, packing: Packing) -> Tensor:
        """Attention of x [p d] to the source."""
        query = packing.unpack(attention.ask(x).unflatten(-1, (attention.heads, -1))).transpose(1, 2)
        return attention.write(_packed(attend(query, *kept.source, self.visible), packing))

    def _forget_rows_at_rest(self, is_moving: Tensor) -> None:
        """Rows in which nothing is asked for any more are not computed."""
        kept = rows_to_keep(is_moving[self.rows])
        if kept is not None:
            self.rows, self.visible = self.rows[kept], self.visible[kept]
            self.layers = [layer.select(kept) for layer in self.layers]


def _packed(attended: Tensor, packing: Packing) -> Tensor:
    """[r h m e] → [p h·e]"""
    return packing.pack(attended.transpose(1, 2)).flatten(1)
