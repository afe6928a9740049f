"""From a request to drafts, for our DiffuSeq: a sampler, and what is wrapped around the network from outside.

    denoise = clamp ∘ guide ∘ network          project = put the pinned words back

Legend: b sources, k candidates a source, n = b·k rows, l target length, d embedding width, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from diffuseq.config import DiffusionGeneration
from diffuseq.decoding.lengths import apportion
from diffuseq.decoding.rounding import likeliest
from diffuseq.errors import InputError
from diffuseq.model.denoiser import Encoded, Level, places_of
from diffuseq.sampling.ancestral import ancestral
from diffuseq.sampling.ddim import ddim
from diffuseq.sampling.dpm_solver import dpm_solver
from diffuseq.sampling.grid import Grid, make_grid
from diffuseq.sampling.hooks import clamp, guide, guide_words, pin, truncate
from diffuseq.sampling.noise import RowNoise
from diffuseq.sampling.settle import Predict, SettleStep, settle
from diffuseq.sampling.step import Denoise, Estimate, Noise, Project, Step, keep
from diffuseq.system import Draft, Request, log_p_of_words

if TYPE_CHECKING:
    from diffuseq.systems.diffuseq import DiffuSeq

_NEVER = 1e-38
"""The probability of tokens without text, which would only shorten an answer; its logarithm is finite."""


@torch.no_grad()
def generate(system: DiffuSeq, request: Request) -> Iterator[Draft]:
    """Drafts after every step of the sampler. Candidates share the source's encoding.

    Raises `InputError` for settings that this system or sampler cannot serve.
    """
    settings: DiffusionGeneration = request.settings
    _check(system, request)
    encoded = system.denoiser.encode(request.source, request.source_padding)
    lengths = answer_lengths(system, request, encoded)
    padding = torch.arange(int(lengths.max()), device=lengths.device) >= lengths[:, None]
    pinned = None
    if request.template is not None:
        pinned = request.template.to(padding.device).repeat_interleave(request.candidates, 0)
    noise: Noise = RowNoise(request.seeds, lengths)
    if settings.truncate is not None:
        noise = truncate(noise, settings.truncate)
    start = noise(torch.empty(*padding.shape, system.config.embedding_width, device=padding.device))
    table = system.denoiser.word_embedding.table()
    cache = settings.cache and settings.sampler == "settle"
    given = padding, table, settings.temperature, pinned, cache
    network = Network(system, encoded.repeat(request.candidates), *given)
    unconditional = None
    if settings.guidance != 1:
        unconditional = Network(system, _without_source(system, request).repeat(len(padding)), *given)
    calls_a_step = 1 if unconditional is None else 2
    rescored = _is_rescored(system, request)
    draft = None
    for step in _steps(settings, settings.steps - rescored, network, unconditional, start, noise, pinned):
        tokens, confidence = _words(step, pinned)
        log_p, forwards = log_p_of_words(confidence, padding), (step.index + 1) * calls_a_step
        draft = Draft(tokens, padding, confidence, log_p, step.index, settings.steps, forwards)
        yield draft
    if rescored and draft is not None:
        log_p = read_log_p(system, request, encoded, draft, noise(start))
        yield replace(draft, log_p=log_p, index=settings.steps - 1, forwards=draft.forwards + 1)


def _is_rescored(system: DiffuSeq, request: Request) -> bool:
    """Whether the last call reads what the others wrote."""
    settings: DiffusionGeneration = request.settings
    asked = settings.rescore and settings.sampler == "settle" and system.denoiser.in_order
    return asked and settings.steps > 1 and request.candidates > 1


def read_log_p(system: DiffuSeq, request: Request, encoded: Encoded, draft: Draft, noise: Tensor) -> Tensor:
    """Log-probability [n] of the texts of a draft, each word given those before it, in one call; where the length
    was predicted, with that of the length. noise: [n l d]."""
    tokens, padding = draft.tokens, draft.padding
    places = torch.arange(padding.shape[1], device=padding.device, dtype=torch.float32)
    rank = places.expand(padding.shape).masked_fill(padding, torch.inf)
    each = encoded.repeat(request.candidates)
    log_p = system.log_p_by_rank(tokens, padding, each, rank, noise).sum(1)
    if _given_length(request) is not None:
        return log_p
    lengths = system.length_head.log_probs(
        encoded.states, request.source_padding, (~request.source_padding).sum(1)
    )
    number = (~padding).sum(1, keepdim=True)
    return log_p + lengths.repeat_interleave(request.candidates, 0).gather(1, number - 1)[:, 0]


def _steps(
    settings: DiffusionGeneration,
    calls: int,
    network: Network,
    unconditional: Network | None,
    start: Tensor,
    noise: Noise,
    pinned: Tensor | None,
) -> Iterator[Step]:
    """The chosen sampler at work, guided where there is an unconditional network."""
    system, table, weight = network.system, network.table, settings.guidance
    if settings.sampler == "settle":
        predict: Predict = network.words
        if unconditional is not None:
            predict = guide_words(predict, unconditional.words, weight)
        return settle(
            predict,
            system.denoiser.word_embedding,
            start,
            network.padding,
            calls,
            noise=noise,
            temperature=settings.temperature,
            repeats=settings.repeats,
            order_noise=settings.order_noise,
            leftmost_first=settings.settle_first == "leftmost",
            sure_enough=settings.sure_enough,
            pinned=pinned,
        )
    denoise: Denoise = network if unconditional is None else guide(network, unconditional, weight)
    grid = make_grid(settings.grid, system.schedule, settings.steps)
    if settings.clamp_from is not None:
        denoise = clamp(denoise, table, grid, settings.clamp_from)
    project: Project = keep
    if pinned is not None:
        project = pin(table[pinned.clamp_min(0)], pinned >= 0)
    return _one_level(settings, denoise, start, grid, noise, project)


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


def _words(step: Step, pinned: Tensor | None) -> tuple[Tensor, Tensor]:
    """The words of a step and the network's confidence in them, both [n l]."""
    if isinstance(step, SettleStep):
        tokens, confidence = step.tokens, step.log_p.exp()
    else:
        assert step.estimate.logits is not None, "our denoiser gives logits"
        tokens, confidence = likeliest(step.estimate.logits)
    if pinned is None:
        return tokens, confidence
    return torch.where(pinned >= 0, pinned, tokens), confidence.masked_fill(pinned >= 0, 1.0)


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


