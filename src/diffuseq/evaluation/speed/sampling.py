"""Sentences a second of decoding: ours at few calls against the published 2,000 steps.

Legend: n rows, l positions, d embedding width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice

import torch

from diffuseq.blocked import block_weights
from diffuseq.data.batch import Batch
from diffuseq.data.layout import lay_out_question
from diffuseq.evaluation.speed.sizes import Size
from diffuseq.evaluation.speed.table import Table, rounded, times
from diffuseq.evaluation.speed.timing import time_in_turn
from diffuseq.evaluation.speed.workload import fixed_batch, make_request, training_batches
from diffuseq.precision import GENERATION_WIDTH, in_bf16, round_matrices, use_bf16
from diffuseq.registry import build
from diffuseq.sampling.ancestral import ancestral
from diffuseq.sampling.hooks import anchor, clamp
from diffuseq.sampling.noise import batch_noise
from diffuseq.sampling.step import Step
from diffuseq.systems.diffuseq import DiffuSeq
from diffuseq.systems.published import PublishedDiffuSeq

CALLS = (10, 5, 4, 3, 2, 1)
MEASURED_STEPS = 10
"""Steps of the published decoding that are measured; all of its steps cost the same."""


class Writer:
    """Our system with random weights, which answers as long as its sources are.

    By settle, whose work does not depend on what the network says: with fixed-point random words would come to rest
    sooner or later than a trained network's, whose answers take as long as settle's (docs/log.md).
    """

    def __init__(self, size: Size, device: torch.device, *, all_fp32: bool = False) -> None:
        torch.manual_seed(0)
        system = build(size.ours.system, size.special).to(device).eval()
        assert isinstance(system, DiffuSeq)
        self.system, self.device = system, device
        self.settings = replace(size.ours.generation, sampler="settle")
        self.bf16 = not all_fp32 and use_bf16("auto", device, size.ours.system.width, GENERATION_WIDTH)
        if self.bf16:
            round_matrices(system)
        block_weights(system)
        _answer_as_long_as_the_source(system)

    def action(
        self, batches: list[Batch], calls: int, candidates: int = 1, length: int | None = None
    ) -> Callable[[], None]:
        """Answer the sources of the batches: tokens in, tokens out."""
        settings = replace(self.settings, steps=calls, candidates=candidates, length=length)
        requests = [make_request(batch, settings, self.device, candidates) for batch in batches]

        def answer() -> None:
            for request in requests:
                drafts = self.system.generate(request)
                for _ in in_bf16(self.device, drafts) if self.bf16 else drafts:
                    pass

        return answer


def published_steps(size: Size, device: torch.device) -> Callable[[], None]:
    """An action: `MEASURED_STEPS` of the published decoding of `published_decoding_rows` sources.

    It is put together here from the public parts and not by `generate`, which reads a draft off every state
    and would make the published system look slower than it is.
    """
    torch.manual_seed(0)
    system = build(size.published.system, size.published_special).to(device).eval()
    assert isinstance(system, PublishedDiffuSeq)
    settings = size.published.generation
    source = fixed_batch(size.published_decoding_rows, 12, 1, size.published_special)
    question = lay_out_question(
        source.source.to(device),
        source.source_padding.to(device),
        size.published_special,
        size.published.system.sequence_length,
    )
    grid = system.grid(settings)
    noise = batch_noise(torch.Generator(device).manual_seed(0))

    @torch.no_grad()
    def steps() -> Iterator[Step]:
        embedded = system.denoiser.embed(question.ids)
        rounding = clamp(system.denoise_at, system.denoiser.word_embedding.weight, grid, settings.clamp_from)
        project = anchor(embedded, question.known)
        return ancestral(rounding, noise(embedded), grid, noise=noise, variance="large", project=project)

    def run() -> None:
        with torch.no_grad():
            for _ in islice(steps(), MEASURED_STEPS):
                pass

    return run


def measure(size: Size, device: torch.device) -> Table:
    """Ours at 10, 5, 3, 2 and 1 calls; one candidate each, for both."""
    writer = Writer(size, device)
    batches = training_batches(size.decoding_rows, size.special, count=2)
    actions = {"published": published_steps(size, device)}
    actions |= {f"ours, {_calls(calls)}": writer.action(batches, calls) for calls in CALLS}
    measured = time_in_turn(actions, size.repeats, device)
    all_steps = size.published.generation.steps
    slow = measured["published"].median * all_steps / MEASURED_STEPS / size.published_decoding_rows
    rows = [(f"published, {all_steps:,} steps", rounded(1 / slow), times(1.0))]
    numbers = {"published: sentences a second": 1 / slow}
    for calls in CALLS:
        name = f"ours, {_calls(calls)}"
        seconds = measured[name].median / sum(map(len, batches))
        rows.append((name, rounded(1 / seconds), times(slow / seconds)))
        numbers[f"{name}: sentences a second"] = 1 / seconds
        numbers[f"{name}: times the published"] = slow / seconds
    return Table(
        "Sampling",
        ("system", "sentences/s", "against published"),
        tuple(rows),
        numbers,
        (
            "One candidate a sentence, tokens in and tokens out. Ours: "
            f"{size.decoding_rows} sentences at a time, as long as QQP's, {writer.settings.sampler}, "
            f"{'bf16' if writer.bf16 else 'fp32'}. "
            f"Published: fp32, {size.published_decoding_rows} sentences at a time, "
            f"{size.published.system.sequence_length} positions, rounding at every step; extrapolated from "
            f"{MEASURED_STEPS} measured steps to {all_steps:,}, for every step costs the same.",
        ),
    )


def _answer_as_long_as_the_source(system: DiffuSeq) -> None:
    """Random weights would predict random lengths."""
    offset = system.length_head.offset
    with torch.no_grad():
        offset.weight.zero_()
        offset.bias.zero_()
        offset.bias[system.length_head.max_length] = 10.0


def _calls(calls: int) -> str:
    return f"{calls} calls" if calls > 1 else "1 call"
