"""How much does ONNX Runtime gain? Whole answers by the pipeline, with it and with PyTorch in turn, on one thread.

    python benchmarks/onnx_speed.py [--models MODEL …] [--repeats 9] [--out FILE]

Sources of the built-in corpus; answers of 14 tokens, by each model's own sampler in at most ten calls. Rows are
sources × candidates. Medians of processor time, so that other work on the machine changes little. `same`: the share
of answers that are PyTorch's.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from counting import count

from diffuseq.config import Runtime
from diffuseq.data.grammar import build_corpus
from diffuseq.errors import InputError
from diffuseq.files import write_text
from diffuseq.memory import prepare_memory
from diffuseq.onnx_runtime import export_onnx
from diffuseq.pipeline import DiffuSeqPipeline

SIZES = ((1, 1), (1, 10), (16, 10))
RUNTIMES: tuple[Runtime, ...] = ("torch", "onnx")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["grammar", "qqp"], help="shipped ones, or folders")
    parser.add_argument("--repeats", type=count, default=9)
    parser.add_argument("--out", type=Path, help="a json file for the table")
    options = parser.parse_args()
    torch.set_num_threads(1)
    prepare_memory()
    rows = []
    for model in options.models:
        with tempfile.TemporaryDirectory() as folder:
            pipe = DiffuSeqPipeline.from_pretrained(model, "cpu", precision="fp32")
            pipe.save_pretrained(folder)
            export_onnx(pipe.system, folder)
            pipes = {
                runtime: DiffuSeqPipeline.from_pretrained(folder, "cpu", runtime, precision="fp32")
                for runtime in RUNTIMES
            }
        for size in SIZES:
            rows.append({"model": model, **measure(pipes, *size, options.repeats)})
            print(rows[-1], flush=True)
    if options.out is not None:
        write_text(options.out, json.dumps(rows, indent=2) + "\n")


def measure(
    pipes: dict[Runtime, DiffuSeqPipeline], sources: int, candidates: int, repeats: int
) -> dict[str, Any]:
    """Milliseconds of an answer to so many sources, by each runtime."""
    asked = [row["src"] for row in build_corpus(num_train=0, num_valid=sources, num_test=0)["valid"]]
    seconds: dict[Runtime, list[float]] = {runtime: [] for runtime in pipes}
    said: dict[Runtime, list[str]] = {}
    for _ in range(repeats + 1):
        for runtime, pipe in pipes.items():
            began = time.process_time()
            answers = pipe(asked, candidates=candidates, length=14, steps=10, seed=0)
            seconds[runtime].append(time.process_time() - began)
            said[runtime] = [text for answer in answers for text in answer.candidates]
    torch_ms, onnx_ms = (1000 * median(seconds[runtime][1:]) for runtime in RUNTIMES)
    same = sum(map(str.__eq__, *said.values())) / (sources * candidates)
    return {
        "rows": sources * candidates,
        "torch_ms": round(torch_ms, 1),
        "onnx_ms": round(onnx_ms, 1),
        "ratio": round(torch_ms / onnx_ms, 2),
        "same": same,
    }


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"onnx_speed: {error}")