def _given_length(request: Request) -> int | None:
    """The length of the answers where it is not to be predicted."""
    asked: int | None = request.settings.length
    return asked if request.template is None else request.template.shape[1]


def _without_source(system: DiffuSeq, request: Request) -> Encoded:
    """What the network has seen in training where the source was dropped: a single mask token, one row."""
    ids = torch.full((1, 1), system.special.mask, device=request.source.device)
    return system.denoiser.encode(ids, torch.zeros_like(ids, dtype=torch.bool))


class Network:
    """The denoiser as samplers call it, its last estimate fed back where it has learned to use one.

    Called with one level for all positions it gives words and x_0 estimates (`Denoise`); `words` serves
    settle (`Predict`). temperature sharpens the distribution whose mean the estimate is; at 0 it is the
    likeliest word. Pinned words (ids [n l], −1 where free) are told to be clean whatever the level of the
    others, as in training with token-wise noise, and are their own estimate.

    With `cache`, `words` computes what was open when it was last called and takes the rest as it stands: a
    word that has settled is computed once more, clean, and then keeps its keys and values, though the words
    around it change. A self-conditioned network, whose estimates go on changing, computes everything; one whose
    positions see only what settled before (`rank`) has nothing to compute anew.
    """

    def __init__(
        self,
        system: DiffuSeq,
        encoded: Encoded,
        padding: Tensor,
        table: Tensor,
        temperature: float,
        pinned: Tensor | None,
        cache: bool = False,
    ) -> None:
        self.system, self.encoded, self.padding = system, encoded, padding
        self.table, self.temperature = table, temperature
        self.stale: Tensor | None = None
        self.rank: Tensor | None = None
        if system.denoiser.in_order:
            self.rank = torch.full(padding.shape, torch.inf, device=padding.device)
        if system.denoiser.in_order or (cache and not system.config.self_condition):
            self.stale, self.encoded = ~padding, encoded.with_room(padding.shape[1])
        self.is_pinned = None if pinned is None else pinned >= 0
        self.known = None if pinned is None else table[pinned.clamp_min(0)]
        self.last: Tensor | None = None
        self.clean_or_noise = system.clean_or_noise()
        special = system.special
        self.silent = sorted({special.pad, special.start, special.end, special.mask} - {special.unknown})

    def __call__(self, x: Tensor, time: float) -> Estimate:
        """x [n l d] at one time in 0…1."""
        times = torch.full(x.shape[:1], time, device=x.device)[:, None]
        if self.is_pinned is not None:
            times = times.masked_fill(self.is_pinned, 0.0)
        everywhere = torch.ones_like(self.padding)
        probability = self._distribution(self._decode(x, self._level(times)), everywhere)
        probability = probability.view(*x.shape[:2], -1)
        x0 = self._mean(probability)
        if self.is_pinned is not None and self.known is not None:
            x0 = torch.where(self.is_pinned[..., None], self.known, x0)
        self._remember(x0)
        return Estimate(x0, probability.log_())

    def words(self, x: Tensor, is_open: Tensor) -> Tensor:
        """Log-probabilities [m v] at the open positions [n l], which are pure noise; the others are clean."""
        if self.stale is None:
            hidden = self._decode(x, self.clean_or_noise.at(is_open.long()))
            probability = self._distribution(hidden, is_open)
        else:
            self._rank_settled(self.stale & ~is_open)
            probability = self._distribution(*self._decode_stale(x, is_open, self.stale))
            self.stale = is_open
        if self.system.config.self_condition:
            x0 = x.clone()
            x0[is_open] = self._mean(probability).to(x0.dtype)
            self._remember(x0)
        return probability.log_()

    def _rank_settled(self, new: Tensor) -> None:
        """Words that settled [n l] in the last call come after all before, and from left to right."""
        if self.rank is not None:
            last = torch.where(self.rank.isinf(), -1.0, self.rank).amax(1, keepdim=True)
            self.rank = torch.where(new, last + new.cumsum(1), self.rank)

    def _level(self, times: Tensor) -> Level:
        return self.system.denoiser.level(self.system.schedule.log_snr(times).float())

    def _decode(self, x: Tensor, level: Level) -> Tensor:
        """States [n l w] for x at its level [n 1] or [n l]."""
        if self.system.config.self_condition and self.last is None:
            self.last = torch.zeros_like(x)
        return self.system.denoiser.decode(x, level, self.padding, self.encoded, self.last)

    def _decode_stale(self, x: Tensor, is_open: Tensor, stale: Tensor) -> tuple[Tensor, Tensor]:
        """States [n m w] of the positions that are to be computed, and which of them [n m] are open."""
        places = places_of(stale)
        opened = F.pad(is_open, (0, 1)).gather(1, places)
        scale, features, modulation = self.clean_or_noise
        everywhere = is_open.long()
        level = Level(scale[everywhere], features[everywhere], modulation[opened.long()])
        hidden = self.system.denoiser.decode_places(
            x, level, self.padding, self.encoded, places, rank=self.rank
        )
        return hidden, opened

    def _distribution(self, hidden: Tensor, where: Tensor) -> Tensor:
        """p of every word that has text [m v] at the positions `where` [n l] of the states [n l w]."""
        probability = self.system.denoiser.distribution(hidden, self.encoded, where, self.table)
        probability[:, self.silent] = _NEVER
        return probability

    def _mean(self, probability: Tensor) -> Tensor:
        """The x_0 estimate [… d] of p [… v]: the mean of the words' embeddings."""
        if self.temperature == 0:
            return self.table[probability.argmax(-1)]
        if self.temperature == 1:
            return probability @ self.table
        return (probability.log() / self.temperature).softmax(-1) @ self.table

    def _remember(self, x0: Tensor) -> None:
        if self.system.config.self_condition:
            self.last = x0


def _check(system: DiffuSeq, request: Request) -> None:
    settings: DiffusionGeneration = request.settings
    if settings.guidance != 1 and not system.config.source_dropout:
        raise InputError(
            f"guidance is {settings.guidance}, but this model has not learned to write without a source; "
            "leave it at 1, or train with --system.source-dropout 0.1."
        )
    if settings.sampler != "settle" and system.config.token_wise == 1:
        raise InputError(
            f"The sampler {settings.sampler} has one noise level for all tokens, and this model was trained "
            "with token-wise noise alone; use settle, or train with --system.attention all --system.token-wise 0.5."
        )
    length = _given_length(request)
    if settings.sampler == "settle" and (settings.clamp_from is not None or settings.truncate is not None):
        raise InputError(
            "clamp_from and truncate are for ddim, ancestral and dpm-solver; settle rounds to words anyway: "
            "leave them at none, or choose another sampler."
        )
    if length is not None and length > system.config.max_length:
        raise InputError(
            f"An answer of {length} tokens was asked for; this model writes up to {system.config.max_length}."
        )
