"""Our denoiser in ONNX: written beside the weights once, run by ONNX Runtime on a CPU.

    diffuseq export runs/mine                      writes runs/mine/onnx
    diffuseq generate runs/mine --runtime onnx

One answer comes in three quarters of the time that PyTorch takes, for there the cost of an operation counts; ten
candidates of a larger model, and many sources at once, are faster with PyTorch (docs/results.md). Three graphs
serve all rows and lengths: `reader` is our encoder with what the decoder remembers of it, `decoder` is
`Denoiser.decode_slots`, `words` is `Denoiser.logits`. Everything around them (samplers, guidance, templates, the
pointer, the draw) stays ours, so that all settings work with both.

Legend: n rows, l target length, s source length, d embedding width, w width, v vocabulary, m positions.
"""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffuseq.errors import InputError, first_line
from diffuseq.files import atomic_folder, utf8_path
from diffuseq.model.blocks import Memory
from diffuseq.model.denoiser import Denoiser, Encoded, Level
from diffuseq.model.packing import Packing
from diffuseq.models import shipped_name
from diffuseq.names import word
from diffuseq.precision import fp32_by_default
from diffuseq.system import System
from diffuseq.systems.diffuseq import DiffuSeq
from diffuseq.weights import hash_weights, read_json

ONNX = "onnx"
"""The folder in a model folder."""
_READER, _DECODER, _WORDS, _MADE_FROM = "reader.onnx", "decoder.onnx", "words.onnx", "made-from.json"
_ONE_FILE = 2**30
"""Bytes of weights up to which a graph is one file; ONNX allows two gigabytes."""


def check_exportable(system: System) -> None:
    """Raise `InputError` for a system that is not ours, or where a package is missing."""
    _ours(system)
    for package in ("onnx", "onnxscript", "onnxruntime"):
        _package(package)


def export_onnx(system: System, folder: str | Path) -> Path:
    """Write the graphs of a system whose model folder is `folder`, and give the folder they are in.

    Raises `InputError` for a system that is not ours, or where a package is missing.
    """
    folder, ours = Path(folder), _ours(system)
    made_from = {"weights": hash_weights(folder)}
    with atomic_folder(folder / ONNX) as temporary:
        _write_graphs(ours, temporary)
        _open_graphs(ours.denoiser, temporary)  # what cannot be opened is noticed now
        (temporary / _MADE_FROM).write_text(json.dumps(made_from, indent=2) + "\n", encoding="utf-8")
    return folder / ONNX


def compute_with_onnx(system: System) -> System:
    """The system itself, its denoiser computed by ONNX Runtime from now on, with graphs that are nowhere kept.

    Raises `InputError` for a system that is not ours, or where a package is missing.
    """
    ours = _ours(system)
    with tempfile.TemporaryDirectory() as folder:
        _write_graphs(ours, Path(folder))
        ours.denoiser = _open_graphs(ours.denoiser, Path(folder))
    return ours.eval()


def use_onnx(system: System, folder: str | Path) -> System:
    """The system of a model folder, its denoiser computed by ONNX Runtime. For generation only.

    Raises `InputError` for a system that is not ours, where the package or the graphs are missing, or for graphs of
    other weights.
    """
    ours, place = _ours(system), Path(folder) / ONNX
    if not (place / _MADE_FROM).is_file():
        raise InputError(f"{folder} has no graphs for ONNX Runtime; write them with {_advice(Path(folder))}.")
    if read_json(place / _MADE_FROM).get("weights") != hash_weights(Path(folder)):
        raise InputError(
            f"The graphs in {place} were made from other weights than those of {folder}; write them anew with "
            f"{_advice(Path(folder))}."
        )
    ours.denoiser = _open_graphs(ours.denoiser, place)
    return ours.eval()


def _advice(folder: Path) -> str:
    """The command that writes the graphs of a model; the package itself is no place for them."""
    if shipped_name(folder) is None:
        return f"`diffuseq export {word(folder)}`"
    return f"`diffuseq export {folder.name} --out FOLDER`, and answer with that FOLDER"


