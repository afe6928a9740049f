"""Norms, residuals and gated activations: everything that looks at one row at a time.

Legend: b rows of a batch, n positions, w width, f hidden width, g groups: gains and gates [g w] are those of n / g
positions one after the other, of all n where g is 1.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

NUMBERS = 2048
"""Numbers of rows that a program holds at once."""
PROGRAMS = 528
"""Programs that share the sum over all rows that the gradient of a gain is: four for each part of an H100."""
ELEMENTS = 1024
"""Numbers that a program of a gated activation takes."""


class Norm(Function):
    """x [b n w] → its RMS norm times gains [g w] in bf16, and x itself: what goes on beside the norm comes back in
    one gradient with it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gains: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        x, gains = x.contiguous(), gains.contiguous()
        y = torch.empty_like(x, dtype=torch.bfloat16)
        rows, w, length, groups = _sizes(x, gains)
        grid = (triton.cdiv(rows, _tile(w)[1]),)
        _norm_forward[grid](x, gains, y, rows, length, groups, eps, w, *_tile(w))
        ctx.save_for_backward(x, gains)
        ctx.eps = eps
        return y, x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, into_y: Tensor, into_x: Tensor) -> tuple[Tensor, Tensor, None]:
        x, gains = ctx.saved_tensors
        rows, w, length, groups = _sizes(x, gains)
        into_y, into_x = into_y.contiguous(), into_x.contiguous()
        dx, sums, grid = torch.empty_like(x), *_sums(gains)
        _norm_backward[grid](
            x, gains, into_y, into_x, dx, sums, rows // groups, length, groups, ctx.eps, w, *_tile(w)
        )
        return dx, sums.sum(0).to(gains.dtype), None


