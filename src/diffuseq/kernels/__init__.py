"""What a training step does element by element, fused for a GPU (Triton).

Between two matrix products a block of a network reads and writes its states a dozen times, and on a GPU that takes
longer than the products (docs/log.md). Here each such stretch is one kernel forward and one backward. `fit` says
whether they can be used; who calls them has the same in plain PyTorch for everywhere else, which the tests compare.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor

LONGEST = 64
"""Positions of a row, and of its source, up to which attention is one kernel; more do not fit where it computes."""
HEAD_SIZES = (32, 64)
"""Sizes of a head that it is for."""
OLDEST = (8, 0)
"""The compute capability from which on a GPU multiplies in bf16: that of the A100."""
MOST_WORDS = 1 << 16
"""Words of a vocabulary whose scores a kernel holds at once."""


def fit(x: Tensor) -> bool:
    """Whether kernels can take the place of PyTorch's for x: in training, in bf16, on an NVIDIA GPU that has it and
    is the current one, where Triton launches. A compiler that traces this asks no further than that it does."""
    return (
        x.is_cuda
        and torch.is_grad_enabled()
        and torch.is_autocast_enabled("cuda")
        and torch.get_autocast_dtype("cuda") == torch.bfloat16
        and not torch.compiler.is_compiling()
        and not _left_out
        and x.device.index == torch.cuda.current_device()
        and are_usable(x.device)
    )


_left_out = False


@contextmanager
def left_out() -> Iterator[None]:
    """Everything within is computed by PyTorch's own: to count operations, and to compare."""
    global _left_out
    before, _left_out = _left_out, True
    try:
        yield
    finally:
        _left_out = before


def are_left_out() -> bool:
    """Whether this is within `left_out`, for whatever else computes by other means than PyTorch's usual."""
    return _left_out


@cache
def are_usable(device: torch.device) -> bool:
    """Whether this device can run the kernels: Triton is there, as it comes with PyTorch for NVIDIA's GPUs, and is
    not switched off by DIFFUSEQ_KERNELS=0 (to compare, or where a new GPU trips over it), and a first one runs.

    That one is waited for, so a CUDA graph is not to be recorded meanwhile: warming up asks here before.
    """
    return (
        importlib.util.find_spec("triton") is not None
        and os.environ.get("DIFFUSEQ_KERNELS", "1") != "0"
        and _is_new_enough(device)
        and _runs(device)
    )


def _is_new_enough(device: torch.device) -> bool:
    return torch.version.cuda is not None and torch.cuda.get_device_capability(device) >= OLDEST


def _runs(device: torch.device) -> bool:
    """Whether the smallest kernel does; what stands in its way is told."""
    try:
        swiglu(torch.ones(1, 2, device=device)).tolist()
    except Exception as error:  # no C compiler, no Python.h, a cache without room, …: no reason not to train
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        warnings.warn(
            f"Triton is installed but runs no kernel on {device} ({reason}). PyTorch's kernels take the place of "
            "ours, which is slower; DIFFUSEQ_KERNELS=0 does the same without a word.",
            stacklevel=2,
        )
        return False
    return True


def are_shared(gains: Tensor | None) -> bool:
    """Whether gains, [w] or [… g w], are the same for all rows of a batch."""
    return gains is None or gains.numel() == gains.shape[-1] * (1 if gains.ndim == 1 else gains.shape[-2])


def fit_heads(x: Tensor, heads: int) -> bool:
    """As `fit`, for attention of so many heads over states x [… w]."""
    return fit(x) and x.shape[-1] // heads in HEAD_SIZES


def are_short(mask: Tensor, positions: int) -> bool:
    """Whether `attend` has room for rows of so many positions and their source; mask [… s+n]."""
    return max(positions, mask.shape[-1] - positions) <= LONGEST


def are_few(words: Tensor) -> bool:
    """Whether `word_nats` can be asked for a vocabulary of these [v]."""
    return len(words) <= MOST_WORDS


def norm(x: Tensor, gains: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """`diffuseq.model.blocks.normed` for gains that are shared."""
    from diffuseq.kernels.rows import Norm

    return Norm.apply(x, _groups(gains), eps)


def add(x: Tensor, added: Tensor, dropout: float, gates: Tensor | None) -> Tensor:
    """`diffuseq.model.blocks.add` for gates that are shared."""
    from diffuseq.kernels.rows import Add

    return Add.apply(x, added, None if gates is None else _groups(gates), dropout)


def swiglu(both: Tensor) -> Tensor:
    """SiLU(gate) · value [… f] of gate and value side by side [… 2f]."""
    from diffuseq.kernels.rows import SwiGLU

    return SwiGLU.apply(both)


def attend(
    qkv: Tensor,
    memory: tuple[Tensor, Tensor] | None,
    mask: Tensor,
    turn: tuple[Tensor, Tensor],
    heads: int,
    looking: int | None,
    dropout: float,
) -> Tensor:
    """Attention of the last `looking` positions (None: all) [b q w] from queries, keys and values side by side
    [b n 3w], as yet neither even nor turned, over a memory [b h s e] and the row itself; mask [b 1|q s+n]. For what
    `fit_heads` and `are_short` say."""
    from diffuseq.kernels.attention import Attend

    (key, value), looking = memory or (None, None), qkv.shape[1] if looking is None else looking
    return Attend.apply(qkv, key, value, mask, *turn, heads, looking, dropout)


def keys_and_values(kv: Tensor, turn: tuple[Tensor, Tensor], heads: int) -> tuple[Tensor, Tensor]:
    """Keys [b h s e], even and turned, and values, of both side by side [b s 2w]. For what `fit_heads` says."""
    from diffuseq.kernels.attention import KeysAndValues

    return KeysAndValues.apply(kv, *turn, heads)


def word_nats(scores: Tensor, bias: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """−log p [n] of words [n] under the softmax of scores [n v] and biases [v], and its mean over all words [n]."""
    from diffuseq.kernels.words import WordNats

    return WordNats.apply(scores, bias, ids)


def _groups(gains: Tensor) -> Tensor:
    """[w] or [… g w] → [g w]."""
    return gains.reshape(-1, gains.shape[-1])
