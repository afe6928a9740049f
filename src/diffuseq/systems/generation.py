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
from diffuseq.decoding.rounding import likeliest
from diffuseq.errors import InputError
from diffuseq.model.denoiser import Encoded
from diffuseq.sampling.ancestral import ancestral
from diffuseq.sampling.ddim import ddim
from diffuseq.sampling.dpm_solver import dpm_solver
from diffuseq.sampling.fixed_point import Read, fixed_point
from diffuseq.sampling.grid import make_grid
from diffuseq.sampling.hooks import clamp, guide, guide_words, pin, truncate
from diffuseq.sampling.noise import Quantiles, RowNoise, word_quantiles
from diffuseq.sampling.settle import Predict, settle
from diffuseq.sampling.step import Denoise, Noise, Project, Step, keep
from diffuseq.sampling.words import WordStep
from diffuseq.system import Draft, Request, SpecialTokens, log_p_of_words
from diffuseq.systems.networks import Network, Reader
from diffuseq.systems.page import Page, given_length

if TYPE_CHECKING:
    from diffuseq.systems.diffuseq import DiffuSeq


@torch.no_grad()
def generate(system: DiffuSeq, request: Request) -> Iterator[Draft]:
    """Drafts after every step of the sampler. Candidates share the source's encoding.

    Raises `InputError` for settings that this system or sampler cannot serve.
    """
    settings: DiffusionGeneration = request.settings
    check_fit(system.config, settings)
    check_given_length(request, system.config.max_length)
    start = Start.of(system, request)
    rescored = _is_rescored(system, request)
    begin = {"fixed-point": _fixed_point, "settle": _settle}.get(settings.sampler, _one_level)
    calls_a_step, draft = 1 if start.without_source is None else 2, None
    for step in begin(system, settings, start, settings.steps - rescored):
        draft = draft_of(step, start, settings.steps, (step.index + 1) * calls_a_step)
        yield draft
    if rescored and draft is not None:
        log_p = read_log_p(system, request, start, draft)
        yield replace(draft, log_p=log_p, index=settings.steps - 1, forwards=draft.forwards + 1)


class Start(NamedTuple):
    """Where a generation begins.

    encoded: the source of each of the n rows; without_source: what stands in its place for guidance (None: none).
    page: what they are written on. table: the words [v d]. noise: its source, quantiles what words are drawn by,
    and x [n l d], the noise at first.
    """

    encoded: Encoded
    without_source: Encoded | None
    page: Page
    table: Tensor
    noise: Noise
    quantiles: Quantiles
    x: Tensor

    @classmethod
    def of(cls, system: DiffuSeq, request: Request, most: int | None = None) -> Start:
        """most: as in `Page.of`."""
        settings: DiffusionGeneration = request.settings
        encoded = system.denoiser.encode(request.source, request.source_padding)
        page = Page.of(system, request, encoded, most)
        without_source = None
        if settings.guidance != 1:
            without_source = _without_source(system, request).repeat(len(page.lengths))
        noise: Noise = RowNoise(request.seeds, page.lengths)
        if settings.truncate is not None:
            noise = truncate(noise, settings.truncate)
        width = system.config.embedding_width
        x = noise(torch.empty(*page.padding.shape, width, device=page.padding.device))
        quantiles = word_quantiles(noise, x, request.seeds, request.candidates if settings.stratified else 1)
        table = system.denoiser.word_embedding.table()
        return cls(encoded.repeat(request.candidates), without_source, page, table, noise, quantiles, x)

    def embed(self, ids: Tensor) -> Tensor:
        """Clean words [… d]."""
        return self.table[ids]

    def reader(self, system: DiffuSeq, encoded: Encoded) -> Reader:
        """The network with a source, for fixed-point."""
        page = self.page
        given = self.x, page.lengths, self.table, page.pinned, page.is_open_ended
        return Reader(system, encoded, *given)


def draft_of(step: Step, start: Start, total: int, forwards: int) -> Draft:
    """The words of a step, and the network's confidence in them."""
    if isinstance(step, WordStep):
        confidence = step.log_p.exp()
        return Draft(step.tokens, step.padding, confidence, step.text_log_p, step.index, total, forwards)
    assert step.estimate.logits is not None, "our denoiser gives logits"
    tokens, confidence = likeliest(step.estimate.logits)
    if start.page.pinned is not None:
        is_pinned = start.page.pinned >= 0
        tokens = torch.where(is_pinned, start.page.pinned, tokens)
        confidence = confidence.masked_fill(is_pinned, 1.0)
    log_p = log_p_of_words(confidence, start.page.padding)
    return Draft(tokens, start.page.padding, confidence, log_p, step.index, total, forwards)


def _is_rescored(system: DiffuSeq, request: Request) -> bool:
    """Whether the last call reads what the others wrote."""
    settings: DiffusionGeneration = request.settings
    asked = settings.rescore and settings.sampler == "settle" and system.denoiser.in_order
    return asked and settings.steps > 1 and settings.candidates > 1


