"""Our denoiser in ONNX: written beside the weights once, run by ONNX Runtime on a CPU.

    diffuseq export runs/mine                      writes runs/mine/onnx
    diffuseq generate runs/mine --runtime onnx

One answer comes half as fast again as with PyTorch, for there the cost of an operation counts; ten candidates
gain a fifth (docs/log.md). Two graphs serve all rows and lengths: `decoder` is `Denoiser.decode`, `words` is
`Denoiser.logits`. Everything around them (samplers, guidance, templates, the pointer, the draw, and the
source, which is read once) stays ours, so that all settings work with both.

Legend: n rows, l target length, s source length, d embedding width, w width, v vocabulary, m positions.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffuseq.errors import InputError, first_line
from diffuseq.files import atomic_folder
from diffuseq.model.blocks import Memory
from diffuseq.model.denoiser import Denoiser, Encoded, Level
from diffuseq.system import System
from diffuseq.systems.diffuseq import DiffuSeq
from diffuseq.weights import hash_weights, read_json

ONNX = "onnx"
"""The folder in a model folder."""
_DECODER, _WORDS, _MADE_FROM = "decoder.onnx", "words.onnx", "made-from.json"
_ONE_FILE = 2**30
"""Bytes of weights up to which a graph is one file; ONNX allows two gigabytes."""


def export_onnx(system: System, folder: str | Path) -> Path:
    """Write the graphs of a system whose model folder is `folder`, and give the folder they are in.

    Raises `InputError` for a system that is not ours, or where a package is missing.
    """
    folder, ours = Path(folder), _ours(system)
    _package("onnx")
    _package("onnxscript")
    _package("onnxruntime")
    made_from = {"weights": hash_weights(folder)}
    with atomic_folder(folder / ONNX) as temporary, torch.no_grad():
        for name, graph, example in _graphs(ours):
            _export(graph, example, temporary / name)
            _Graph(temporary / name)  # what cannot be opened is noticed now
        (temporary / _MADE_FROM).write_text(json.dumps(made_from, indent=2) + "\n", encoding="utf-8")
    return folder / ONNX


def use_onnx(system: System, folder: str | Path) -> System:
    """The system of a model folder, its denoiser computed by ONNX Runtime. For generation only.

    Raises `InputError` for a system that is not ours, where the package or the graphs are missing, or for graphs of
    other weights.
    """
    ours, place = _ours(system), Path(folder) / ONNX
    if not (place / _MADE_FROM).is_file():
        raise InputError(
            f"{folder} has no graphs for ONNX Runtime; write them with `diffuseq export {folder}`."
        )
    if read_json(place / _MADE_FROM).get("weights") != hash_weights(Path(folder)):
        raise InputError(
            f"The graphs in {place} were made from other weights than those of {folder}; write them anew with "
            f"`diffuseq export {folder}`."
        )
    ours.denoiser = OnnxDenoiser(ours.denoiser, _Graph(place / _DECODER), _Graph(place / _WORDS))
    return ours.eval()


class OnnxDenoiser(Denoiser):
    """A denoiser that leaves `decode` and `logits` to ONNX Runtime, and shares all else with the original."""

    def __init__(self, original: Denoiser, decoder: _Graph, words: _Graph) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(original.__dict__)
        self._decoder, self._words = decoder, words
        self._source: tuple[Encoded, list[Tensor]] | None = None

    def decode(
        self, x: Tensor, level: Level, padding: Tensor, encoded: Encoded, estimate: Tensor | None = None
    ) -> Tensor:
        levels = (part.expand(*x.shape[:2], *part.shape[2:]) for part in level)
        estimates = [] if estimate is None else [estimate]
        return self._decoder([x, *levels, padding, *estimates, *self._of_source(encoded)])

    def logits(self, hidden: Tensor, table: Tensor | None = None) -> Tensor:
        """[m w] or [n l w] → [… v]; the table is in the graph."""
        scores = self._words([hidden.flatten(0, -2)])
        return scores.view(*hidden.shape[:-1], scores.shape[-1])

    def _of_source(self, encoded: Encoded) -> list[Tensor]:
        """What the graph takes of the source, laid out once for all calls of a generation."""
        if self._source is None or self._source[0] is not encoded:
            parts = [encoded.padding, *(part for memory in encoded.memories for part in memory)]
            self._source = encoded, [part.contiguous() for part in parts]
        return self._source[1]


class _Decode(nn.Module):
    """`Denoiser.decode` over plain tensors, in the order in which `OnnxDenoiser` gives them."""

    def __init__(self, denoiser: Denoiser, self_conditioned: bool) -> None:
        super().__init__()
        self.denoiser, self.self_conditioned = denoiser, self_conditioned

    def forward(self, x: Tensor, *given: Tensor) -> Tensor:
        level, (padding, *rest) = Level(*given[:3]), given[3:]
        estimate = rest.pop(0) if self.self_conditioned else None
        source_padding, *memory = rest
        memories = [Memory(*memory[i : i + 2]) for i in range(0, len(memory), 2)]
        nothing = x.new_zeros(0)  # the parts that `decode` leaves alone
        return self.denoiser.decode(
            x, level, padding, Encoded(nothing, nothing, source_padding, memories, None), estimate
        )


class _Logits(nn.Module):
    """`Denoiser.logits` [m w] → [m v], with the normalised table as a constant of the graph."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.head = denoiser.word_head
        self.register_buffer("table", denoiser.word_embedding.table().T.contiguous())
        self.register_buffer("bias", denoiser.word_bias.detach().clone())

    def forward(self, hidden: Tensor) -> Tensor:
        return self.head(hidden) @ self.table + self.bias


