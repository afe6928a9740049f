"""From a request to drafts, for our DiffuSeq: a sampler, and what is wrapped around the network from outside.

    denoise = clamp ∘ guide ∘ network          project = put the pinned words back

Legend: b sources, k candidates a source, n = b·k rows, l target length, d embedding width, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from diffuseq.checks import check_fit
from diffuseq.config import DiffusionGeneration
from diffuseq.decoding.lengths import apportion
from diffuseq.decoding.rounding import likeliest
from diffuseq.errors import InputError
from diffuseq.model.denoiser import Encoded
from diffuseq.sampling.ancestral import ancestral
from diffuseq.sampling.ddim import ddim
from diffuseq.sampling.dpm_solver import dpm_solver
from diffuseq.sampling.fixed_point import Read, fixed_point
from diffuseq.sampling.grid import Grid, make_grid
from diffuseq.sampling.hooks import clamp, guide, guide_words, pin, truncate
from diffuseq.sampling.noise import RowNoise
from diffuseq.sampling.settle import Predict, settle
from diffuseq.sampling.step import Denoise, Noise, Project, Step, keep
from diffuseq.sampling.words import WordStep
from diffuseq.system import Draft, Request, log_p_of_words
from diffuseq.systems.networks import Network, Reader

if TYPE_CHECKING:
    from diffuseq.systems.diffuseq import DiffuSeq


@torch.no_grad()
def generate(system: DiffuSeq, request: Request) -> Iterator[Draft]:
    """Drafts after every step of the sampler. Candidates share the source's encoding.

    Raises `InputError` for settings that this system or sampler cannot serve.
    """
    settings: DiffusionGeneration = request.settings
    _check(system, request)
    encoded = system.denoiser.encode(request.source, request.source_padding)
    start = Start.of(system, request, encoded)
    each = encoded.repeat(request.candidates)
    alone = None if settings.guidance == 1 else _without_source(system, request).repeat(len(start.lengths))
    rescored = _is_rescored(system, request)
    begin = _begin_reading if settings.sampler == "fixed-point" else _begin
    calls_a_step, draft = 1 if alone is None else 2, None
    for step in begin(system, settings, start, each, alone, settings.steps - rescored):
        draft = _draft(step, start, settings.steps, (step.index + 1) * calls_a_step)
        yield draft
    if rescored and draft is not None:
        log_p = read_log_p(system, request, each, draft, start.noise(start.x))
        yield replace(draft, log_p=log_p, index=settings.steps - 1, forwards=draft.forwards + 1)


class Start(NamedTuple):
    """Where a generation begins: lengths [n] and padding [n l] of its rows, the ids of pinned words [n l] (−1:
    free; None: all are), a source of noise, and the noise x [n l d] that they are at first. drafted: where answers
    end where they end, and lengths are what they have room in, how many positions are drafted at first [n]."""

    lengths: Tensor
    padding: Tensor
    pinned: Tensor | None
    noise: Noise
    x: Tensor
    drafted: Tensor | None

    @classmethod
    def of(cls, system: DiffuSeq, request: Request, encoded: Encoded) -> Start:
        drafted, pinned = None, None
        if request.settings.sampler == "fixed-point" and _given_length(request) is None:
            lengths, drafted = (_room(system, request, encoded, share) for share in (_ROOM, _DRAFTED))
        else:
            lengths = answer_lengths(system, request, encoded)
        padding = torch.arange(int(lengths.max()), device=lengths.device) >= lengths[:, None]
        if request.template is not None:
            pinned = request.template.to(padding.device).repeat_interleave(request.candidates, 0)
        noise: Noise = RowNoise(request.seeds, lengths)
        if request.settings.truncate is not None:
            noise = truncate(noise, request.settings.truncate)
        x = noise(torch.empty(*padding.shape, system.config.embedding_width, device=padding.device))
        return cls(lengths, padding, pinned, noise, x, drafted)


_ROOM, _DRAFTED = 0.99, 0.7
"""Shares of all answers that have room, and that are no longer than what is drafted."""


def _draft(step: Step, start: Start, total: int, forwards: int) -> Draft:
    """The words of a step, and the network's confidence in them."""
    if isinstance(step, WordStep):
        tokens, confidence = step.tokens, step.log_p.exp()
    else:
        assert step.estimate.logits is not None, "our denoiser gives logits"
        tokens, confidence = likeliest(step.estimate.logits)
    if start.pinned is not None:
        is_pinned = start.pinned >= 0
        tokens = torch.where(is_pinned, start.pinned, tokens)
        confidence = confidence.masked_fill(is_pinned, 1.0)
    if isinstance(step, WordStep):
        padding, log_p = step.padding, step.text_log_p
    else:
        padding, log_p = start.padding, log_p_of_words(confidence, start.padding)
    return Draft(tokens, padding, confidence, log_p, step.index, total, forwards)


def _is_rescored(system: DiffuSeq, request: Request) -> bool:
    """Whether the last call reads what the others wrote."""
    settings: DiffusionGeneration = request.settings
    asked = settings.rescore and settings.sampler == "settle" and system.denoiser.in_order
    return asked and settings.steps > 1 and request.candidates > 1


def read_log_p(system: DiffuSeq, request: Request, encoded: Encoded, draft: Draft, noise: Tensor) -> Tensor:
    """Log-probability [n] of the texts of a draft, each word given those before it, in one call; where the length
    was predicted, with that of the end. encoded: of each of the n; noise: [n l d]."""
    words, length = system.with_end(draft.tokens, draft.padding)
    rank = torch.arange(words.shape[1], device=words.device, dtype=torch.float32).repeat(len(words), 1)
    is_given = _given_length(request) is not None
    if is_given:
        rank.scatter_(1, length[:, None], -1.0)
    log_p = system.log_p_by_rank(words, length, encoded, rank, F.pad(noise, (0, 0, 0, 1)))
    if is_given:
        log_p.scatter_(1, length[:, None], 0.0)
    return log_p.sum(1)


