"""DiffuSeq as published (Gong et al., ICLR 2023) and DiffuSeq-v2 (Gong et al., 2023, arXiv 2310.05793).

One BERT encoder reads source and target as one sequence; only the target is noised, and at generation the
source is put back after every step.

Legend: b sources or pairs, k candidates a source, n = b·k rows, s source length, l length of the whole
sequence, a length of the answer, d embedding width, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from diffuseq.checks import check_fit
from diffuseq.config import DiffusionGeneration, PublishedConfig
from diffuseq.data.batch import Batch
from diffuseq.data.layout import Question, Sequences, lay_out, lay_out_question
from diffuseq.decoding.rounding import likeliest
from diffuseq.devices import finest_float
from diffuseq.diffusion.forward import absorb, absorbing_noise, partial_noise
from diffuseq.diffusion.schedule import DiscreteSchedule
from diffuseq.diffusion.times import LossSecondMoment, TimeSampler, UniformTimes, from_all_processes
from diffuseq.errors import InputError
from diffuseq.losses import (
    DiffusionTerms,
    absorbing_norm,
    paper_objective,
    published_objective,
    word_cross_entropy,
)
from diffuseq.model.bert_denoiser import BertDenoiser, BertShape
from diffuseq.sampling.ancestral import ancestral
from diffuseq.sampling.ddim import ddim
from diffuseq.sampling.dpm_solver import dpm_solver
from diffuseq.sampling.grid import Grid, make_grid
from diffuseq.sampling.hooks import anchor, clamp, truncate
from diffuseq.sampling.noise import RowNoise
from diffuseq.sampling.step import Denoise, Estimate, Noise, Project, Step
from diffuseq.system import Draft, Loss, Request, SpecialTokens, System, first_of_each, log_p_of_words

_ROWS_AT_A_TIME = 16
"""Rows whose scores over the vocabulary are in memory at once."""


def network_shape(config: PublishedConfig, vocab_size: int) -> BertShape:
    """The sizes of the network that a config asks for."""
    return BertShape(
        vocab_size=vocab_size,
        layers=config.layers,
        heads=config.heads,
        width=config.width,
        feed_forward=config.feed_forward,
        embedding_width=config.embedding_width,
        time_width=config.time_width,
        max_positions=config.max_positions,
        dropout=config.dropout,
        absorbing=config.version == 2,
    )


class PublishedDiffuSeq(System):
    """The published system: training loss and generation, v1 and v2."""

    def __init__(self, config: PublishedConfig, special: SpecialTokens) -> None:
        super().__init__()
        if config.sequence_length > config.max_positions:
            raise InputError(
                f"sequence_length is {config.sequence_length}, but max_positions is {config.max_positions}; "
                "shorten the sequence or enlarge the position table."
            )
        self.config, self.special = config, special
        self.schedule = DiscreteSchedule.named(config.noise_schedule, config.diffusion_steps)
        self.denoiser = BertDenoiser(network_shape(config, special.vocab_size))
        self.times: TimeSampler = (
            LossSecondMoment(len(self.schedule), gather=from_all_processes)
            if config.time_sampling == "loss-aware"
            else UniformTimes(len(self.schedule))
        )
        self._seen: list[Tensor] = []

    # training

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> Loss:
        """The objective that `config.objective` names, weighted by importance, mean over the pairs.

        In eval mode times are uniform: what training has learned of them does not change what a loss is asked at.
        """
        sequences = lay_out(batch, self.special, self.config.sequence_length)
        device = sequences.ids.device
        sampler = self.times if self.training else UniformTimes(len(self.schedule))
        times, weights = (t.to(device) for t in sampler.sample(len(batch), generator))
        clean = self.denoiser.embed(sequences.ids)
        x0 = clean + self._first_sigma * _normal_like(clean, generator)
        x_t = self.noised(x0, sequences.target, times, _normal_like(clean, generator), generator)
        estimate = self.denoiser(x_t, self.network_time(times))
        terms = self.terms(estimate, x0, clean, sequences, times)
        if self.training:
            self._seen.append(torch.stack([times.float(), terms.total.detach().float()]))
        value = (terms.total * weights).mean()
        if self.denoiser.mean_embed is not None:
            value = value + self.config.regularize * absorbing_norm(self.denoiser.mean_embed)
        return Loss(value, self._logs(terms, estimate, sequences))

    def terms(
        self, estimate: Tensor, x0: Tensor, clean: Tensor, sequences: Sequences, times: Tensor
    ) -> DiffusionTerms:
        """The terms of the configured objective for an estimate [b l d] at times, long [b]."""
        alpha_last = float(self.schedule.alpha_bar[-1].sqrt())
        shared = (estimate, x0, clean, self.denoiser.logits(x0), sequences.ids, times == 0, alpha_last)
        if self.config.objective == "paper":
            return paper_objective(*shared, sequences.target)
        return published_objective(*shared)

    def noised(
        self,
        x0: Tensor,
        target: Tensor,
        times: Tensor,
        noise: Tensor,
        generator: torch.Generator | None = None,
        absorb_rate: float | None = None,
    ) -> Tensor:
        """x_t [b l d] at times, long [b]: partial noise, for v2 around the absorbing state and with words
        absorbed at the rate λ (`config.absorb_rate` unless given).
        """
        alpha_bar = self.schedule.alpha_bar.to(times.device, finest_float(times.device))[times]
        alpha, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        absorbing = self.denoiser.mean_embed
        if absorbing is None:
            return partial_noise(x0, target, alpha, sigma, noise)
        x_t = absorbing_noise(x0, target, alpha, sigma, noise, absorbing)
        rate = self.config.absorb_rate if absorb_rate is None else absorb_rate
        return absorb(x_t, target, sigma, absorbing, rate, generator) if rate > 0 else x_t

    def network_time(self, index: Tensor) -> Tensor:
        """What the network is told for indices t of the chain [b] (fractions allowed): t·1000/T, or t."""
        return index.float() * (1000 / len(self.schedule)) if self.config.rescale_time else index.float()

    @property
    def _first_sigma(self) -> float:
        """σ_0 = √(1 − ᾱ_0), the noise between a word's embedding and x_0."""
        return float((1 - self.schedule.alpha_bar[0]).sqrt())

    @torch.no_grad()
    def _logs(self, terms: DiffusionTerms, estimate: Tensor, sequences: Sequences) -> dict[str, Tensor]:
        """Unweighted terms, and the nll of the network's own estimate, which is not trained on."""
        nll = word_cross_entropy(self.denoiser.logits(estimate), sequences.ids, sequences.target)
        logs = {"nll": nll.mean()}
        for name, term in vars(terms).items():
            logs[name] = term.detach().mean()
        return logs

    def after_step(self) -> None:
        """Tell the time sampler the losses of the whole step, so that its split into micro-batches and
        processes changes nothing."""
        if self._seen:
            times, losses = torch.cat(self._seen, dim=1)
            self._seen.clear()
            self.times.update(times.long(), losses)

    def state(self) -> dict[str, Any]:
        return {"times": self.times.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.times.load_state(state["times"])

    # generation

    @torch.no_grad()
    def generate(self, request: Request) -> Iterator[Draft]:
        """Drafts after every network call; the words of the last are read off the final state itself.

        Raises `InputError` for settings that the published system does not have.
        """
        self.eval()
        settings: DiffusionGeneration = request.settings
        question = self._question(request)
        embedded = self.denoiser.embed(question.ids)
        noise: Noise = RowNoise(request.seeds)
        if settings.truncate is not None:
            noise = truncate(noise, settings.truncate)
        for step in self._steps(settings, noise(embedded), anchor(embedded, question.known), noise):
            is_last = step.index == step.total - 1
            yield self._draft(step.x if is_last else step.estimate.x0, question, step)

    def _steps(
        self, settings: DiffusionGeneration, start: Tensor, project: Project, noise: Noise
    ) -> Iterator[Step]:
        """The chosen sampler over the chosen grid, with rounding where it is on."""
        check_fit(self.config, settings)
        grid = self.grid(settings)
        denoise: Denoise = self.denoise_at
        if settings.clamp_from is not None:
            denoise = clamp(denoise, self.denoiser.word_embedding.weight, grid, settings.clamp_from)
        if settings.sampler == "ancestral":
            # The published variance is β, which fits only where no step of the chain is left out.
            full = len(grid) == len(self.schedule)
            return ancestral(
                denoise, start, grid, noise=noise, variance="large" if full else "small", project=project
            )
        if settings.sampler == "ddim":
            return ddim(
                denoise, start, grid, noise=noise, churn=settings.churn, eta=settings.eta, project=project
            )
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

    def grid(self, settings: DiffusionGeneration) -> Grid:
        """The grid, with indices t of the chain as its times (fractions between the chain's levels).

        The ancestral sampler walks the chain's own levels; DPM-Solver++ ends at the lowest noise level, as
        the published v2 does; the others end at clean data. The released v2 solver tells the network u·1000
        where training tells it (u − 1/T)·1000, half a unit less at T = 2000: v2 does so here as well.
        """
        if settings.sampler == "ancestral" and settings.grid == "uniform-time":
            return make_grid("published-steps", self.schedule, settings.steps)
        end: Literal["clean", "lowest"] = "lowest" if settings.sampler == "dpm-solver" else "clean"
        grid = make_grid(settings.grid, self.schedule, settings.steps, end)
        index = self.schedule.index_of_time(grid.time)
        as_released = settings.sampler == "dpm-solver" and self.config.version == 2
        return replace(grid, time=index + 1 if as_released else index)

    def denoise_at(self, x: Tensor, index: float) -> Estimate:
        """The network's estimate for x [n l d] at index t of the chain."""
        times = torch.full((len(x),), index, dtype=finest_float(x.device), device=x.device)
        return Estimate(self.denoiser(x, self.network_time(times)))

    def _question(self, request: Request) -> Question:
        """The sequences to complete, one row a candidate."""
        template = request.template
        return lay_out_question(
            request.source.repeat_interleave(request.candidates, 0),
            request.source_padding.repeat_interleave(request.candidates, 0),
            self.special,
            self.config.sequence_length,
            answer_length=request.settings.length,
            template=None if template is None else template.repeat_interleave(request.candidates, 0),
        )

    def _draft(self, state: Tensor, question: Question, step: Step) -> Draft:
        """The likeliest words of a state [n l d] at the places of the answer, up to the first [SEP]."""
        places = question.answer[..., None].expand(-1, -1, state.shape[-1])
        tokens, confidence = self._words(state.gather(1, places), question.fixed_length)
        tokens = torch.where(question.pinned >= 0, question.pinned, tokens)
        confidence = confidence.masked_fill(question.pinned >= 0, 1.0)
        is_end = tokens == self.special.end
        padding = question.outside | (is_end.cumsum(1) > 0)
        tokens = tokens.masked_fill(padding, self.special.pad)
        # with the end: without it an empty text would be certain
        log_p = log_p_of_words(confidence, padding & ~first_of_each(is_end))
        return Draft(tokens, padding, confidence, log_p, step.index, step.total, step.index + 1)

    def _words(self, state: Tensor, fixed_length: bool) -> tuple[Tensor, Tensor]:
        """Words and their probabilities [n a]; where the length is given, none of them may end the answer."""
        barred = [self.special.pad, self.special.start, self.special.end] if fixed_length else []
        words, probabilities = [], []
        for rows in state.split(_ROWS_AT_A_TIME):
            logits = self.denoiser.logits(rows)
            logits[..., barred] = -torch.inf
            word, probability = likeliest(logits)
            words.append(word)
            probabilities.append(probability)
        return torch.cat(words), torch.cat(probabilities)


def _normal_like(x: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
