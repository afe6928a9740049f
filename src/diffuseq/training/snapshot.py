"""All that a training has to remember, as tensors and plain values, and back (see `training.state`).

With FSDP the tensors are gathered whole, so that a run can go on with another number of processes.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from diffuseq.errors import InputError
from diffuseq.registry import build
from diffuseq.system import System
from diffuseq.training.loop import Progress, Training
from diffuseq.training.sharding import collect, sharded_like
from diffuseq.training.state import Tensors, pack, unpack


def take_snapshot(training: Training) -> tuple[dict[str, Tensors], dict[str, Any]]:
    """Groups of tensors (in the first process), and plain values. Every process must call it. Save them
    before the next step, for some tensors are the training's own."""
    keep = training.accelerator.is_main_process
    names = [name for name, _ in training.system.named_parameters()]
    extra: Tensors = {}
    system_state = pack(training.system.state(), extra)
    tensors = {
        "weights": full_state(training.system, keep),
        "average": collect(zip(names, training.average.values, strict=False), keep),
        "optimizer": collect(
            (
                (f"{name}|{key}", value)
                for name, state in _optimizer_states(training).items()
                for key, value in state.items()
            ),
            keep,
        ),
        "system": extra,
    }
    return tensors, {
        "progress": asdict(training.progress),
        "bf16": training.bf16,
        "chunks": training.chunks,
        "system": system_state,
    }


@torch.no_grad()
def restore(training: Training, tensors: dict[str, Tensors], values: dict[str, Any]) -> None:
    """Put a snapshot back. Raises `InputError` when it is of another system."""
    own = training.system.state_dict()
    parameters = dict(training.system.named_parameters())
    try:
        for name, value in tensors["weights"].items():
            own[name].copy_(sharded_like(own[name], value.to(own[name].device)))
        for name, average in zip(parameters, training.average.values, strict=False):
            average.copy_(sharded_like(average, tensors["average"][name].to(average.device)))
        states = _optimizer_states(training)
        for key, value in tensors["optimizer"].items():
            name, entry = key.rsplit("|", 1)
            parameter = parameters[name]
            value = value.to(parameter.device)
            states[name][entry] = sharded_like(parameter, value) if value.ndim else value
    except (KeyError, RuntimeError) as error:
        raise InputError(
            f"The checkpoint is of another system or optimiser ({str(error)[:200]}); resume with the "
            "settings that the run was started with, or start anew with --overwrite."
        ) from None
    training.system.load_state(unpack(values["system"], tensors["system"]))
    training.progress = Progress(**values["progress"])


def averaged_state(training: Training) -> Tensors:
    """The state dict of the model that is kept, in the first process; every process must call it."""
    with training.average.in_place():
        return full_state(training.system, training.accelerator.is_main_process)


def full_state(system: System, keep: bool = True) -> Tensors:
    """A copy of the state dict, whole, with tied weights under their first name; empty without `keep`."""
    first = {name for name, _ in system.named_parameters()}
    every = {name for name, _ in system.named_parameters(remove_duplicate=False)}
    named = ((n, v) for n, v in system.state_dict().items() if n in first or n not in every)
    return {name: value.clone() for name, value in collect(named, keep).items()}


def complete_copy(training: Training) -> System:
    """A system of its own with the weights that a sharded one carries now, for generating: FSDP gathers
    weights for the training's forward pass alone. Every process must call it."""
    copy = build(training.system.config, training.system.special)
    copy.load_state_dict(full_state(training.system), strict=False)  # tied weights come under one name
    return copy.to(training.accelerator.device)


def _optimizer_states(training: Training) -> dict[str, dict[str, Tensor]]:
    """What the optimisers keep for each parameter, by its name; changes go through."""
    names = {parameter: name for name, parameter in training.system.named_parameters()}
    return {
        names[parameter]: optimizer.state[parameter]
        for optimizer in training.optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