def _graphs(system: DiffuSeq) -> list[tuple[str, nn.Module, list[tuple[Tensor, dict[int, Any]]]]]:
    """The graphs by file name, with an example of every input and the names of its free sizes."""
    denoiser, n, length, source = system.denoiser.float().cpu().eval(), 6, 7, 9
    rows, target, read = (torch.export.Dim(name, min=2) for name in ("rows", "target", "source"))
    x = torch.randn(n, length, denoiser.word_embedding.weight.shape[1])
    is_padding = torch.zeros(n, length, dtype=torch.bool)
    ids = torch.zeros(n, source, dtype=torch.long)
    encoded = denoiser.encode(ids, torch.zeros(n, source, dtype=torch.bool))
    on_target = [x, *denoiser.level(torch.zeros(n, length)), is_padding]
    on_target += [torch.randn_like(x)] if system.config.self_condition else []
    memory = [part.contiguous() for memory in encoded.memories for part in memory]
    inputs = [(each, {0: rows, 1: target}) for each in on_target]
    inputs += [(encoded.padding, {0: rows, 1: read}), *((each, {0: rows, 2: read}) for each in memory)]
    hidden = [(torch.randn(n, denoiser.width), {0: rows})]
    return [
        (_DECODER, _Decode(denoiser, bool(system.config.self_condition)).eval(), inputs),
        (_WORDS, _Logits(denoiser), hidden),
    ]


def _export(graph: nn.Module, example: list[tuple[Tensor, dict[int, Any]]], path: Path) -> None:
    inputs, shapes = zip(*example, strict=True)
    free: Any = shapes if len(shapes) == 1 else (shapes[0], shapes[1:])  # the rest is one argument, `*given`
    weights = sum(each.nbytes for each in graph.state_dict().values())
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it regrets that torchvision is not there
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, about what it is built of
        torch.onnx.export(
            graph,
            inputs,
            path,
            dynamo=True,
            dynamic_shapes=free,
            external_data=weights > _ONE_FILE,
            verbose=False,
        )


class _Graph:
    """A graph as ONNX Runtime has opened it: tensors in, in the order of its inputs, its one output out."""

    def __init__(self, path: Path) -> None:
        runtime = _package("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
        options.log_severity_level = 4  # what goes wrong is told by the exceptions
        try:
            self.session = runtime.InferenceSession(
                str(path), options, ["CPUExecutionProvider"], enable_fallback=0
            )
        except Exception as error:
            raise InputError(f"{path} is no graph that ONNX Runtime opens: {first_line(error)}.") from error
        self.path, self.names = path, [each.name for each in self.session.get_inputs()]

    def __call__(self, inputs: Sequence[Tensor]) -> Tensor:
        try:
            given = {name: value.detach().numpy() for name, value in zip(self.names, inputs, strict=True)}
            return torch.from_numpy(self.session.run(None, given)[0])
        except Exception as error:
            raise InputError(
                f"ONNX Runtime cannot compute {self.path} ({first_line(error)}); write it anew with "
                "`diffuseq export`."
            ) from error


def _ours(system: System) -> DiffuSeq:
    if not isinstance(system, DiffuSeq):
        raise InputError(
            f"Only our DiffuSeq runs on ONNX Runtime, and this model is a {type(system).__name__}; leave the "
            "runtime at torch."
        )
    return system


def _package(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError:
        raise InputError(f"The package {name} is missing: pip install 'diffuseq[onnx]'.") from None
