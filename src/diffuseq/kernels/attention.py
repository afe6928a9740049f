"""Attention over short rows, all of it in one kernel: even queries and keys, rotary positions, one softmax over the
source and the row itself, dropout of its weights.

A program has a head of a row as a whole: 64 positions fit where it computes, so that nothing between the
projections is ever written. Backward it is all computed again, which costs less than keeping it would (Dao et al.,
2022, "FlashAttention"; one block of it here).

Heads come in halves [… e/2], which a rotation turns into each other. Legend: b rows, h heads, n positions, q of
them that look (the last ones), s source length, w width, e = w / h. Capitals are sizes of tiles, powers of two.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from diffuseq.kernels.rows import kept, load, new_seed, store

EPS = tl.constexpr(torch.finfo(torch.float32).eps)
"""What PyTorch's RMS norm adds in single precision."""
ROWS = 16
"""Positions whose keys and values a program makes ready."""
_WARPS = {16: 2, 32: 4, 64: 8}
"""Of a program, by the largest side of its tiles."""


class Attend(Function):
    """(queries, keys and values side by side [b n 3w], memory's keys and values [b h s e] or None, mask [b 1|q s+n]
    bool, turn [n e] twice, heads, q, dropout) → [b q w]."""

    @staticmethod
    def forward(
        ctx: Any,
        qkv: Tensor,
        memory_key: Tensor | None,
        memory_value: Tensor | None,
        mask: Tensor,
        cosine: Tensor,
        sine: Tensor,
        heads: int,
        looking: int,
        dropout: float,
    ) -> Tensor:
        qkv, mask, seed = qkv.contiguous(), mask.contiguous(), new_seed(qkv, dropout)
        memory = [part if part is None else part.contiguous() for part in (memory_key, memory_value)]
        (b, n, w), s = qkv.shape, 0 if memory[0] is None else memory[0].shape[2]
        w //= 3
        tiles = [max(16, triton.next_power_of_2(size)) for size in (n, looking, s)]
        ctx.numbers = n, s, heads, looking, mask.shape[1], dropout
        ctx.constants = w // heads // 2, *tiles, dropout > 0, s > 0
        ctx.launch = {"grid": (b * heads,), "num_warps": _WARPS[max(tiles)]}
        ctx.save_for_backward(qkv, *memory, mask, cosine, sine, seed)
        out = qkv.new_empty(b, looking, w)
        _run(_attend, ctx, qkv, *_or(memory, qkv), mask, cosine, sine, seed, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, into_out: Tensor) -> tuple[Tensor | None, ...]:
        qkv, *memory, mask, cosine, sine, seed = ctx.saved_tensors
        dqkv = torch.empty_like(qkv)
        into_memory = [part if part is None else torch.empty_like(part) for part in memory]
        given = qkv, *_or(memory, qkv), mask, cosine, sine, seed, into_out.contiguous()
        _run(_attend_backward, ctx, *given, dqkv, *_or(into_memory, dqkv))
        return dqkv, *into_memory, *[None] * 6


