"""Optimisers and the course of the learning rate.

Legend: g matrices of one shape, m rows, n columns.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from diffuseq.config import TrainingConfig
from diffuseq.errors import InputError
from diffuseq.system import System
from diffuseq.training.sharding import sharded_like, whole

NOT_HIDDEN = ("embedding", "head")
"""Parameters with one of these in their name are tables of words or outputs, not hidden matrices; so is the weight
of every `nn.Embedding`, whatever its name (transformers call theirs wte or relative_attention_bias)."""

OF_CHANNELS = ("gains", "modulation_offset")
"""Parameters whose name ends in one of these are rows of numbers, one for every channel, and no matrices."""


class Muon(Optimizer):
    """Momentum, orthogonalised: every update of a matrix has all its singular values near one.

    Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024. For an m×n matrix the
    step is lr · √max(1, m/n). Matrices of one shape, transposed ones included, are orthogonalised in one
    batched call, which is what makes it cheap for small networks.
    """

    def __init__(
        self, params: Iterable[Any], lr: float = 0.02, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every matrix that has a gradient."""
        if closure is not None:
            raise NotImplementedError("Muon takes no closure; compute the gradients first.")
        for group in self.param_groups:
            matrices = [p for p in group["params"] if p.grad is not None]
            if not matrices:
                continue
            momenta = [self._momentum(p) for p in matrices]
            gradients = [p.grad for p in matrices]
            torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
            ahead = torch._foreach_lerp(gradients, momenta, group["momentum"])  # Nesterov's look ahead
            updates = orthogonalize_all([whole(matrix) for matrix in ahead])
            for p, update in zip(matrices, updates, strict=True):
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(sharded_like(p, update), alpha=-group["lr"] * max(1.0, p.shape[0] / p.shape[1]) ** 0.5)

    def _momentum(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum: Tensor = state["momentum"]
        return momentum


def orthogonalize(matrices: Tensor, iterations: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrices, roughly: singular values go to about 0.7…1.2, vectors stay.

    matrices: [g m n]. Newton–Schulz with the quintic of Jordan et al. 2024, chosen for its speed near zero
    and not for converging to exactly one.
    """
    wide = matrices.shape[-2] <= matrices.shape[-1]
    x = matrices if wide else matrices.mT
    x = x.bfloat16() if x.is_cuda else x.float()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    if x.dtype == torch.float32 and x.shape[-1] >= 2 * x.shape[-2]:
        x = _factor_by_gram(x @ x.mT, iterations) @ x
    else:
        for _ in range(iterations):
            x = _newton_schulz(x @ x.mT) @ x
    return (x if wide else x.mT).to(matrices.dtype)


def _newton_schulz(gram: Tensor) -> Tensor:
    """What an iteration multiplies x [g m n] by, from x xᵀ [g m m]."""
    a, b, c = 3.4445, -4.7750, 2.0315
    factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    factor.diagonal(dim1=-2, dim2=-1).add_(a)
    return factor


def _factor_by_gram(gram: Tensor, iterations: int) -> Tensor:
    """The product of all iterations' factors, without x: they and x xᵀ [g m m] are polynomials in one matrix, so
    that they commute. For n ≥ 2m this takes two thirds of the time; it needs single precision, since x xᵀ has
    the squares of the singular values."""
    factor = product = _newton_schulz(gram)
    for _ in range(iterations - 1):
        gram = factor @ gram @ factor
        factor = _newton_schulz(gram)
        product = factor @ product
    return product


def orthogonalize_all(matrices: list[Tensor]) -> list[Tensor]:
    """`orthogonalize` each [m n], with one batched call for every shape up to transposition."""
    alike: dict[tuple[int, int], list[int]] = defaultdict(list)
    for i, matrix in enumerate(matrices):
        alike[min(matrix.shape), max(matrix.shape)].append(i)
    results: list[Tensor] = list(matrices)
    for indices in alike.values():
        tall = [matrices[i].shape[0] > matrices[i].shape[1] for i in indices]
        stacked = torch.stack(
            [matrices[i].mT if t else matrices[i] for i, t in zip(indices, tall, strict=True)]
        )
        for i, t, update in zip(indices, tall, orthogonalize(stacked), strict=True):
            results[i] = update.mT if t else update
    return results


def make_optimizers(system: System, settings: TrainingConfig) -> list[Optimizer]:
    """AdamW for everything, or Muon for the hidden matrices and AdamW for the rest.

    Weight decay is for matrices only. What has a smaller share of the learning rate (`System.learning_rate_share`)
    is pretrained, and AdamW moves it. Every group keeps its peak learning rate under "peak". Raises `InputError`
    for a system without parameters to train.
    """
    named = [(name, p) for name, p in system.named_parameters() if p.requires_grad]
    if not named:
        raise InputError("The system has no parameters to train; give one that has some.")
    hidden = hidden_matrices(system, dict(named)) if settings.optimizer == "muon" else []
    taken = set(map(id, hidden))
    alike: dict[tuple[bool, float], list[nn.Parameter]] = defaultdict(list)
    for name, p in named:
        if id(p) not in taken:
            alike[is_matrix(name, p), system.learning_rate_share(name)].append(p)
    groups = [
        {
            "params": params,
            "weight_decay": settings.weight_decay if decays else 0.0,
            "lr": settings.learning_rate * share,
        }
        for (decays, share), params in sorted(alike.items(), key=lambda item: item[0], reverse=True)
    ]
    optimizers: list[Optimizer] = []
    if groups:
        optimizers.append(AdamW(groups, lr=settings.learning_rate, betas=settings.betas, fused=True))
    if hidden:
        optimizers.append(Muon(hidden, lr=settings.muon_learning_rate, weight_decay=settings.weight_decay))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers


def is_matrix(name: str, parameter: Tensor) -> bool:
    """Whether a parameter is a matrix, or several; scales and biases of channels are none, in whatever number."""
    return parameter.ndim >= 2 and not name.endswith(OF_CHANNELS)


def hidden_matrices(system: System, named: dict[str, nn.Parameter]) -> list[nn.Parameter]:
    """What Muon is for: matrices inside the network, neither tables nor heads, that learn at the full rate."""
    tables = {id(module.weight) for module in system.modules() if isinstance(module, nn.Embedding)}
    return [
        p
        for name, p in named.items()
        if p.ndim == 2
        and is_matrix(name, p)
        and min(p.shape) > 1
        and id(p) not in tables
        and not any(part in name for part in NOT_HIDDEN)
        and system.learning_rate_share(name) == 1
    ]


def set_learning_rate(optimizers: Iterable[Optimizer], factor: float) -> None:
    """Give every group `factor` times its peak."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * factor


def learning_rate_factor(settings: TrainingConfig, done: float, after: float) -> float:
    """The learning rate of a step, as a share of its peak.

    done, after: share of the training that lies behind before and after this step, 0…1 (of steps, or of
    time). Warm-up looks at `after`, so that the first step moves; the decay looks at `done`, so that the
    last one does, and a linear decay without warm-up is the published lr·(1 − step/steps).
    """
    if settings.warmup > 0 and after < settings.warmup:
        return after / settings.warmup
    left = 1.0 - min(1.0, max(0.0, done - settings.warmup) / max(1e-12, 1.0 - settings.warmup))
    if settings.schedule == "constant":
        return 1.0
    if settings.schedule == "inverse-sqrt":
        if settings.warmup <= 0:
            raise InputError("The schedule inverse-sqrt needs a warm-up; set training.warmup above 0.")
        return math.sqrt(settings.warmup / max(done, settings.warmup))
    shape = left if settings.schedule == "linear" else 0.5 - 0.5 * math.cos(math.pi * left)
    return settings.final_learning_rate + (1.0 - settings.final_learning_rate) * shape
