"""Is an export worth having? The denoiser in ONNX Runtime and in OpenVINO against PyTorch, on one CPU thread.

    python benchmarks/export_speed.py [--model MODEL] [--out FILE]

needs onnx, onnxscript, onnxruntime and openvino, which the package does not ask for. Three actions take turns,
each at 1 row, at 1 source × 10 candidates and at 16 × 10, answers and sources of 14 tokens:

- `call`: the decoder once, states for all positions;
- `words`: the vocabulary's softmax at half of the positions, as in the middle of a generation;
- `loop`: ten calls of settle, tokens in, tokens out, with only those two replaced.

Milliseconds are processor time, so that a busy machine changes little.

The graphs have fixed shapes but for the number of open positions, which is what suits them best; `any shape` is
what a server would need. `network` is the share of the PyTorch loop that the two parts take.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from diffuseq.checkpoint import load_model
from diffuseq.evaluation.speed.sizes import find_size, special_tokens
from diffuseq.evaluation.speed.workload import fixed_batch, make_request
from diffuseq.memory import keep_freed_memory
from diffuseq.model.blocks import Memory
from diffuseq.model.denoiser import Denoiser, Encoded, Level
from diffuseq.models import shipped_model
from diffuseq.recipes import recipe
from diffuseq.registry import build
from diffuseq.systems.diffuseq import DiffuSeq

LENGTH = 14
CALLS = 10
SIZES = {1: (1, 1), 10: (1, 10), 160: (16, 10)}
"""Rows, and of how many sources and candidates; 10 is what a question of one visitor is."""
Run = Callable[[list[Tensor]], Tensor]
Key = tuple[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a model folder; the shipped one by default")
    parser.add_argument("--rows", type=int, nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=Path, help="a json file for the table")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    shipped, _, _ = load_model(options.model or shipped_model("grammar"), "cpu")
    rows = []
    for name, system in {"shipped": shipped, "qqp-small, random weights": random_model()}.items():
        assert isinstance(system, DiffuSeq)
        for count in options.rows:
            rows += measure(name, system.eval(), *SIZES[count], options.repeats)
            print(f"{name}, {count} rows", *map(line, rows[-3:]), sep="\n", flush=True)
    if options.out is not None:
        options.out.write_text(json.dumps(rows, indent=2) + "\n")


def random_model() -> nn.Module:
    torch.manual_seed(0)
    size = find_size("small")
    return build(recipe("qqp-small").system, special_tokens(size.words[0]))


def line(row: dict[str, Any]) -> str:
    numbers = "  ".join(f"{key} {row[key]:.3f} ms" for key in ("call", "words", "loop"))
    gains = (
        "" if row["engine"] == "torch" else f"  loop × {row['gain']:.2f}, tokens as torch {row['same']:.3f}"
    )
    return f"  {row['engine']:16} {numbers}{gains}"


@torch.no_grad()
def measure(name: str, system: DiffuSeq, sources: int, candidates: int, repeats: int) -> list[dict[str, Any]]:
    """A row for PyTorch and for each engine: median milliseconds of the three actions."""
    batch = fixed_batch(sources, LENGTH, LENGTH, system.special)
    settings = replace(recipe("qqp-small").generation, candidates=candidates, steps=CALLS, length=LENGTH)
    request = make_request(batch, settings, torch.device("cpu"), candidates)
    denoiser = system.denoiser
    encoded = denoiser.encode(batch.source, batch.source_padding).repeat(candidates)
    n = len(encoded.ids)
    x = torch.randn(n, LENGTH, system.config.embedding_width)
    level = denoiser.level(torch.full((n, LENGTH), -8.0))
    padding = torch.zeros(n, LENGTH, dtype=torch.bool)
    table = denoiser.word_embedding.table()
    hidden = denoiser.decode(x, level, padding, encoded)
    half = hidden[:, ::2].flatten(0, 1).contiguous()
    parts = [Calls(denoiser), Words(denoiser)]
    inputs = [flat(x, level, padding, encoded), [half]]
    engines = {
        "torch": [denoiser.decode, denoiser.logits],
        "onnxruntime": swapped(parts, inputs, onnxruntime_run),
        "openvino": swapped(parts, inputs, openvino_run),
        "onnx, any shape": swapped(parts, inputs, onnxruntime_run, free=True),
    }
    actions: dict[Key, Callable[[], object]] = {}
    words: dict[str, Tensor] = {}
    for engine, (decode, logits) in engines.items():
        actions[engine, "call"] = lambda decode=decode: decode(x, level, padding, encoded)
        actions[engine, "words"] = lambda logits=logits: logits(half, table).float().softmax(-1)
        actions[engine, "loop"] = lambda swap=(decode, logits): answer(system, request, *swap)
        words[engine] = answer(system, request, decode, logits)
    times = processor_seconds(actions, repeats)
    rows = []
    for engine in engines:
        row = {part: 1000 * times[engine, part] for part in ("call", "words", "loop")}
        gain = times["torch", "loop"] / times[engine, "loop"]
        same = (words[engine] == words["torch"]).float().mean().item()
        rows.append({"model": name, "rows": n, "engine": engine, **row, "gain": gain, "same": same})
    share = CALLS * (rows[0]["call"] + rows[0]["words"]) / rows[0]["loop"]
    print(f"network {share:.2f} of the loop in torch")
    return rows


def processor_seconds(actions: dict[Key, Callable[[], object]], repeats: int) -> dict[Key, float]:
    """The median of every action, taking turns. Processor time: other work on the machine counts for nothing."""
    seconds: dict[Key, list[float]] = {key: [] for key in actions}
    for _ in range(repeats + 1):
        for key, action in actions.items():
            began = time.process_time()
            action()
            seconds[key].append(time.process_time() - began)
    return {key: median(values[1:]) for key, values in seconds.items()}


def answer(system: DiffuSeq, request: Any, decode: Any, logits: Any) -> Tensor:
    """The tokens of a whole generation, with these two parts of the denoiser."""
    own = system.denoiser.decode, system.denoiser.logits
    system.denoiser.decode, system.denoiser.logits = decode, logits
    try:
        draft = None
        for draft in system.generate(request):  # noqa: B007
            pass
    finally:
        system.denoiser.decode, system.denoiser.logits = own
    assert draft is not None
    return draft.tokens


class Calls(nn.Module):
    """`Denoiser.decode` over plain tensors."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(
        self,
        x: Tensor,
        scale: Tensor,
        features: Tensor,
        modulation: Tensor,
        padding: Tensor,
        source_padding: Tensor,
        *memory: Tensor,
    ) -> Tensor:
        memories = [Memory(*memory[i : i + 2]) for i in range(0, len(memory), 2)]
        nothing = x.new_zeros(0)  # the parts that `decode` leaves alone
        encoded = Encoded(nothing, nothing, source_padding, memories, None)
        return self.denoiser.decode(x, Level(scale, features, modulation), padding, encoded)

    def shapes(self, free: bool) -> tuple[Any, ...] | None:
        """What varies between calls: nothing, or rows, length and source length."""
        if not free:
            return None
        n, length, source = (torch.export.Dim(name, min=2) for name in ("n", "l", "s"))
        target = {0: n, 1: length}
        memory = tuple({0: n, 2: source} for _ in range(2 * len(self.denoiser.decoder)))
        return *(target,) * 5, {0: n, 1: source}, memory