class OnnxDenoiser(Denoiser):
    """A denoiser that leaves its matrix products to ONNX Runtime, and shares all else with the original."""

    def __init__(self, original: Denoiser, reader: _Graph | None, decoder: _Graph, words: _Graph) -> None:
        """reader: None where a BERT reads the source."""
        nn.Module.__init__(self)
        self.__dict__.update(original.__dict__)
        self._reader, self._decoder, self._words = reader, decoder, words

    def encode(self, ids: Tensor, padding: Tensor) -> Encoded:
        if self._reader is None:
            return super().encode(ids, padding)
        states, *rest = self._reader([self.word_embedding(ids), padding])
        pointer_key = rest.pop() if self.copy else None
        return Encoded(states, ids, padding, _as_memories(rest), pointer_key)

    def decode(
        self, x: Tensor, level: Level, padding: Tensor, encoded: Encoded, estimate: Tensor | None = None
    ) -> Tensor:
        """All places of a memory that is made for this call: there is one graph for both ways."""
        places = torch.arange(x.shape[1]).expand(x.shape[:2])
        level = level._replace(modulation=level.modulation.expand(*x.shape[:2], -1, -1))
        return self.decode_places(x, level, padding, encoded.with_room(x.shape[1]), places, estimate)

    def decode_slots(
        self,
        hidden: Tensor,
        modulation: Tensor,
        places: Tensor,
        slots: Tensor,
        mask: Tensor,
        memories: list[Memory],
        last: int | None = None,
        packing: Packing | None = None,  # the graph computes all places
    ) -> Tensor:
        given = [hidden, modulation, places, slots, mask, *(part for memory in memories for part in memory)]
        hidden, *after = self._decoder([part.contiguous() for part in given])
        memories[:] = _as_memories(after)
        return hidden if last is None else hidden[:, -last:]

    def logits(self, hidden: Tensor, table: Tensor | None = None) -> Tensor:
        """[m w] or [n l w] → [… v]; the table is in the graph."""
        (scores,) = self._words([hidden.flatten(0, -2)])
        return scores.view(*hidden.shape[:-1], scores.shape[-1])


class _Read(nn.Module):
    """The encoder: embedded words [b s d] and padding [b s] → states, memories and, where there is one, the
    pointer's key."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        words, padding = given
        encoded = self.denoiser.remember(self.denoiser.read(words, padding), padding, padding)
        pointer_key = () if encoded.pointer_key is None else (encoded.pointer_key,)
        return encoded.states, *(part for memory in encoded.memories for part in memory), *pointer_key


class _Decode(nn.Module):
    """`Denoiser.decode_slots` over plain tensors → states and the memories after it."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        hidden, modulation, places, slots, mask, *parts = given
        memories = _as_memories([part.clone() for part in parts])  # a graph may not change what it is given
        states = self.denoiser.decode_slots(hidden, modulation, places, slots, mask, memories)
        return states, *(part for memory in memories for part in memory)


def _as_memories(parts: Sequence[Tensor]) -> list[Memory]:
    """Keys and values in turn, one pair a layer."""
    return [Memory(*parts[i : i + 2]) for i in range(0, len(parts), 2)]