def _begin_reading(
    system: DiffuSeq,
    settings: DiffusionGeneration,
    start: Start,
    encoded: Encoded,
    without_source: Encoded | None,
    calls: int,
) -> Iterator[Step]:
    """The sampler fixed-point at work."""
    is_open_ended = start.drafted is not None
    table = system.denoiser.word_embedding.table()
    given = start.x, start.lengths, table, start.pinned, is_open_ended
    read: Read = Reader(system, encoded, *given)
    if without_source is not None:
        read = guide_words(read, Reader(system, without_source, *given), settings.guidance)
    return fixed_point(
        read,
        system.denoiser.word_embedding,
        start.lengths,
        calls,
        noise=start.noise,
        temperature=settings.temperature,
        repeats=settings.repeats,
        pinned=start.pinned,
        end=system.special.end if is_open_ended else None,
        drafted=start.drafted,
    )


def _begin(
    system: DiffuSeq,
    settings: DiffusionGeneration,
    start: Start,
    encoded: Encoded,
    without_source: Encoded | None,
    calls: int,
) -> Iterator[Step]:
    """The other samplers at work, guided where there is an encoding without a source."""
    table = system.denoiser.word_embedding.table()
    cache = settings.cache and settings.sampler == "settle"
    given = start.padding, table, settings.temperature, start.pinned, cache
    network = Network(system, encoded, *given)
    unconditional = None if without_source is None else Network(system, without_source, *given)
    if settings.sampler == "settle":
        predict: Predict = network.words
        if unconditional is not None:
            predict = guide_words(predict, unconditional.words, settings.guidance)
        return settle(
            predict,
            system.denoiser.word_embedding,
            start.x,
            start.padding,
            calls,
            noise=start.noise,
            temperature=settings.temperature,
            repeats=settings.repeats,
            order_noise=settings.order_noise,
            leftmost_first=settings.settle_first == "leftmost",
            sure_enough=settings.sure_enough,
            pinned=start.pinned,
        )
    denoise: Denoise = network if unconditional is None else guide(network, unconditional, settings.guidance)
    grid = make_grid(settings.grid, system.schedule, settings.steps)
    if settings.clamp_from is not None:
        denoise = clamp(denoise, table, grid, settings.clamp_from)
    project: Project = keep
    if start.pinned is not None:
        project = pin(table[start.pinned.clamp_min(0)], start.pinned >= 0)
    return _one_level(settings, denoise, start.x, grid, start.noise, project)


def _one_level(
    settings: DiffusionGeneration, denoise: Denoise, start: Tensor, grid: Grid, noise: Noise, project: Project
) -> Iterator[Step]:
    """The samplers with one noise level for all positions."""
    if settings.sampler == "ancestral":
        return ancestral(denoise, start, grid, noise=noise, project=project)
    if settings.sampler == "dpm-solver":
        return dpm_solver(
            denoise,
            start,
            grid,
            noise=noise,
            order=settings.order,
            stochastic=settings.stochastic,
            published_v2=settings.published_v2,
            project=project,
        )
    return ddim(denoise, start, grid, noise=noise, churn=settings.churn, eta=settings.eta, project=project)


def answer_lengths(system: DiffuSeq, request: Request, encoded: Encoded) -> Tensor:
    """Lengths of the answers [n]: the template's, the one asked for, or the `length_beam` likeliest ones in
    proportion to their probability."""
    settings, k = request.settings, request.candidates
    rows = request.source.shape[0] * k
    given = _given_length(request)
    if given is not None:
        return torch.full((rows,), given, device=request.source.device)
    beam = max(1, min(settings.length_beam, k, system.config.max_length))
    source_lengths = (~request.source_padding).sum(1)
    lengths, log_p = system.length_head.top(encoded.states, request.source_padding, source_lengths, beam)
    return lengths.gather(1, apportion(log_p, k)).flatten()


def _room(system: DiffuSeq, request: Request, encoded: Encoded, share: float) -> Tensor:
    """Positions [n] in which a share of all answers to a source have room, with their ends, by what the head says
    of their lengths."""
    source_lengths = (~request.source_padding).sum(1)
    log_p = system.length_head.log_probs(encoded.states, request.source_padding, source_lengths)
    enough = (log_p.exp().cumsum(1) < share).sum(1) + 2  # lengths are counted from one, and then the end
    return enough.clamp_max(system.config.max_length).repeat_interleave(request.candidates)


def _given_length(request: Request) -> int | None:
    """The length of the answers where it is not to be predicted."""
    asked: int | None = request.settings.length
    return asked if request.template is None else request.template.shape[1]


def _without_source(system: DiffuSeq, request: Request) -> Encoded:
    """What the network has seen in training where the source was dropped: a single mask token, one row."""
    ids = torch.full((1, 1), system.special.mask, device=request.source.device)
    return system.denoiser.encode(ids, torch.zeros_like(ids, dtype=torch.bool))


def _check(system: DiffuSeq, request: Request) -> None:
    settings: DiffusionGeneration = request.settings
    check_fit(system.config, settings)
    length = _given_length(request)
    if length is not None and length > system.config.max_length:
        raise InputError(
            f"An answer of {length} tokens was asked for; this model writes up to {system.config.max_length}."
        )
