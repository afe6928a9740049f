"""Diffusion-LM (Li et al., 2022): a diffusion language model of the targets that knows no source, and a
classifier of noisy texts whose gradient steers it towards one.

The classifier says how likely the source is, given a noisy target: the noisy channel. Every position of the
target proposes a distribution over words, and a source word is explained by any of them with equal weight,
log p(x | y_t) = Σ_i log 1/l Σ_j p(x_i | y_t, j), as in IBM's first translation model. So it needs no other
sources to compare with (an answer depends on its own source only), its gradient reaches the position that
explains a word best, and the order of the source's words does not count.

Legend: b sources or pairs, k candidates a source, n = b·k rows, s source length, l length of the sequence, d
embedding width, v vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from diffuseq.baselines.autoregressive import closed, opened
from diffuseq.baselines.configs import DiffusionLMConfig, GuidedGeneration
from diffuseq.baselines.guidance import Steering, guided_ancestral
from diffuseq.data.batch import Batch
from diffuseq.decoding.rounding import likeliest
from diffuseq.devices import finest_float
from diffuseq.diffusion.schedule import DiscreteSchedule
from diffuseq.diffusion.times import UniformTimes
from diffuseq.errors import InputError
from diffuseq.losses import published_objective
from diffuseq.model.bert_denoiser import BertDenoiser, BertShape
from diffuseq.sampling.grid import make_grid
from diffuseq.sampling.hooks import clamp, pin
from diffuseq.sampling.noise import RowNoise
from diffuseq.sampling.step import Denoise, Estimate, Step
from diffuseq.system import Draft, Loss, Request, SpecialTokens, System, first_of_each, log_p_of_words


@dataclass(frozen=True)
class Frame:
    """What is known of the answers: ids long [n l] (START first, then what is pinned), known bool [n l];
    words: how many tokens the answer has, or None where the model decides."""

    ids: Tensor
    known: Tensor
    words: int | None


class DiffusionLM(System):
    """The language model and its classifier, trained side by side on the same noisy texts."""

    config: DiffusionLMConfig

    def __init__(self, config: DiffusionLMConfig, special: SpecialTokens) -> None:
        super().__init__()
        self.config, self.special = config, special
        self.schedule = DiscreteSchedule.named(config.noise_schedule, config.diffusion_steps)
        self.times = UniformTimes(len(self.schedule))
        self.denoiser = BertDenoiser(
            self._shape(config.layers, config.heads, config.width, config.feed_forward)
        )
        self.classifier = BertDenoiser(
            self._shape(
                config.classifier_layers,
                config.classifier_heads,
                config.classifier_width,
                config.classifier_feed_forward,
            )
        )

    def _shape(self, layers: int, heads: int, width: int, feed_forward: int) -> BertShape:
        return BertShape(
            vocab_size=self.special.vocab_size,
            layers=layers,
            heads=heads,
            width=width,
            feed_forward=feed_forward,
            embedding_width=self.config.embedding_width,
            time_width=self.config.time_width,
            max_positions=self.config.sequence_length,
            dropout=self.config.dropout,
        )

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> Loss:
        """The language model's objective (end-to-end, x_0-parameterised, Eq. 2 with the rounding term of
        section 4.2) plus the classifier's negative log-likelihood of a source word; a mean over pairs.

        The classifier sees the language model's noisy texts, but its gradient stops there.
        """
        ids = self._sequences(batch)
        clean = self.denoiser.embed(ids)
        first_sigma = float((1 - self.schedule.alpha_bar[0]).sqrt())
        x0 = clean + first_sigma * _normal_like(clean, generator)
        times = self.times.sample(len(ids), generator)[0].to(ids.device)
        alpha_bar = self.schedule.alpha_bar.to(ids.device, finest_float(ids.device))[times]
        alpha, sigma = ((part.sqrt()).to(x0.dtype)[:, None, None] for part in (alpha_bar, 1 - alpha_bar))
        x_t = alpha * x0 + sigma * _normal_like(clean, generator)
        estimate = self.denoiser(x_t, self._network_time(times))
        terms = published_objective(
            estimate,
            x0,
            clean,
            self.denoiser.logits(x0),
            ids,
            times == 0,
            float(self.schedule.alpha_bar[-1].sqrt()),
        )
        log_likelihood = self.log_likelihood(x_t.detach(), times, batch.source, batch.source_padding)
        classifier = -(log_likelihood / (~batch.source_padding).sum(1).clamp(min=1)).mean()
        logs = {name: term.detach().mean() for name, term in vars(terms).items()}
        return Loss(terms.total.mean() + classifier, {**logs, "classifier": classifier.detach()})

    def check_lengths(self, source: int, target: int) -> None:
        if target + 2 > self.config.sequence_length:
            raise InputError(
                f"A target has up to {target} tokens, but a sequence_length of "
                f"{self.config.sequence_length} has room for {self.config.sequence_length - 2}; "
                "raise sequence_length or lower max_target."
            )

    def _sequences(self, batch: Batch) -> Tensor:
        """`[START] y [END] [PAD] …`, long [b l]. Raises `InputError` where a target does not fit."""
        self.check_lengths(batch.source.shape[1], batch.target.shape[1])
        ids, _ = opened(*closed(batch.target, batch.target_padding, self.special), self.special.start)
        return F.pad(ids, (0, self.config.sequence_length - ids.shape[1]), value=self.special.pad)

    def _network_time(self, index: Tensor) -> Tensor:
        """What the networks are told for indices t of the chain [b]: t·1000/T."""
        return index.float() * (1000 / len(self.schedule))

    def log_likelihood(self, x: Tensor, index: Tensor, source: Tensor, source_padding: Tensor) -> Tensor:
        """log p(source | x_t) in nats, the sum over its words, [n].

        x: noisy texts [n l d] at indices t of the chain [n]; source: long [n s] with its padding.
        """
        logits = self.classifier.logits(self.classifier(x, self._network_time(index))).float()
        words = source[:, None].expand(-1, x.shape[1], -1)
        log_p = logits.gather(2, words) - logits.logsumexp(-1, keepdim=True)  # [n l s]
        explained = log_p.logsumexp(1) - math.log(x.shape[1])
        return explained.masked_fill(source_padding, 0.0).sum(1)

    @torch.no_grad()
    def generate(self, request: Request) -> Iterator[Draft]:
        """Yield a draft a denoising step; `forwards` counts the calls of both networks.

        Raises `InputError` for settings that cannot be served.
        """
        settings: GuidedGeneration = request.settings
        _check(settings)
        self.eval()
        frame = self._frame(request)
        updates = settings.updates if settings.guidance else 0
        for step in self.steps(request, settings, frame):
            calls = (step.index + 1) * (1 + updates) - (updates if step.index == step.total - 1 else 0)
            yield self._draft(step, frame, calls)

    def steps(
        self, request: Request, settings: GuidedGeneration, frame: Frame | None = None
    ) -> Iterator[Step]:
        """The sampler's own steps, on the levels of the chain."""
        frame = self._frame(request) if frame is None else frame
        k = request.candidates
        source = request.source.repeat_interleave(k, dim=0)
        source_padding = request.source_padding.repeat_interleave(k, dim=0)

        def log_likelihood(x: Tensor, index: float) -> Tensor:
            times = torch.full((len(x),), index, device=x.device)
            return self.log_likelihood(x, times, source, source_padding)

        grid = make_grid("published-steps", self.schedule, settings.steps)
        denoise: Denoise = self._denoise
        if settings.clamp_from is not None:
            denoise = clamp(denoise, self.denoiser.word_embedding.weight, grid, settings.clamp_from)
        noise = RowNoise(request.seeds)
        known = self.denoiser.embed(frame.ids).detach()
        steering = Steering(settings.guidance, settings.updates, settings.update_rate, settings.fluency)
        project = pin(known, frame.known, noise)
        return guided_ancestral(
            denoise, log_likelihood, noise(known), grid, steering, noise=noise, project=project
        )

    def _denoise(self, x: Tensor, index: float) -> Estimate:
        times = torch.full((len(x),), index, device=x.device)
        return Estimate(self.denoiser(x, self._network_time(times)))

    def _frame(self, request: Request) -> Frame:
        """START, and with a template or a length the pinned words, END and the padding after it."""
        n, length = len(request.source) * request.candidates, self.config.sequence_length
        ids = torch.full((n, length), self.special.pad, device=self.device)
        ids[:, 0] = self.special.start
        known = torch.zeros_like(ids, dtype=torch.bool)
        known[:, 0] = True
        template = request.template
        words = request.settings.length if template is None else template.shape[1]
        if words is None:
            return Frame(ids, known, None)
        if not 1 <= words <= length - 2:
            raise InputError(
                f"An answer of {words} tokens was asked for; with a sequence_length of {length} "
                f"it can have 1 to {length - 2}."
            )
        ids[:, words + 1] = self.special.end
        known[:, words + 1 :] = True
        if template is not None:
            template = template.to(self.device).repeat_interleave(request.candidates, dim=0)
            ids[:, 1 : words + 1] = torch.where(template >= 0, template, ids[:, 1 : words + 1])
            known[:, 1 : words + 1] = template >= 0
        return Frame(ids, known, words)

    def _draft(self, step: Step, frame: Frame, forwards: int) -> Draft:
        """The likeliest words of the estimate (of the last state, at the end), up to the end token."""
        state = step.x if step.index == step.total - 1 else step.estimate.x0
        inner = slice(1, None if frame.words is None else frame.words + 1)
        logits = self.denoiser.logits(state[:, inner]).float()
        special = self.special
        never = [special.start, special.mask] + ([special.pad, special.end] if frame.words else [])
        logits[..., never] = -torch.inf
        tokens, confidence = likeliest(logits)
        is_known = frame.known[:, inner]
        tokens = torch.where(is_known, frame.ids[:, inner], tokens)
        confidence = confidence.masked_fill(is_known, 1.0)
        stops = (tokens == special.end) | (tokens == special.pad)
        padding = stops.cumsum(1) > 0
        tokens = tokens.masked_fill(padding, special.pad)
        # with what ends it: without that an empty text would be certain
        log_p = log_p_of_words(confidence, padding & ~first_of_each(stops))
        return Draft(tokens, padding, confidence, log_p, step.index, step.total, forwards)


def _check(settings: GuidedGeneration) -> None:
    """Raise `InputError` for settings without a meaning; `steps` is checked by the grid."""
    for name in ("guidance", "updates", "update_rate", "fluency"):
        if getattr(settings, name) < 0:
            raise InputError(f"{name} is {getattr(settings, name)}; it must be 0 or more.")


def _normal_like(x: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
