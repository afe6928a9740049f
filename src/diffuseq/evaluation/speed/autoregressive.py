"""Ours against an autoregressive model of GPT-2's architecture: transformers, cache, greedy."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch

from diffuseq.evaluation.speed.sampling import CALLS, Writer
from diffuseq.evaluation.speed.sizes import Gpt2Size, Size
from diffuseq.evaluation.speed.table import Table, rounded, times
from diffuseq.evaluation.speed.timing import time_in_turn
from diffuseq.evaluation.speed.workload import fixed_batch

SOURCE, NEW = 15, 14
"""Tokens read and tokens written."""
BATCHES = (1, 32)


def measure(size: Size, device: torch.device) -> Table:
    """Latency at batch 1 and sentences a second at batch 32, both in the same precision."""
    columns = ("system", "ms at batch 1", "faster", "sentences/s at batch 32", "more")
    if find_spec("transformers") is None:
        note = "Left out: it needs transformers; `pip install diffuseq[baselines]` adds it."
        return Table("Against GPT-2", columns, (), {}, (note,))
    writer = Writer(size, device)
    fast = _by_onnx(size, writer)
    network = make_gpt2(size.gpt2, size.words[2]).to(device, torch.bfloat16 if writer.bf16 else None).eval()
    ours = {f"ours, {calls} call{'s' * (calls > 1)}": (writer, calls) for calls in CALLS}
    if fast is not None:
        ours |= {f"{name}, ONNX Runtime": (fast, calls) for name, (_, calls) in ours.items()}
    names = ("GPT-2", *ours)
    found: dict[int, dict[str, float]] = {}
    for rows in BATCHES:
        batch = fixed_batch(rows, SOURCE, NEW, size.special)
        source = fixed_batch(rows, SOURCE, NEW, size.special).source.to(device)
        actions = {"GPT-2": greedy(network, source)}
        actions |= {name: by.action([batch], calls, length=NEW) for name, (by, calls) in ours.items()}
        measured = time_in_turn(actions, size.repeats, device)
        found[rows] = {name: timing.median for name, timing in measured.items()}
    one, many = (found[rows] for rows in BATCHES)
    table_rows, numbers = [], {}
    for name in names:
        faster, more = one["GPT-2"] / one[name], many["GPT-2"] / many[name]
        table_rows.append(
            (name, rounded(1000 * one[name]), times(faster), rounded(BATCHES[1] / many[name]), times(more))
        )
        numbers[f"{name}: seconds at batch 1"] = one[name]
        numbers[f"{name}: sentences a second at batch {BATCHES[1]}"] = BATCHES[1] / many[name]
        numbers[f"{name}: times lower latency than GPT-2"] = faster
        numbers[f"{name}: times the sentences of GPT-2"] = more
    shape = size.gpt2
    return Table(
        "Against GPT-2",
        columns,
        tuple(table_rows),
        numbers,
        (
            f"{SOURCE} tokens read, {NEW} written, {'bf16' if writer.bf16 else 'fp32'} for both. GPT-2: "
            f"{shape.layers} layers of {shape.width}, {size.words[2]:,} words, random weights, transformers' "
            "network with its cache in a bare greedy loop, scores for the last position only; by PyTorch, as "
            "ours where nothing else is said.",
        ),
    )


def _by_onnx(size: Size, writer: Writer) -> Writer | None:
    """Ours as `diffuseq export` makes it fast on a CPU, where that can be had in this precision."""
    if not size.onnx or writer.device.type != "cpu" or writer.bf16 or not find_spec("onnxscript"):
        return None
    from diffuseq.onnx_runtime import compute_with_onnx

    fast = Writer(size, writer.device)
    compute_with_onnx(fast.system)
    return fast


def make_gpt2(shape: Gpt2Size, words: int) -> Any:
    """transformers' GPT-2 with random weights."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=words,
            n_layer=shape.layers,
            n_head=shape.heads,
            n_embd=shape.width,
            bos_token_id=None,
            eos_token_id=None,
        )
    )


def greedy(network: Any, source: torch.Tensor) -> Callable[[], None]:
    """An action: read the sources [b s] and write `NEW` tokens after each."""

    @torch.no_grad()
    def write() -> None:
        tokens, cache = source, None
        for _ in range(NEW):
            output = network(tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
            tokens, cache = output.logits[:, -1].argmax(-1, keepdim=True), output.past_key_values

    return write
