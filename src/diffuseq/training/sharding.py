"""Tensors that FSDP spreads over processes: put together, and spread again. Plain tensors pass through."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor


def is_sharded(tensor: Tensor) -> bool:
    return hasattr(tensor, "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """The full tensor. With FSDP every process must call it, in the same order."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def collect(tensors: Iterable[tuple[str, Tensor]], keep: bool) -> dict[str, Tensor]:
    """The full tensors by name, for the processes that `keep` them; every process must call it.

    Each sharded tensor goes to main memory before the next is put together, so that no device holds the model
    whole. Plain ones are given as they are.
    """
    kept = {}
    for name, tensor in tensors:
        full = whole(tensor.detach())
        if keep:
            kept[name] = full.cpu() if is_sharded(tensor) else full
    return kept


def sharded_like(like: Tensor, full: Tensor) -> Tensor:
    """`full`, spread over the processes as `like` is."""
    if not is_sharded(like):
        return full
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(full, like.device_mesh, like.placements)  # type: ignore[attr-defined]