class Words(nn.Module):
    """`Denoiser.logits`, with the normalised table as a constant of the graph."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.head = denoiser.word_head
        self.register_buffer("table", denoiser.word_embedding.table().T.contiguous())
        self.register_buffer("bias", denoiser.word_bias.detach().clone())

    def forward(self, hidden: Tensor) -> Tensor:
        return self.head(hidden) @ self.table + self.bias

    def shapes(self, free: bool) -> tuple[Any, ...]:
        return ({0: torch.export.Dim("open", min=2)},)


def flat(x: Tensor, level: Level, padding: Tensor, encoded: Encoded) -> list[Tensor]:
    memory = [part.contiguous() for memory in encoded.memories for part in memory]
    return [x, *(part.contiguous() for part in level), padding, encoded.padding, *memory]


def swapped(
    parts: list[Any], inputs: list[list[Tensor]], engine: Callable[[Path], Run], free: bool = False
) -> list[Any]:
    """`decode` and `logits` as an engine runs them; free: whether the graphs take any batch and any lengths."""
    runs = []
    for part, example in zip(parts, inputs, strict=True):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "part.onnx"
            torch.onnx.export(
                part.eval(),
                tuple(example),
                path,
                dynamo=True,
                dynamic_shapes=part.shapes(free),
                verbose=False,
            )
            runs.append(engine(path))
    call, words = runs

    def decode(
        x: Tensor, level: Level, padding: Tensor, encoded: Encoded, estimate: Tensor | None = None
    ) -> Tensor:
        return call(flat(x, level, padding, encoded))

    return [decode, lambda hidden, table=None: words([hidden])]


def onnxruntime_run(path: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]

    def run(inputs: list[Tensor]) -> Tensor:
        given = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        return torch.from_numpy(session.run(None, given)[0])

    return run


def openvino_run(path: Path) -> Run:
    import openvino

    core = openvino.Core()
    options = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
    compiled = core.compile_model(core.read_model(path), "CPU", options)
    asked = compiled.create_infer_request()

    def run(inputs: list[Tensor]) -> Tensor:
        results = asked.infer([value.numpy() for value in inputs], share_inputs=True, share_outputs=False)
        return torch.from_numpy(results[0])

    return run


if __name__ == "__main__":
    main()
