"""Tensors that FSDP spreads over processes: put together, and spread again. Plain tensors pass through."""

from __future__ import annotations

from torch import Tensor


def whole(tensor: Tensor) -> Tensor:
    """The full tensor. With FSDP every process must call it, in the same order."""
    full = getattr(tensor, "full_tensor", None)
    return tensor if full is None else full()


def sharded_like(like: Tensor, full: Tensor) -> Tensor:
    """`full`, spread over the processes as `like` is."""
    if not hasattr(like, "full_tensor"):
        return full
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(full, like.device_mesh, like.placements)  # type: ignore[attr-defined]
