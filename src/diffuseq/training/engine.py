"""One process or many, by accelerate: what torchrun or `accelerate launch` started, with a copy of the model
on each (DDP), or its weights, gradients and optimiser state spread over all (FSDP, full shard).

Settings of `accelerate config` that would change what is computed (mixed precision, accumulation,
compilation) are not taken over, so that every way of starting gives the same run; its own settings say them.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import TypeVar

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs, PartialState
from accelerate.utils import (
    DistributedType,
    FullyShardedDataParallelPlugin,
    GradientAccumulationPlugin,
    broadcast_object_list,
    gather_object,
)
from torch import nn
from torch.optim import Optimizer

from diffuseq.errors import InputError
from diffuseq.system import System

T = TypeVar("T")
PATIENCE = timedelta(hours=6)
"""How long processes wait for each other: the first one tokenises a large corpus while the others wait."""


def make_accelerator(fsdp: bool = False) -> Accelerator:
    """The engine for this process, or for all that torchrun or `accelerate launch` started (gloo on CPUs).

    fsdp: spread the model instead of copying it; so does `accelerate launch --use_fsdp --fsdp_version 2`.
    Raises `InputError` for the first version of FSDP, whose flattened weights have no names.
    """
    asked = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    if asked and os.environ.get("FSDP_VERSION", "1") != "2":
        raise InputError(
            "accelerate was told to use FSDP 1; add --fsdp_version 2 (fsdp_version: 2 in its config), or "
            "leave FSDP to --training.fsdp."
        )
    plugin = _plugin(asked) if fsdp or asked else None
    some_unused = DistributedDataParallelKwargs(find_unused_parameters=True)  # say, those of a dropped source
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),
        mixed_precision="no",
        dynamo_backend="no",
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        fsdp_plugin=plugin,
        kwargs_handlers=[some_unused, InitProcessGroupKwargs(timeout=PATIENCE)],
    )
    if plugin is not None and accelerator.distributed_type == DistributedType.MULTI_CPU:
        # accelerate turns FSDP on for GPUs alone, but all that it then calls works on CPUs too.
        PartialState().distributed_type = accelerator.state.distributed_type = DistributedType.FSDP
        accelerator.state.fsdp_plugin = plugin
    if accelerator.device.type == "cuda" and accelerator.device.index is not None:
        torch.cuda.set_device(accelerator.device)  # where Triton launches, and graphs are recorded
    return accelerator


def _plugin(from_environment: bool) -> FullyShardedDataParallelPlugin:
    """Full shard, layer by layer; what `accelerate launch` was told beyond that (say, offloading) counts."""
    if from_environment and os.environ.get("FSDP_AUTO_WRAP_POLICY", "NO_WRAP") != "NO_WRAP":
        return FullyShardedDataParallelPlugin(fsdp_version=2)
    return FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy="transformer_based_wrap")


def distribute(
    accelerator: Accelerator, system: System, optimizers: Sequence[Optimizer]
) -> tuple[nn.Module, System, list[Optimizer]]:
    """The wrapped model, the system in it, and the optimisers; all with the weights of the first process."""
    if accelerator.is_fsdp2:
        _start_equal(accelerator, system)
        layers = list(repeated_layers(system))
        plugin = accelerator.state.fsdp_plugin
        if not plugin.transformer_cls_names_to_wrap:
            plugin.transformer_cls_names_to_wrap = sorted({type(layer).__name__ for layer in layers})
        # A layer that hands out a view is fine here: nobody changes it in place.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view")
    model, *wrapped = accelerator.prepare(system, *optimizers)
    if accelerator.is_fsdp2:
        _gather_for_every_method(layers)
    unwrapped: System = accelerator.unwrap_model(model, keep_torch_compile=True)
    return model, unwrapped, [optimizer.optimizer for optimizer in wrapped]


def repeated_layers(system: nn.Module) -> Iterator[nn.Module]:
    """The outermost members of module lists that have weights: what FSDP gathers one after the other."""
    for child in system.children():
        if isinstance(child, nn.ModuleList):
            yield from (layer for layer in child if any(True for _ in layer.parameters()))
        else:
            yield from repeated_layers(child)


def reshard(model: nn.Module) -> None:
    """After forward passes without a backward one: let go of gathered weights, which would soon be stale."""
    from torch.distributed.fsdp import FSDPModule

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def _gather_for_every_method(layers: Iterable[nn.Module]) -> None:
    """FSDP gathers a layer's weights for `forward`; here for its other public methods too."""
    from torch.distributed.fsdp import FSDPModule, register_fsdp_forward_method

    for layer in layers:
        if isinstance(layer, FSDPModule):
            for name in dir(layer):
                own = (
                    not name.startswith("_")
                    and not hasattr(FSDPModule, name)
                    and not hasattr(nn.Module, name)
                )
                if own and callable(getattr(type(layer), name, None)):
                    register_fsdp_forward_method(layer, name)


@torch.no_grad()
def _start_equal(accelerator: Accelerator, system: nn.Module) -> None:
    """As DDP does: the first process's weights go to all."""
    for tensor in (*system.parameters(), *system.buffers()):
        there = tensor.to(accelerator.device)
        torch.distributed.broadcast(there, 0)
        tensor.copy_(there)


def on_main(accelerator: Accelerator | PartialState, action: Callable[[], T]) -> T | None:
    """What `action` gives in the first process, None in the others, which wait for it.

    Its `InputError` ends all processes, and the first alone says it.
    """
    result, error = None, None
    if accelerator.is_main_process:
        try:
            result = action()
        except InputError as problem:
            error = problem
    if accelerator.num_processes > 1:
        failed = broadcast_object_list([error is not None])[0]
        if failed and not accelerator.is_main_process:
            sys.exit(2)
    if error is not None:
        raise error
    return result


class ShareFailedError(RuntimeError):
    """A process could not do its share; all processes raise it together."""


def in_shares(
    accelerator: Accelerator, work: Callable[[list[T]], Sequence[str]]
) -> Callable[[list[T]], list[str]]:
    """`work`, every process on its share of the items; all get all results, in the order of the items."""
    count, rank = accelerator.num_processes, accelerator.process_index
    if count == 1:
        return lambda items: list(work(items))

    def shared(items: list[T]) -> list[str]:
        results: Sequence[str] = []
        problem = None
        try:
            results = work(items[rank::count]) if items[rank::count] else []
        except Exception as error:
            problem = error
        texts = [None if problem is None else f"process {rank}: {problem!r}"]
        failures = [text for text in gather_object(texts) if text is not None]
        if failures:
            raise ShareFailedError("; ".join(failures)) from problem
        parts = gather_object([list(results)])
        return [parts[i % count][i // count] for i in range(len(items))]

    return shared