def read_log_p(system: DiffuSeq, request: Request, start: Start, draft: Draft) -> Tensor:
    """Log-probability [n] of the texts of a draft, each word given those before it, in one call; where the length
    was predicted, with that of the end."""
    words, length = system.with_end(draft.tokens, draft.padding)
    rank = torch.arange(words.shape[1], device=words.device, dtype=torch.float32).repeat(len(words), 1)
    is_given = given_length(request) is not None
    if is_given:
        rank.scatter_(1, length[:, None], -1.0)
    # the noise at first: how much was drawn since depends on the batch, for one at rest draws no more
    noise = F.pad(start.x, (0, 0, 0, 1))
    log_p = system.log_p_by_rank(words, length, start.encoded, rank, noise)
    if is_given:
        log_p.scatter_(1, length[:, None], 0.0)
    return log_p.sum(1)


def _fixed_point(system: DiffuSeq, settings: DiffusionGeneration, start: Start, calls: int) -> Iterator[Step]:
    """All words at once, each given those before it."""
    read: Read = start.reader(system, start.encoded)
    if start.without_source is not None:
        read = guide_words(read, start.reader(system, start.without_source), settings.guidance)
    return by_fixed_point(read, system.special, settings, start, calls)


def by_fixed_point(
    read: Read, special: SpecialTokens, settings: DiffusionGeneration, start: Start, calls: int
) -> Iterator[WordStep]:
    """Fixed-point iteration of whoever reads, our network or several."""
    return fixed_point(
        read,
        start.embed,
        start.page.lengths,
        calls,
        quantiles=start.quantiles(),
        temperature=settings.temperature,
        repeats=settings.repeats,
        pinned=start.page.pinned,
        end=special.end if start.page.is_open_ended else None,
        draft=start.page.draft,
        drafted=start.page.drafted,
    )


def _settle(system: DiffuSeq, settings: DiffusionGeneration, start: Start, calls: int) -> Iterator[Step]:
    """Some words in every call, the surest or the leftmost first."""
    network, unconditional = _networks(system, settings, start)
    predict: Predict = network.words
    if unconditional is not None:
        predict = guide_words(predict, unconditional.words, settings.guidance)
    return settle(
        predict,
        start.embed,
        start.x,
        start.page.padding,
        calls,
        noise=start.noise,
        quantiles=start.quantiles,
        temperature=settings.temperature,
        repeats=settings.repeats,
        order_noise=settings.order_noise,
        leftmost_first=settings.settle_first == "leftmost",
        sure_enough=settings.sure_enough,
        pinned=start.page.pinned,
    )


def _one_level(system: DiffuSeq, settings: DiffusionGeneration, start: Start, calls: int) -> Iterator[Step]:
    """The samplers with one noise level for all positions."""
    network, unconditional = _networks(system, settings, start)
    denoise: Denoise = network if unconditional is None else guide(network, unconditional, settings.guidance)
    grid = make_grid(settings.grid, system.schedule, calls)
    if settings.clamp_from is not None:
        denoise = clamp(denoise, start.table, grid, settings.clamp_from)
    project: Project = keep
    if start.page.pinned is not None:
        project = pin(start.embed(start.page.pinned.clamp_min(0)), start.page.pinned >= 0)
    given = denoise, start.x, grid
    if settings.sampler == "ancestral":
        return ancestral(*given, noise=start.noise, project=project)
    if settings.sampler == "dpm-solver":
        return dpm_solver(
            *given,
            noise=start.noise,
            order=settings.order,
            stochastic=settings.stochastic,
            published_v2=settings.published_v2,
            project=project,
        )
    return ddim(*given, noise=start.noise, churn=settings.churn, eta=settings.eta, project=project)


def _networks(
    system: DiffuSeq, settings: DiffusionGeneration, start: Start
) -> tuple[Network, Network | None]:
    """The network with its source and, where it is guided, without."""
    cache = settings.cache and settings.sampler == "settle"
    given = start.page.padding, start.table, settings.temperature, start.page.pinned, cache
    alone = None if start.without_source is None else Network(system, start.without_source, *given)
    return Network(system, start.encoded, *given), alone


def _without_source(system: DiffuSeq, request: Request) -> Encoded:
    """What the network has seen in training where the source was dropped: a single mask token, one row."""
    ids = torch.full((1, 1), system.special.mask, device=request.source.device)
    return system.denoiser.encode(ids, torch.zeros_like(ids, dtype=torch.bool))


def check_given_length(request: Request, most: int | None) -> None:
    """Raise `InputError` where an answer is to have more than `most` tokens (None: any number)."""
    length = given_length(request)
    if length is not None and most is not None and length > most:
        raise InputError(f"An answer of {length} tokens was asked for; this model writes up to {most}.")