class _Logits(nn.Module):
    """`Denoiser.logits` [m w] → [m v], with the normalised table as a constant of the graph."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.head = denoiser.word_head
        self.register_buffer("table", denoiser.word_embedding.table().T.contiguous())
        self.register_buffer("bias", denoiser.word_bias.detach().clone())

    def forward(self, *given: Tensor) -> Tensor:
        (hidden,) = given
        return self.head(hidden) @ self.table + self.bias


def _graphs(system: DiffuSeq) -> list[tuple[str, nn.Module, list[tuple[Tensor, dict[int, Any]]]]]:
    """The graphs by file name, with an example of every input and the names of its free sizes."""
    denoiser, n, m, length, source = system.denoiser.float().cpu().eval(), 6, 5, 7, 9
    rows, some, room = (torch.export.Dim(name, min=2) for name in ("rows", "places", "room"))
    read = torch.export.Dim("source", min=3)  # what the exporter asks for; shorter sources work as well
    ids = torch.zeros(n, source, dtype=torch.long)
    is_padding = torch.zeros(n, source, dtype=torch.bool)
    memories = denoiser.encode(ids, is_padding).with_room(length).memories
    places = torch.arange(m).expand(n, m).contiguous()
    entering = torch.randn(n, m, denoiser.width)
    modulation = denoiser.level(torch.zeros(n, m)).modulation
    on_places = [(each, {0: rows, 1: some}) for each in (entering, modulation, places, places + source)]
    mask = torch.ones(n, m, source + length + 1, dtype=torch.bool)
    memory = [(part.contiguous(), {0: rows, 2: room}) for memory in memories for part in memory]
    graphs: list[tuple[str, nn.Module, list[tuple[Tensor, dict[int, Any]]]]] = [
        (_DECODER, _Decode(denoiser).eval(), [*on_places, (mask, {0: rows, 1: some, 2: room}), *memory]),
        (_WORDS, _Logits(denoiser), [(torch.randn(n, denoiser.width), {0: rows})]),
    ]
    if denoiser.reader is None:
        words = denoiser.word_embedding(ids)
        to_read = [(words, {0: rows, 1: read}), (is_padding, {0: rows, 1: read})]
        graphs.append((_READER, _Read(denoiser).eval(), to_read))
    return graphs


def _write_graphs(system: DiffuSeq, folder: Path) -> None:
    check_exportable(system)
    with torch.no_grad(), fp32_by_default():
        for name, graph, example in _graphs(system):
            _export(graph, example, folder / name)


def _open_graphs(denoiser: Denoiser, folder: Path) -> OnnxDenoiser:
    reader = _Graph(folder / _READER) if denoiser.reader is None else None
    return OnnxDenoiser(denoiser, reader, _Graph(folder / _DECODER), _Graph(folder / _WORDS))


def _export(graph: nn.Module, example: list[tuple[Tensor, dict[int, Any]]], path: Path) -> None:
    inputs, shapes = zip(*example, strict=True)
    weights = sum(each.nbytes for each in graph.state_dict().values())
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it regrets that torchvision is not there
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, about what it is built of
        torch.onnx.export(
            graph,
            inputs,
            path,
            dynamo=True,
            dynamic_shapes=(shapes,),  # all inputs are one argument, `*given`
            external_data=weights > _ONE_FILE,
            verbose=False,
        )


class _Graph:
    """A graph as ONNX Runtime has opened it: tensors in, in the order of its inputs, and out."""

    def __init__(self, path: Path) -> None:
        runtime = _package("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
        # threads that wait in a circle take the cores from the next graph and from torch (docs/log.md)
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 4  # what goes wrong is told by the exceptions
        try:
            with utf8_path(path) as readable:
                self.session = runtime.InferenceSession(
                    str(readable), options, ["CPUExecutionProvider"], enable_fallback=0
                )
        except Exception as error:
            raise InputError(f"{path} is no graph that ONNX Runtime opens: {first_line(error)}.") from error
        self.path, self.names = path, [each.name for each in self.session.get_inputs()]

    def __deepcopy__(self, memo: dict[int, Any]) -> _Graph:
        """Itself: nothing in it changes, and sessions cannot be copied."""
        return self

    def __reduce__(self) -> tuple[type[_Graph], tuple[Path]]:
        """By its file, which has to be there still where it is unpickled."""
        if not self.path.is_file():
            raise InputError(
                "A model whose ONNX graphs are in no file cannot be pickled; write them with `diffuseq export`, "
                "and open the model with runtime='onnx'."
            )
        return _Graph, (self.path.absolute(),)

    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        try:
            given = {name: value.detach().numpy() for name, value in zip(self.names, inputs, strict=True)}
            return [torch.from_numpy(output) for output in self.session.run(None, given)]
        except Exception as error:
            raise InputError(
                f"ONNX Runtime cannot compute {self.path} ({first_line(error)}); write it anew with "
                "`diffuseq export`."
            ) from error


def _ours(system: System) -> DiffuSeq:
    if not isinstance(system, DiffuSeq):
        raise InputError(
            f"Only a diffuseq runs on ONNX Runtime, and this model's kind is {system.config.kind}; leave the "
            "runtime at torch."
        )
    return system


def _package(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError:
        raise InputError(f"The package {name} is missing: pip install 'diffuseq[onnx]'.") from None
