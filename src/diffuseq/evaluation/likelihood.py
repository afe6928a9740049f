"""The variational bound of a trained diffusion system on pairs of text, in nats per target token.

Legend: b pairs, l length, d embedding width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffuseq.data.batch import Batch, pad
from diffuseq.data.layout import lay_out
from diffuseq.devices import finest_float
from diffuseq.diffusion.levels import settling_order
from diffuseq.errors import InputError
from diffuseq.evaluation.bound import Bound, Terms, estimate_bound, terms
from diffuseq.names import refuse_alone
from diffuseq.precision import fp32_by_default
from diffuseq.sampling.grid import published_steps, uniform_time
from diffuseq.sampling.noise import batch_noise
from diffuseq.sampling.step import Estimate
from diffuseq.system import System

if TYPE_CHECKING:
    from diffuseq.model.denoiser import Encoded
    from diffuseq.pipeline import DiffuSeqPipeline
    from diffuseq.systems.diffuseq import DiffuSeq
    from diffuseq.systems.published import PublishedDiffuSeq

_STEPS = 1000
"""Levels of the chain on which a system with continuous time is bounded; more would tighten it little."""


@fp32_by_default()
@torch.no_grad()
def negative_log_likelihood(
    pipeline: DiffuSeqPipeline,
    sources: Sequence[str],
    targets: Sequence[str],
    calls: int = 25,
    rounds: int = 4,
    batch_size: int = 64,
    seed: int = 0,
) -> Bound:
    """The bound on −log p(target | source) of the pairs.

    calls: network calls for one draw of a batch. rounds: independent draws of the whole, whose spread gives
    the error. Texts are cut as in training. Raises `InputError` for a system that is no diffusion, and for numbers
    that are too small.
    """
    for name, texts in (("sources", sources), ("targets", targets)):
        refuse_alone(texts, name)
    if not sources or len(sources) != len(targets):
        raise InputError(
            f"There are {len(sources)} sources and {len(targets)} targets; give as many of each, at least one."
        )
    system = pipeline.system.eval()
    check_bound(system, calls, rounds, batch_size)
    generator = torch.Generator().manual_seed(seed)
    batches = list(_batches(pipeline, sources, targets, batch_size))
    return estimate_bound(
        [system_terms(system, batch, calls, generator) for batch in batches] for _ in range(rounds)
    )


def check_bound(system: System, calls: int, rounds: int, batch_size: int = 1) -> None:
    """Raise `InputError` for a system without a bound, and for numbers that are too small for one."""
    for name, count, least in (("calls", calls, 1), ("rounds", rounds, 2), ("batch_size", batch_size, 1)):
        if count < least:
            raise InputError(f"The bound's {name} is {count}; give a whole number of at least {least}.")
    _check_kind(system)


def _check_kind(system: System) -> str:
    kind: str = getattr(system.config, "kind", type(system).__name__)
    if kind not in ("published", "diffuseq"):
        raise InputError(
            f"The system {kind!r} has no variational bound here; give a diffuseq or published model."
        )
    if getattr(system.config, "version", 1) != 1:
        raise InputError("The bound of DiffuSeq-v2 is not defined: its discrete noise has no posterior.")
    return kind


def system_terms(system: System, batch: Batch, calls: int | None, generator: torch.Generator) -> Terms:
    """One draw of the bound of a system on a batch. Raises `InputError` for a system without a bound."""
    if _check_kind(system) == "published":
        return _published_terms(system, batch, calls, generator)  # type: ignore[arg-type]
    return _diffuseq_terms(system, batch, calls, generator)  # type: ignore[arg-type]


def _diffuseq_terms(system: DiffuSeq, batch: Batch, calls: int | None, generator: torch.Generator) -> Terms:
    """Words and their number. Without self-conditioning: x_t has to say it all."""
    encoded = system.denoiser.encode(batch.source, batch.source_padding)
    if system.denoiser.in_order:
        return _terms_in_order(system, batch, encoded, calls, generator)
    lengths = (~batch.target_padding).sum(1)
    chances = system.length_head.log_probs(
        encoded.states, batch.source_padding, (~batch.source_padding).sum(1)
    )
    found = _terms_at_levels(system, batch, encoded, calls, generator)
    return replace(found, length=-chances.gather(1, lengths[:, None] - 1)[:, 0].to(found.length))


def _terms_in_order(
    system: DiffuSeq, batch: Batch, encoded: Encoded, calls: int | None, generator: torch.Generator
) -> Terms:
    """−log p of the words and of their end in an order in which they could settle, drawn as in training: the mean
    over orders bounds −log p in any (Uria et al., 2014). A call gives one order's; the words count as rounding, for
    there is no level between clean and noise, and the end as the length.
    """
    words, length = system.with_end(batch.target, batch.target_padding)
    config, device = system.config, words.device
    padding = batch.target_padding.to(generator.device)  # a seed draws the same, whatever device it is for
    total = torch.zeros(words.shape, dtype=finest_float(device), device=device)
    for _ in range(calls or 1):
        rank = settling_order(padding, config.left_to_right, config.length_first, generator)
        given = rank.to(device), system.noise_for(rank, generator).to(device)
        total -= system.log_p_by_rank(words, length, encoded, *given).to(total) / (calls or 1)
    end = total.gather(1, length[:, None])[:, 0]
    nothing = torch.zeros_like(end)
    return Terms(nothing, nothing, total.sum(1) - end, end, length.to(total))


def _terms_at_levels(
    system: DiffuSeq, batch: Batch, encoded: Encoded, calls: int | None, generator: torch.Generator
) -> Terms:
    from diffuseq.systems.networks import Network

    table = system.denoiser.word_embedding.table()
    grid = uniform_time(system.schedule, _STEPS, end="lowest")

    def denoise(x: Tensor, time: float) -> Estimate:
        return Network(system, encoded, batch.target_padding, table, 1.0, None)(x, time)

    def log_likelihood(x: Tensor) -> Tensor:
        logits = denoise(x, float(grid.time[-1])).logits
        assert logits is not None  # Network always gives them
        return logits.log_softmax(-1).gather(-1, batch.target[..., None])[..., 0]

    return terms(
        system.denoiser.word_embedding(batch.target),
        ~batch.target_padding,
        log_likelihood,
        denoise,
        grid,
        batch_noise(generator),
        calls,
        generator=generator,
    )


def _published_terms(
    system: PublishedDiffuSeq, batch: Batch, calls: int | None, generator: torch.Generator
) -> Terms:
    """As published: x_0 is noisy, variances are "large", padding is modelled; divided by the words alone."""
    sequences = lay_out(batch, system.special, system.config.sequence_length)
    schedule = system.schedule

    def log_likelihood(x: Tensor) -> Tensor:
        scores = system.denoiser.logits(x).log_softmax(-1)
        return scores.gather(-1, sequences.ids[..., None])[..., 0]

    found = terms(
        system.denoiser.embed(sequences.ids),
        sequences.target,
        log_likelihood,
        system.denoise_at,
        published_steps(schedule),
        batch_noise(generator),
        calls,
        variance="large",
        first_sigma=float((1 - schedule.alpha_bar[0]).sqrt()),
        last_variance=float(schedule.posterior_variance[1]),
        generator=generator,
    )
    words = (sequences.target & (sequences.ids != system.special.pad)).sum(1) - 2  # less [CLS] and [SEP]
    return replace(found, tokens=words.to(found.tokens))


def _batches(
    pipeline: DiffuSeqPipeline, sources: Sequence[str], targets: Sequence[str], size: int
) -> Iterator[Batch]:
    """Batches of pairs of similar length, cut to what the system reads and writes."""
    text, special, device = pipeline.config.text, pipeline.system.special, pipeline.system.device
    longest = min(text.max_target, getattr(pipeline.system.config, "max_length", text.max_target))
    read = [ids[: text.max_source] for ids in pipeline.tokenizer.encode(list(sources))]
    write = [ids[:longest] for ids in pipeline.tokenizer.encode(list(targets))]
    for row, (source, target) in enumerate(zip(read, write, strict=True), start=1):
        if not source or not target:
            raise InputError(f"Row {row} has an empty side for this model's tokenizer; the bound needs both.")
    order = sorted(range(len(write)), key=lambda row: (len(write[row]), len(read[row])))
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        sides = [*pad([read[i] for i in rows], special.pad), *pad([write[i] for i in rows], special.pad)]
        yield Batch(*sides).to(device)
