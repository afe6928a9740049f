"""Pre-norm transformer blocks with RMSNorm, rotary positions and a gated feed-forward.

Legend: b rows, l target length, s source length, n positions, w width, h heads, e = w / h.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffuseq import kernels
from diffuseq.attention import attend
from diffuseq.dropout import drop
from diffuseq.model.packing import Packing

EPS = 1e-6
"""What is added to a mean square before its root is divided by."""


class Memory(NamedTuple):
    """What a decoder layer keeps of the source: keys and values [b h s e]."""

    key: Tensor
    value: Tensor

    def with_room(self, positions: int) -> Memory:
        """A copy with so many positions more, for what a layer is to keep of the target."""
        return Memory(*(F.pad(part, (0, 0, 0, positions)) for part in self))

    def put(self, rows: Tensor, places: Tensor, key: Tensor, value: Tensor) -> None:
        """Write keys and values [… h m e] in place, at these places of these rows [… m]."""
        for part, new in zip(self, (key, value), strict=True):
            part[rows, :, places] = new.transpose(-3, -2)


def rotary(positions: int, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosine and sine [n e] of rotary positions (Su et al., 2021, RoFormer)."""
    frequency = 10_000.0 ** (-torch.arange(0, size, 2, device=device, dtype=torch.float32) / size)
    angle = torch.arange(positions, device=device, dtype=torch.float32)[:, None] * frequency
    angle = torch.cat((angle, angle), dim=-1)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Turn x [… n e] by its positions."""
    cosine, sine = (part.to(x.dtype) for part in turn)
    first, second = x.chunk(2, dim=-1)
    return x * cosine + torch.cat((-second, first), dim=-1) * sine


class Neighbours(nn.Module):
    """Every position hears those beside it: x_i + l·x_{i−1} + r·x_{i+1}, with gains l and r for every channel.

    A convolution over three positions before attention (So et al., 2021, "Primer"; Allen-Zhu, 2025, "Canon
    layers"). "What follows the word that my neighbour took from the source?" is then a question to one layer of
    attention instead of two, which is how a pointer learns to copy names piece by piece (docs/log.md).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gains = nn.Parameter(torch.empty(2, 1, width).normal_(std=0.5))

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        """x [b n w]; nothing is heard of padding [b n]."""
        x = x.masked_fill(padding[..., None], 0.0)
        return x + self._heard(x, 1.0, 1.0)

    def before(self, x: Tensor, seen: Tensor, own: Tensor) -> Tensor:
        """What every position hears [b n w] of those neighbours x [b n w] that can be `seen` [b n] from a rank
        below its `own` [b n]."""
        left = F.pad(seen[:, :-1] < own[:, 1:], (1, 0))[..., None]
        right = F.pad(seen[:, 1:] < own[:, :-1], (0, 1))[..., None]
        return self._heard(x, left.to(x.dtype), right.to(x.dtype))

    def _heard(self, x: Tensor, from_left: Tensor | float, from_right: Tensor | float) -> Tensor:
        left, right = F.pad(x[:, :-1], (0, 0, 1, 0)), F.pad(x[:, 1:], (0, 0, 0, 1))
        return self.gains[0] * left * from_left + self.gains[1] * right * from_right


class FeedForward(nn.Module):
    """SwiGLU (Shazeer, 2020): w → 2·f → f → w."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(swiglu(self.up(x)))


class Attention(nn.Module):
    """Multi-head attention over the row's own positions and, where a memory is given, the source's too.

    One softmax spans both, so that a position weighs words of the source against words of the target.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(
        self,
        x: Tensor,
        mask: Tensor,
        turn: tuple[Tensor, Tensor],
        memory: Memory | None = None,
        slots: tuple[Tensor, Tensor] | None = None,
        last: int | None = None,
        packing: Packing | None = None,
        ending: Packing | None = None,
    ) -> Tensor:
        """x [b n w]; mask [b 1 n s+n] (or [b 1 1 s+n], the same for all), True where there is a token to attend to.

        slots: the memory has room for the target, x belongs at these rows and positions of it (`slots_of`), and
        what stands at its other ones is attended to as well. last: only so many of the last positions look around,
        and the mask and the result are theirs; they see the others nevertheless. packing, ending: x and turn come
        packed by the one, and the result by the other.
        """
        dropout, qkv = self.dropout if self.training else 0.0, self.qkv(x)
        is_whole = slots is None and packing is None
        if is_whole and kernels.fit_heads(x, self.heads) and kernels.are_short(mask, x.shape[1]):
            return self.out(kernels.attend(qkv, memory, mask[:, 0], turn, self.heads, last, dropout))
        parts = split_heads(qkv, self.heads, 3)
        (query, key), value = rotate(even(parts[:2]), turn), parts[2]
        if memory is not None and slots is not None:
            memory.put(*slots, key, value)
            key, value = memory
        elif memory is not None:
            key = torch.cat((memory.key, key), dim=2)
            value = torch.cat((memory.value, value), dim=2)
        if packing is not None:
            query = packing.unpack(query.transpose(0, 1)).transpose(1, 2)
        if last is not None:
            query = query[:, :, -last:]
        mixed = attend(query, key, value, mask, dropout=dropout).transpose(1, 2).flatten(2)
        return self.out(mixed if ending is None else ending.pack(mixed))


def even(x: Tensor) -> Tensor:
    """Queries or keys [… n e] of one length, so that no score runs away (Henry et al., 2020)."""
    return F.rms_norm(x, x.shape[-1:])


def split_heads(x: Tensor, heads: int, parts: int) -> Tensor:
    """[… n parts·w] → [parts … h n e]."""
    return x.unflatten(-1, (parts, heads, -1)).movedim(-3, 0).transpose(-3, -2)


def swiglu(both: Tensor) -> Tensor:
    """SiLU(gate) · value [… f] of gate and value side by side [… 2f]."""
    if kernels.fit(both):
        return kernels.swiglu(both)
    gate, value = both.chunk(2, dim=-1)
    return F.silu(gate) * value


def normed(x: Tensor, gains: Tensor) -> tuple[Tensor, Tensor]:
    """The RMS norm of x [… n w] times gains, [w] or [… g w] with one for n / g positions in a row; and x, for what
    goes on beside it."""
    if kernels.fit(x) and kernels.are_shared(gains):
        return kernels.norm(x, gains, EPS)
    if gains.ndim == 1:
        return F.rms_norm(x, x.shape[-1:], gains, EPS), x
    return F.rms_norm(x, x.shape[-1:], eps=EPS) * _spread(gains, x), x


def add(x: Tensor, added: Tensor, dropout: float, gates: Tensor | None = None) -> Tensor:
    """x [… n w] and what a layer adds to it, of which a share is dropped, times gates, [… g w] as in `normed`."""
    if kernels.fit(x) and kernels.are_shared(gates):
        return kernels.add(x, added, dropout, gates)
    added = drop(added, dropout)
    return x + (added if gates is None else _spread(gates, x) * added)


def _spread(gains: Tensor, x: Tensor) -> Tensor:
    """[… g w] to what x [… n w] can be multiplied by."""
    if gains.shape[-2] in (1, x.shape[-2]):
        return gains
    return gains.repeat_interleave(x.shape[-2] // gains.shape[-2], -2)


class EncoderBlock(nn.Module):
    def __init__(self, width: int, heads: int, feed_forward: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(width, eps=EPS)
        self.attention = Attention(width, heads, dropout)
        self.feed_norm = nn.RMSNorm(width, eps=EPS)
        self.feed_forward = FeedForward(width, feed_forward)
        self.dropout = dropout

    def forward(self, x: Tensor, mask: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        entering, x = normed(x, self.attention_norm.weight)
        x = add(x, self.attention(entering, mask, turn), dropout)
        entering, x = normed(x, self.feed_norm.weight)
        return add(x, self.feed_forward(entering), dropout)


class DecoderBlock(nn.Module):
    """A block that knows the noise level of every position (adaptive norm, Peebles & Xie 2023, with one
    modulation for all layers and a learned offset a layer, Chen et al. 2023) and attends to the source."""

    def __init__(self, width: int, heads: int, feed_forward: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads, dropout)
        self.memory_kv = nn.Linear(width, 2 * width, bias=False)
        self.feed_forward = FeedForward(width, feed_forward)
        self.dropout = dropout
        self.modulation_offset = nn.Parameter(torch.zeros(4, width))

    def remember(self, source: Tensor, turn: tuple[Tensor, Tensor]) -> Memory:
        """Keys and values of the encoded source [b s w]: computed once a sentence."""
        if kernels.fit_heads(source, self.attention.heads):
            return Memory(*kernels.keys_and_values(self.memory_kv(source), turn, self.attention.heads))
        key, value = split_heads(self.memory_kv(source), self.attention.heads, 2)
        return Memory(rotate(even(key), turn), value)

    def forward(
        self,
        x: Tensor,
        modulation: Tensor,
        mask: Tensor,
        turn: tuple[Tensor, Tensor],
        memory: Memory,
        slots: tuple[Tensor, Tensor] | None = None,
        last: int | None = None,
        packing: Packing | None = None,
        ending: Packing | None = None,
    ) -> Tensor:
        """x [b l w]; modulation [b l 4 w], or [b g 4 w] when l / g positions in a row have one level, or [1 g 4 w];
        slots, last, packing and ending as in `Attention`, modulation packed as x is."""
        dropout = self.dropout if self.training else 0.0
        gain1, gate1, gain2, gate2 = (1 + modulation + self.modulation_offset).unbind(-2)
        entering, x = normed(x, gain1)
        mixed = self.attention(entering, mask, turn, memory, slots, last, packing, ending)
        if ending is not None and ending.kept is not None:
            x, gate1, gain2, gate2 = (part[ending.kept] for part in (x, gate1, gain2, gate2))
        elif packing is None and last is not None:
            share = last / x.shape[1]
            x, gate1, gain2, gate2 = (_last(part, share) for part in (x, gate1, gain2, gate2))
        entering, x = normed(add(x, mixed, dropout, gate1), gain2)
        return add(x, self.feed_forward(entering), dropout, gate2)


def _last(x: Tensor, share: float) -> Tensor:
    """The last share of the positions of x [b n w]; what is for all of them stays."""
    return x[:, -max(1, round(share * x.shape[1])) :]
