"""Matrix products with weights that do not change, on a CPU: the weights lie in the blocks that a product reads.

A product of few rows takes as long as it takes to read its weights. oneDNN reads them in blocks, and puts those
that lie row by row into blocks first, in every call anew. A network that only answers has them laid out once, which
halves the time of such a product (docs/log.md). The weights themselves stay where they are, so that the network can
be saved, moved and trained as before: what is laid out is a copy, made when it is first needed.

Legend: i inputs, o outputs.
"""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffuseq import kernels

_ROWS = 64
"""Rows for which oneDNN is asked how weights should lie; others are served as well by it."""
_MANY = 1 << 18
"""Numbers of a layer's weights from which on its products gain more than what it takes to ask for them."""
_KINDS = (torch.float32, torch.bfloat16)


def block_weights(network: nn.Module) -> None:
    """Let the linear layers of a network that only answers keep their weights in blocks as well, in place.

    They count where it answers on a CPU and no gradients are wanted; without such a processor nothing changes.
    Weights that change later are laid out anew, but for changes through `.data`, which cannot be seen.
    """
    if not _can_block():
        return
    made: dict[nn.Module, Blocked] = {}  # a layer may stand in several places
    for module in list(network.modules()):
        for name, layer in module._modules.items():
            if layer is not None and is_linear(layer) and _pays(layer):
                made[layer] = made.get(layer) or Blocked(layer)
                setattr(module, name, made[layer])


def _pays(layer: nn.Module) -> bool:
    return not isinstance(layer, Blocked) and cast(nn.Parameter, layer.weight).numel() >= _MANY


def is_linear(layer: nn.Module) -> bool:
    """Whether it is PyTorch's linear layer, transformers' one, or one of these with its weights in blocks."""
    return isinstance(layer, nn.Linear | Blocked) or _is_transposed(layer)


def _is_transposed(layer: nn.Module) -> bool:
    """Whether a linear layer's weights are [i o], as transformers' are."""
    return type(layer).__name__ == "Conv1D"


class Blocked(nn.Module):
    """A linear layer's parameters, and a copy of its weights in blocks."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.register_parameter("weight", cast(nn.Parameter, layer.weight))
        self.register_parameter("bias", cast(nn.Parameter | None, layer.bias))
        self.is_transposed = _is_transposed(layer)
        self._blocks: Tensor | None = None
        self._state: tuple[Any, ...] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """x [… i] → [… o]"""
        weight, bias = self._parameters["weight"], self._parameters["bias"]
        assert weight is not None
        if not _is_answering(x, weight):
            return F.linear(x, self._rows(weight), bias)
        state = weight.data_ptr(), weight.dtype, None if weight.is_inference() else weight._version
        if self._state != state:
            rows = self._rows(weight).detach().contiguous()
            self._blocks, self._state = torch.ops.mkldnn._reorder_linear_weight(rows, _ROWS), state
        return cast(Tensor, _product()(x.to(weight.dtype), self._blocks, bias, "none", [], ""))

    def extra_repr(self) -> str:
        outputs, inputs = self._rows(self.weight).shape
        return f"in_features={inputs}, out_features={outputs}, bias={self.bias is not None}"

    def _rows(self, weight: Tensor) -> Tensor:
        """The weights [o i]."""
        return weight.T if self.is_transposed else weight

    def __getstate__(self) -> dict[str, Any]:
        """Blocks can be neither copied nor pickled, and are soon made anew."""
        return {**self.__dict__, "_blocks": None, "_state": None}


def _is_answering(x: Tensor, weight: Tensor) -> bool:
    """Whether a CPU computes without gradients, in the precision of the weights."""
    if (
        kernels.are_left_out()
        or torch.is_grad_enabled()
        or x.device.type != "cpu"
        or torch.compiler.is_compiling()
    ):
        return False
    wanted = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else weight.dtype
    return weight.dtype == wanted and wanted in _KINDS and x.numel() > 0


@functools.cache
def _product() -> Callable[..., Any]:
    return cast(Callable[..., Any], torch.ops.mkldnn._linear_pointwise.default)


@functools.cache
def _can_block() -> bool:
    """Whether PyTorch has these operations here, and they compute what they should."""
    if platform.machine().lower() not in ("x86_64", "amd64") or not torch.backends.mkldnn.is_available():
        return False
    with torch.random.fork_rng(devices=[]):
        layer, x = nn.Linear(32, 16, dtype=torch.float32), torch.randn(3, 32, dtype=torch.float32)
    try:
        with torch.no_grad():
            return torch.allclose(Blocked(layer)(x), layer(x), atol=1e-4)
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