class KeysAndValues(Function):
    """Keys and values side by side [b s 2w] and turn [s e] twice → keys [b h s e], even and turned, and values."""

    @staticmethod
    def forward(ctx: Any, kv: Tensor, cosine: Tensor, sine: Tensor, heads: int) -> tuple[Tensor, Tensor]:
        kv = kv.contiguous()
        b, s, w = kv.shape[0], kv.shape[1], kv.shape[2] // 2
        key, value = (kv.new_empty(b, heads, s, w // heads) for _ in range(2))
        ctx.numbers, ctx.constants = (b * s, s, heads), (w // heads // 2, ROWS)
        ctx.launch = {"grid": (triton.cdiv(b * s, ROWS), heads)}
        ctx.save_for_backward(kv, cosine, sine)
        _run(_make_ready, ctx, kv, cosine, sine, key, value)
        return key, value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, into_key: Tensor, into_value: Tensor) -> tuple[Tensor | None, ...]:
        kv, cosine, sine = ctx.saved_tensors
        dkv = torch.empty_like(kv)
        _run(_make_ready_backward, ctx, kv, cosine, sine, into_key.contiguous(), into_value.contiguous(), dkv)
        return dkv, None, None, None


def _run(kernel: Any, ctx: Any, *tensors: Tensor | None) -> None:
    options = dict(ctx.launch)
    kernel[options.pop("grid")](*tensors, *ctx.numbers, *ctx.constants, **options)


def _or(memory: list[Tensor | None], instead: Tensor) -> list[Tensor]:
    """A memory, or where there is none something that is never read."""
    return [instead if part is None else part for part in memory]


@triton.jit
def _load_halves(place, at, inside, HALF: tl.constexpr):
    """In the type that they are multiplied in."""
    kind: tl.constexpr = place.dtype.element_ty
    return load(place, at, inside).to(kind), load(place, at + HALF, inside).to(kind)


@triton.jit
def _store_halves(place, at, first, second, inside, HALF: tl.constexpr):
    store(place, at, first, inside)
    store(place, at + HALF, second, inside)


@triton.jit
def _even(place, at, inside, HALF: tl.constexpr):
    """Halves, each row of one length, and by what it was multiplied."""
    first, second = load(place, at, inside), load(place, at + HALF, inside)
    scale = tl.rsqrt((tl.sum(first * first, 1) + tl.sum(second * second, 1)) / (2 * HALF) + EPS)[:, None]
    return first * scale, second * scale, scale


@triton.jit
def _uneven(into_first, into_second, first, second, scale, HALF: tl.constexpr):
    """Gradients into what `_even` loads, from those into what it gives."""
    shared = (tl.sum(into_first * first, 1) + tl.sum(into_second * second, 1))[:, None] / (2 * HALF)
    return scale * (into_first - first * shared), scale * (into_second - second * shared)


@triton.jit
def _turn(first, second, cosine, sine):
    return first * cosine - second * sine, second * cosine + first * sine


@triton.jit
def _turn_back(first, second, cosine, sine):
    return first * cosine + second * sine, second * cosine - first * sine


@triton.jit
def _product(first, second, other_first, other_second):
    """x yᵀ of halves."""
    return tl.dot(first, tl.trans(other_first)) + tl.dot(second, tl.trans(other_second))


@triton.jit
def _and(own, of_memory, REMEMBERS: tl.constexpr):
    """The sum of a row's own and what is of a memory, where there is one. Elsewhere nobody asks for the latter, and
    the compiler leaves out all that it is made of."""
    if REMEMBERS:
        own += of_memory
    return own


@triton.jit
def _softmax(score, seen, memory_score, memory_seen, REMEMBERS: tl.constexpr):
    """One over both, of what is seen."""
    score, memory_score = tl.where(seen, score, -1e30), tl.where(memory_seen, memory_score, -1e30)
    top = tl.max(score, 1)
    if REMEMBERS:
        top = tl.maximum(top, tl.max(memory_score, 1))
    top = top[:, None]
    weight = tl.where(seen, tl.exp(score - top), 0.0)
    memory_weight = tl.where(memory_seen, tl.exp(memory_score - top), 0.0)
    total = tl.maximum(_and(tl.sum(weight, 1), tl.sum(memory_weight, 1), REMEMBERS), 1e-20)[:, None]
    return weight / total, memory_weight / total


@triton.jit
def _places(n, s, heads, looking, HALF: tl.constexpr, N: tl.constexpr, Q: tl.constexpr, S: tl.constexpr):
    """Of a program: its row, the numbers of queries and keys, which of them and of a memory's there are, and where
    each is: in queries, keys and values side by side, in a memory, and in what comes out."""
    E: tl.constexpr = 2 * HALF
    row, head = (tl.program_id(0) // heads).to(tl.int64), tl.program_id(0) % heads
    half = tl.arange(0, HALF)[None, :]
    i, j, m = tl.arange(0, Q)[:, None], tl.arange(0, N)[:, None], tl.arange(0, S)[:, None]
    i_in, j_in, m_in = (i < looking) & (half >= 0), (j < n) & (half >= 0), (m < s) & (half >= 0)
    q_at = (row * n + i + n - looking) * 3 * heads * E + head * E + half
    k_at = ((row * n + j) * 3 + 1) * heads * E + head * E + half
    m_at = ((row * heads + head) * s + m) * E + half
    out_at = (row * looking + i) * heads * E + head * E + half
    return row, i, j, i_in, j_in, m_in, q_at, k_at, m_at, out_at


@triton.jit
def _ready(qkv, at, place, cosine, sine, inside, scale: tl.constexpr, HALF: tl.constexpr):
    """Halves of queries or keys, even, turned and scaled, in the type that they are multiplied in; and what `_back`
    needs."""
    kind: tl.constexpr = qkv.dtype.element_ty
    turn_at = place * 2 * HALF + tl.arange(0, HALF)[None, :]
    turn_cosine, turn_sine = load(cosine, turn_at, inside), load(sine, turn_at, inside)
    first, second, length = _even(qkv, at, inside, HALF)
    turned1, turned2 = _turn(first, second, turn_cosine, turn_sine)
    return (
        (turned1 * scale).to(kind),
        (turned2 * scale).to(kind),
        (first, second, length, turn_cosine, turn_sine),
    )


@triton.jit
def _back(into_first, into_second, ready, scale: tl.constexpr, HALF: tl.constexpr):
    """Gradients into what `_ready` loads, from those into what it gives."""
    into_first, into_second = _turn_back(into_first * scale, into_second * scale, ready[3], ready[4])
    return _uneven(into_first, into_second, ready[0], ready[1], ready[2], HALF)


@triton.jit
def _weights(
    q1, q2, k1, k2, mk1, mk2, mask, row, n, s, looking, mask_rows,
    N: tl.constexpr, Q: tl.constexpr, S: tl.constexpr, REMEMBERS: tl.constexpr,
):  # fmt: skip
    """What every query gives to the keys of its row and to those of the memory."""
    i, j, m = tl.arange(0, Q)[:, None], tl.arange(0, N)[None, :], tl.arange(0, S)[None, :]
    at = mask + (row * mask_rows + i * (mask_rows > 1)) * (s + n)
    seen = tl.load(at + s + j, mask=(i < looking) & (j < n), other=0) != 0
    m_seen = tl.load(at + m, mask=(i < looking) & (m < s), other=0) != 0
    return _softmax(_product(q1, q2, k1, k2), seen, _product(q1, q2, mk1, mk2), m_seen, REMEMBERS)


@triton.jit
def _chance(seed, dropout, N: tl.constexpr, Q: tl.constexpr, S: tl.constexpr):
    """What is left of the weights of either kind."""
    first = (tl.program_id(0) * Q + tl.arange(0, Q)[:, None]) * ((N + S) // 4)
    return kept(seed, first, dropout, Q, N), kept(seed, first + N // 4, dropout, Q, S)


_SIZES = ["n", "s", "heads", "looking", "mask_rows", "rows"]
"""Numbers that a kernel is not compiled anew for."""


@triton.jit(do_not_specialize=_SIZES)
def _attend(
    qkv, memory_key, memory_value, mask, cosine, sine, seed, out, n, s, heads, looking, mask_rows, dropout,
    HALF: tl.constexpr, N: tl.constexpr, Q: tl.constexpr, S: tl.constexpr, DROPS: tl.constexpr,
    REMEMBERS: tl.constexpr,
):  # fmt: skip
    kind: tl.constexpr = qkv.dtype.element_ty
    E: tl.constexpr = 2 * HALF
    row, i, j, i_in, j_in, m_in, q_at, k_at, m_at, out_at = _places(n, s, heads, looking, HALF, N, Q, S)
    q1, q2, _ = _ready(qkv, q_at, i + n - looking, cosine, sine, i_in, E**-0.5, HALF)
    k1, k2, _ = _ready(qkv, k_at, j, cosine, sine, j_in, 1.0, HALF)
    mk1, mk2 = _load_halves(memory_key, m_at, m_in, HALF)
    weight, m_weight = _weights(
        q1, q2, k1, k2, mk1, mk2, mask, row, n, s, looking, mask_rows, N, Q, S, REMEMBERS
    )
    if DROPS:
        stays, m_stays = _chance(seed, dropout, N, Q, S)
        weight, m_weight = weight * stays, m_weight * m_stays
    weight, m_weight = weight.to(kind), m_weight.to(kind)
    v1, v2 = _load_halves(qkv, k_at + heads * E, j_in, HALF)
    mv1, mv2 = _load_halves(memory_value, m_at, m_in, HALF)
    out1 = _and(tl.dot(weight, v1), tl.dot(m_weight, mv1), REMEMBERS)
    out2 = _and(tl.dot(weight, v2), tl.dot(m_weight, mv2), REMEMBERS)
    _store_halves(out, out_at, out1, out2, i_in, HALF)


@triton.jit(do_not_specialize=_SIZES)
def _attend_backward(
    qkv, memory_key, memory_value, mask, cosine, sine, seed, into_out, dqkv, into_key, into_value,
    n, s, heads, looking, mask_rows, dropout,
    HALF: tl.constexpr, N: tl.constexpr, Q: tl.constexpr, S: tl.constexpr, DROPS: tl.constexpr,
    REMEMBERS: tl.constexpr,
):  # fmt: skip
    kind: tl.constexpr = qkv.dtype.element_ty
    E: tl.constexpr = 2 * HALF
    # as forward
    row, i, j, i_in, j_in, m_in, q_at, k_at, m_at, out_at = _places(n, s, heads, looking, HALF, N, Q, S)
    q1, q2, q_ready = _ready(qkv, q_at, i + n - looking, cosine, sine, i_in, E**-0.5, HALF)
    k1, k2, k_ready = _ready(qkv, k_at, j, cosine, sine, j_in, 1.0, HALF)
    mk1, mk2 = _load_halves(memory_key, m_at, m_in, HALF)
    weight, m_weight = _weights(
        q1, q2, k1, k2, mk1, mk2, mask, row, n, s, looking, mask_rows, N, Q, S, REMEMBERS
    )
    # into weights, and values
    g1, g2 = _load_halves(into_out, out_at, i_in, HALF)
    v1, v2 = _load_halves(qkv, k_at + heads * E, j_in, HALF)
    mv1, mv2 = _load_halves(memory_value, m_at, m_in, HALF)
    into_weight, into_m_weight = _product(g1, g2, v1, v2), _product(g1, g2, mv1, mv2)
    given, m_given = weight, m_weight
    if DROPS:
        stays, m_stays = _chance(seed, dropout, N, Q, S)
        into_weight, into_m_weight = into_weight * stays, into_m_weight * m_stays
        given, m_given = weight * stays, m_weight * m_stays
    given, m_given = tl.trans(given.to(kind)), tl.trans(m_given.to(kind))
    _store_halves(dqkv, k_at + heads * E, tl.dot(given, g1), tl.dot(given, g2), j_in, HALF)
    if REMEMBERS:
        _store_halves(into_value, m_at, tl.dot(m_given, g1), tl.dot(m_given, g2), m_in, HALF)
    # into scores, queries and keys
    shared = _and(tl.sum(into_weight * weight, 1), tl.sum(into_m_weight * m_weight, 1), REMEMBERS)[:, None]
    into_score = (weight * (into_weight - shared)).to(kind)
    into_m_score = (m_weight * (into_m_weight - shared)).to(kind)
    dq1 = _and(tl.dot(into_score, k1), tl.dot(into_m_score, mk1), REMEMBERS)
    dq2 = _and(tl.dot(into_score, k2), tl.dot(into_m_score, mk2), REMEMBERS)
    into_score, into_m_score = tl.trans(into_score), tl.trans(into_m_score)
    dk1, dk2 = tl.dot(into_score, q1), tl.dot(into_score, q2)
    if REMEMBERS:
        _store_halves(into_key, m_at, tl.dot(into_m_score, q1), tl.dot(into_m_score, q2), m_in, HALF)
    dq1, dq2 = _back(dq1, dq2, q_ready, E**-0.5, HALF)
    dk1, dk2 = _back(dk1, dk2, k_ready, 1.0, HALF)
    _store_halves(dqkv, q_at, dq1, dq2, i_in, HALF)
    _store_halves(dqkv, k_at, dk1, dk2, j_in, HALF)
    # who does not look has no query
    nothing = tl.zeros([N, HALF], tl.float32)
    _store_halves(dqkv, k_at - heads * E, nothing, nothing, j_in & (j < n - looking), HALF)


@triton.jit
def _ready_places(rows, s, heads, HALF: tl.constexpr, R: tl.constexpr):
    """Of a program that makes keys and values ready: the place of each in its source, where it is side by side,
    where in a memory, and which there are."""
    E: tl.constexpr = 2 * HALF
    row, half = (tl.program_id(0) * R + tl.arange(0, R)).to(tl.int64)[:, None], tl.arange(0, HALF)[None, :]
    at = row * 2 * heads * E + tl.program_id(1) * E + half
    memory_at = ((row // s * heads + tl.program_id(1)) * s + row % s) * E + half
    return row % s, at, memory_at, (row < rows) & (half >= 0)


@triton.jit(do_not_specialize=_SIZES)
def _make_ready(kv, cosine, sine, key, value, rows, s, heads, HALF: tl.constexpr, R: tl.constexpr):
    place, at, memory_at, inside = _ready_places(rows, s, heads, HALF, R)
    first, second, _ = _ready(kv, at, place, cosine, sine, inside, 1.0, HALF)
    _store_halves(key, memory_at, first, second, inside, HALF)
    first, second = _load_halves(kv, at + heads * 2 * HALF, inside, HALF)
    _store_halves(value, memory_at, first, second, inside, HALF)


@triton.jit(do_not_specialize=_SIZES)
def _make_ready_backward(
    kv, cosine, sine, into_key, into_value, dkv, rows, s, heads, HALF: tl.constexpr, R: tl.constexpr
):  # fmt: skip
    place, at, memory_at, inside = _ready_places(rows, s, heads, HALF, R)
    _, _, ready = _ready(kv, at, place, cosine, sine, inside, 1.0, HALF)
    into1, into2 = load(into_key, memory_at, inside), load(into_key, memory_at + HALF, inside)
    into1, into2 = _back(into1, into2, ready, 1.0, HALF)
    _store_halves(dkv, at, into1, into2, inside, HALF)
    into1, into2 = _load_halves(into_value, memory_at, inside, HALF)
    _store_halves(dkv, at + heads * 2 * HALF, into1, into2, inside, HALF)