class Add(Function):
    """x [b n w] plus what a layer adds to it [b n w], of which a share is dropped, times gates [g w] (None: 1)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, added: Tensor, gates: Tensor | None, dropout: float) -> Tensor:
        x, added = x.contiguous(), added.contiguous()
        gates = None if gates is None else gates.contiguous()
        y = torch.empty_like(x)
        rows, w, length, groups = _sizes(x, gates)
        seed = new_seed(x, dropout)
        grid = (triton.cdiv(rows, _tile(w)[1]),)
        _add_forward[grid](
            x, added, gates, seed, y, rows, length, groups, dropout, w, *_tile(w), gates is not None, dropout > 0
        )  # fmt: skip
        ctx.save_for_backward(added, gates, seed)
        ctx.dropout = dropout
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, into_y: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        added, gates, seed = ctx.saved_tensors
        into_y = into_y.contiguous()
        rows, w, length, groups = _sizes(added, gates)
        dadded = torch.empty_like(added)
        if gates is None:
            sums, grid = None, (min(PROGRAMS, triton.cdiv(rows, _tile(w)[1])), 1)
        else:
            sums, grid = _sums(gates)
        _add_backward[grid](
            into_y, added, gates, seed, dadded, sums, rows // groups, length, groups, ctx.dropout, w, *_tile(w),
            gates is not None, ctx.dropout > 0,
        )  # fmt: skip
        return into_y, dadded, None if sums is None else sums.sum(0).to(gates.dtype), None


class SwiGLU(Function):
    """[… 2f], gate and value side by side → SiLU(gate) · value [… f]."""

    @staticmethod
    def forward(ctx: Any, both: Tensor) -> Tensor:
        both = both.contiguous()
        f = both.shape[-1] // 2
        out = both.new_empty(*both.shape[:-1], f)
        _swiglu_forward[(triton.cdiv(out.numel(), ELEMENTS),)](both, out, out.numel(), f, ELEMENTS)
        ctx.save_for_backward(both)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, into_out: Tensor) -> Tensor:
        (both,) = ctx.saved_tensors
        into_out, dboth = into_out.contiguous(), torch.empty_like(both)
        grid = (triton.cdiv(into_out.numel(), ELEMENTS),)
        _swiglu_backward[grid](both, into_out, dboth, into_out.numel(), both.shape[-1] // 2, ELEMENTS)
        return dboth


def _sizes(x: Tensor, gains: Tensor | None) -> tuple[int, int, int, int]:
    """Rows, width, positions of a group, groups."""
    groups = 1 if gains is None else gains.shape[0]
    return x.numel() // x.shape[-1], x.shape[-1], x.shape[-2] // groups, groups


def _sums(gains: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Room for the parts of a gain's gradient [p g w], and the grid (p, g) that fills it."""
    groups, w = gains.shape
    programs = max(1, PROGRAMS // groups)
    return torch.empty(programs, groups, w, device=gains.device), (programs, groups)


def new_seed(x: Tensor, dropout: float) -> Tensor | None:
    """A number from the global generator for this layer's dropout; on the device, so that a recorded graph draws it
    anew."""
    return torch.randint(1 << 31, (1,), device=x.device) if dropout > 0 else None


def _tile(w: int) -> tuple[int, int]:
    """Columns and rows of what a program holds at once."""
    columns = triton.next_power_of_2(w)
    return columns, max(1, NUMBERS // columns)


_SIZES = ["num_rows", "rows_of_group", "length", "groups"]
"""Numbers that a kernel is not compiled anew for."""


@triton.jit
def load(place, at, inside):
    return tl.load(place + at, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def store(place, at, value, inside):
    tl.store(place + at, value.to(place.dtype.element_ty), mask=inside)


@triton.jit
def _next_rows(num_rows, w: tl.constexpr, W: tl.constexpr, R: tl.constexpr):
    """The rows of a program, where they are, and what of that is inside."""
    rows, columns = (tl.program_id(0) * R + tl.arange(0, R)).to(tl.int64)[:, None], tl.arange(0, W)[None, :]
    return rows, rows * w + columns, (rows < num_rows) & (columns < w)


@triton.jit
def _rows_of_group(first, rows_of_group, length, groups, w: tl.constexpr, W: tl.constexpr, R: tl.constexpr):
    """As `_next_rows`: those of the program's group, from its row number `first` on."""
    number, columns = (first + tl.arange(0, R)).to(tl.int64)[:, None], tl.arange(0, W)[None, :]
    rows = (number // length * groups + tl.program_id(1)) * length + number % length
    return rows, rows * w + columns, (number < rows_of_group) & (columns < w)


@triton.jit
def _gains_of(rows, gains, length, groups, inside, w: tl.constexpr, W: tl.constexpr):
    """Those of every row, by its group."""
    return load(gains, ((rows // length) % groups) * w + tl.arange(0, W)[None, :], inside)


@triton.jit
def _gains_of_group(gains, w: tl.constexpr, W: tl.constexpr):
    """Those of the program's group."""
    columns = tl.arange(0, W)
    return load(gains, tl.program_id(1) * w + columns, columns < w)


@triton.jit
def _store_sum(sums, total, groups, w: tl.constexpr, W: tl.constexpr):
    columns = tl.arange(0, W)
    store(sums, (tl.program_id(0) * groups + tl.program_id(1)) * w + columns, total, columns < w)


@triton.jit(do_not_specialize=_SIZES)
def _norm_forward(
    x, gains, y, num_rows, length, groups, eps, w: tl.constexpr, W: tl.constexpr, R: tl.constexpr
):  # fmt: skip
    rows, at, inside = _next_rows(num_rows, w, W, R)
    value = load(x, at, inside)
    scale = tl.rsqrt(tl.sum(value * value, 1) / w + eps)[:, None]
    store(y, at, value * scale * _gains_of(rows, gains, length, groups, inside, w, W), inside)


@triton.jit(do_not_specialize=_SIZES)
def _norm_backward(
    x, gains, into_y, into_x, dx, sums, rows_of_group, length, groups, eps,
    w: tl.constexpr, W: tl.constexpr, R: tl.constexpr,
):  # fmt: skip
    gain, total = _gains_of_group(gains, w, W), tl.zeros([W], tl.float32)
    for first in range(tl.program_id(0) * R, rows_of_group, tl.num_programs(0) * R):
        _, at, inside = _rows_of_group(first, rows_of_group, length, groups, w, W, R)
        value, gradient, beside = load(x, at, inside), load(into_y, at, inside), load(into_x, at, inside)
        scale = tl.rsqrt(tl.sum(value * value, 1) / w + eps)[:, None]
        even = value * scale
        total += tl.sum(gradient * even, 0)
        into_even = gradient * gain[None, :]
        shared = tl.sum(into_even * even, 1)[:, None] / w
        store(dx, at, beside + scale * (into_even - even * shared), inside)
    _store_sum(sums, total, groups, w, W)


@triton.jit
def kept(seed, first, dropout, R: tl.constexpr, C: tl.constexpr):
    """[R C] of 1 / (1 − dropout) for what is kept and 0 for what is dropped; `first` [R 1] numbers the rows' first
    places in fours, for the generator makes four numbers at a time."""
    four = tl.rand4x(tl.load(seed), (first + tl.arange(0, C // 4)[None, :]).to(tl.int32))
    chance = tl.join(tl.join(four[0], four[1]), tl.join(four[2], four[3])).reshape(R, C)
    return tl.where(chance >= dropout, 1.0 / (1.0 - dropout), 0.0)


@triton.jit(do_not_specialize=_SIZES)
def _add_forward(
    x, added, gates, seed, y, num_rows, length, groups, dropout,
    w: tl.constexpr, W: tl.constexpr, R: tl.constexpr, GATED: tl.constexpr, DROPS: tl.constexpr,
):  # fmt: skip
    rows, at, inside = _next_rows(num_rows, w, W, R)
    more = load(added, at, inside)
    if DROPS:
        more *= kept(seed, rows * (W // 4), dropout, R, W)
    if GATED:
        more *= _gains_of(rows, gates, length, groups, inside, w, W)
    store(y, at, load(x, at, inside) + more, inside)


@triton.jit(do_not_specialize=_SIZES)
def _add_backward(
    into_y, added, gates, seed, dadded, sums, rows_of_group, length, groups, dropout,
    w: tl.constexpr, W: tl.constexpr, R: tl.constexpr, GATED: tl.constexpr, DROPS: tl.constexpr,
):  # fmt: skip
    if GATED:
        gate, total = _gains_of_group(gates, w, W), tl.zeros([W], tl.float32)
    for first in range(tl.program_id(0) * R, rows_of_group, tl.num_programs(0) * R):
        rows, at, inside = _rows_of_group(first, rows_of_group, length, groups, w, W, R)
        gradient = load(into_y, at, inside)
        if DROPS:
            gradient *= kept(seed, rows * (W // 4), dropout, R, W)
        if GATED:
            total += tl.sum(gradient * load(added, at, inside), 0)
            gradient *= gate[None, :]
        store(dadded, at, gradient, inside)
    if GATED:
        _store_sum(sums, total, groups, w, W)


@triton.jit
def _gate_and_value(both, number, f: tl.constexpr, N: tl.constexpr):
    """What a program has of either, where the gate is (its value is f places behind), and what comes out."""
    at = tl.program_id(0).to(tl.int64) * N + tl.arange(0, N)
    inside, gate_at = at < number, at // f * 2 * f + at % f
    return load(both, gate_at, inside), load(both, gate_at + f, inside), gate_at, at, inside


@triton.jit
def _swiglu_forward(both, out, number, f: tl.constexpr, N: tl.constexpr):
    gate, value, _, at, inside = _gate_and_value(both, number, f, N)
    store(out, at, gate * tl.sigmoid(gate) * value, inside)


@triton.jit
def _swiglu_backward(both, into_out, dboth, number, f: tl.constexpr, N: tl.constexpr):
    gate, value, gate_at, at, inside = _gate_and_value(both, number, f, N)
    gradient, open_by = load(into_out, at, inside), tl.sigmoid(gate)
    store(dboth, gate_at, gradient * value * open_by * (1.0 + gate * (1.0 - open_by)), inside)
    store(dboth, gate_at + f, gradient * gate * open_by, inside)
