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
    programs = PROGRAMS // groups
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


@triton.jit(do_not_specialize=_SIZES)
def _norm_forward(
    x, gains, y, num_rows, length, groups, eps, w: tl.constexpr, W: tl.constexpr, R: tl.constexpr
):  # fmt: skip
    rows = (tl.program_id(0) * R + tl.arange(0, R)).to(tl.int64)
    columns = tl.arange(0, W)
    inside = (rows < num_rows)[:, None] & (columns < w)[None, :]
    at = rows[:, None] * w + columns[None, :]
    value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(value * value, 1) / w + eps)
    gain_at = ((rows // length) % groups)[:, None] * w + columns[None, :]
    gain = tl.load(gains + gain_at, mask=inside, other=0.0).to(tl.float32)
    tl.store(y + at, (value * scale[:, None] * gain).to(y.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=_SIZES)
def _norm_backward(
    x, gains, into_y, into_x, dx, sums, rows_of_group, length, groups, eps,
    w: tl.constexpr, W: tl.constexpr, R: tl.constexpr,
):  # fmt: skip
    group, columns = tl.program_id(1), tl.arange(0, W)
    gain = tl.load(gains + group * w + columns, mask=columns < w, other=0.0).to(tl.float32)
    total = tl.zeros([W], tl.float32)
    for first in range(tl.program_id(0) * R, rows_of_group, tl.num_programs(0) * R):
        number = (first + tl.arange(0, R)).to(tl.int64)
        rows = (number // length * groups + group) * length + number % length
        inside = (number < rows_of_group)[:, None] & (columns < w)[None, :]
        at = rows[:, None] * w + columns[None, :]
        value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        gradient = tl.load(into_y + at, mask=inside, other=0.0).to(tl.float32)
        beside = tl.load(into_x + at, mask=inside, other=0.0).to(tl.float32)
        scale = tl.rsqrt(tl.sum(value * value, 1) / w + eps)[:, None]
        even = value * scale
        total += tl.sum(gradient * even, 0)
        into_even = gradient * gain[None, :]
        shared = tl.sum(into_even * even, 1)[:, None] / w
        tl.store(dx + at, (beside + scale * (into_even - even * shared)).to(dx.dtype.element_ty), mask=inside)
    tl.store(sums + (tl.program_id(0) * groups + group) * w + columns, total, mask=columns < w)


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
    rows = (tl.program_id(0) * R + tl.arange(0, R)).to(tl.int64)
    columns = tl.arange(0, W)
    inside = (rows < num_rows)[:, None] & (columns < w)[None, :]
    at = rows[:, None] * w + columns[None, :]
    more = tl.load(added + at, mask=inside, other=0.0).to(tl.float32)
    if DROPS:
        more *= kept(seed, rows[:, None] * (W // 4), dropout, R, W)
    if GATED:
        gate_at = ((rows // length) % groups)[:, None] * w + columns[None, :]
        more *= tl.load(gates + gate_at, mask=inside, other=0.0).to(tl.float32)
    value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(y + at, (value + more).to(y.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=_SIZES)
def _add_backward(
    into_y, added, gates, seed, dadded, sums, rows_of_group, length, groups, dropout,
    w: tl.constexpr, W: tl.constexpr, R: tl.constexpr, GATED: tl.constexpr, DROPS: tl.constexpr,
):  # fmt: skip
    group, columns = tl.program_id(1), tl.arange(0, W)
    if GATED:
        gate = tl.load(gates + group * w + columns, mask=columns < w, other=0.0).to(tl.float32)
    total = tl.zeros([W], tl.float32)
    for first in range(tl.program_id(0) * R, rows_of_group, tl.num_programs(0) * R):
        number = (first + tl.arange(0, R)).to(tl.int64)
        rows = (number // length * groups + group) * length + number % length
        inside = (number < rows_of_group)[:, None] & (columns < w)[None, :]
        at = rows[:, None] * w + columns[None, :]
        gradient = tl.load(into_y + at, mask=inside, other=0.0).to(tl.float32)
        if DROPS:
            gradient *= kept(seed, rows[:, None] * (W // 4), dropout, R, W)
        if GATED:
            total += tl.sum(gradient * tl.load(added + at, mask=inside, other=0.0).to(tl.float32), 0)
            gradient *= gate[None, :]
        tl.store(dadded + at, gradient.to(dadded.dtype.element_ty), mask=inside)
    if GATED:
        tl.store(sums + (tl.program_id(0) * groups + group) * w + columns, total, mask=columns < w)


@triton.jit
def _swiglu_forward(both, out, number, f: tl.constexpr, N: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * N + tl.arange(0, N)
    inside = at < number
    gate_at = at // f * 2 * f + at % f
    gate = tl.load(both + gate_at, mask=inside, other=0.0).to(tl.float32)
    value = tl.load(both + gate_at + f, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + at, (gate * tl.sigmoid(gate) * value).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _swiglu_backward(both, into_out, dboth, number, f: tl.constexpr, N: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * N + tl.arange(0, N)
    inside = at < number
    gate_at = at // f * 2 * f + at % f
    gate = tl.load(both + gate_at, mask=inside, other=0.0).to(tl.float32)
    value = tl.load(both + gate_at + f, mask=inside, other=0.0).to(tl.float32)
    gradient = tl.load(into_out + at, mask=inside, other=0.0).to(tl.float32)
    open_by = tl.sigmoid(gate)
    into_gate = gradient * value * open_by * (1.0 + gate * (1.0 - open_by))
    tl.store(dboth + gate_at, into_gate.to(dboth.dtype.element_ty), mask=inside)
    into_value = gradient * gate * open_by
    tl.store(dboth + gate_at + f, into_value.to(dboth.dtype.element_ty), mask=inside)
