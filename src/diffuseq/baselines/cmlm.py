"""Conditional masked language model (Ghazvininejad et al., 2019, "Mask-Predict").

Trained to fill in a random part of the target, the decoder writes a whole text at once and then, round after
round, masks the words it is least sure of and predicts them again.

Legend: b sources, k candidates a source, r rows a source while decoding, n = b·r rows, l target length.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from diffuseq.baselines.configs import CMLMConfig, IterativeGeneration
from diffuseq.baselines.nonautoregressive import Encoded, NonAutoregressive
from diffuseq.data.batch import Batch
from diffuseq.errors import InputError
from diffuseq.model.length import LengthHead
from diffuseq.sampling.noise import RowNoise
from diffuseq.system import Draft, Loss, Request, SpecialTokens, log_p_of_words


class CMLM(NonAutoregressive):
    """Masked prediction of the words and, from the encoded source, of the length."""

    config: CMLMConfig

    def __init__(self, config: CMLMConfig, special: SpecialTokens) -> None:
        super().__init__(config, special)
        self.length_head = LengthHead(config.width, config.max_length)

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> Loss:
        """Cross entropy of the masked words and of the lengths, a mean over the words."""
        self.check_lengths(batch.source.shape[1], batch.target.shape[1])
        encoded = self.encode(batch.source, batch.source_padding)
        masked = mask_uniformly(batch.target_padding, generator)
        tokens = batch.target.masked_fill(masked, self.special.mask)
        hidden = self.read(tokens, batch.target_padding, encoded)
        words = self.word_losses(hidden[masked], batch.target[masked])
        count = max(1, len(words))
        length = self.length_head.loss(
            encoded.states,
            ~encoded.visible[:, 0, 0],
            (~batch.source_padding).sum(1),
            (~batch.target_padding).sum(1),
        )
        # A length counts as `length_loss` words, so that the whole is a mean over words.
        lengths = self.config.length_loss * length * len(batch)
        logs = {"words": words.detach().sum() / count, "length": lengths.detach() / count}
        return Loss((words.sum() + lengths) / count, logs, weight=count)

    def refine(self, request: Request, settings: IterativeGeneration) -> Iterator[Draft]:
        """Mask-predict from a text of masks, whose length is pinned, given or predicted."""
        k = request.candidates
        encoded = self.encode(request.source, request.source_padding)
        lengths = self._lengths(request, settings, encoded)  # [b r]
        rows = lengths.shape[1]
        padding = torch.arange(int(lengths.max()), device=self.device) >= lengths.reshape(-1, 1)
        noise = RowNoise(_row_seeds(request.seeds, k, rows), lengths.flatten().tolist())
        for index, (tokens, confidence) in enumerate(
            self._mask_predict(encoded, padding, _pinned(request, padding), settings, noise)
        ):
            log_p = log_p_of_words(confidence, padding)
            kept = _surest(log_p / (~padding).sum(1), k, rows)
            draft = (tokens[kept], padding[kept], confidence[kept], log_p[kept])
            yield Draft(*draft, index, settings.steps, forwards=index + 1)

    def _lengths(self, request: Request, settings: IterativeGeneration, encoded: Encoded) -> Tensor:
        """The lengths that are tried, [b r]: at least k rows, and at least the whole length beam."""
        k, given = request.candidates, settings.length
        if request.template is not None:
            given = request.template.shape[1]
        if given is not None:
            if not 1 <= given <= self.config.max_length:
                raise InputError(
                    f"An answer of {given} tokens was asked for; "
                    f"give a length from 1 to {self.config.max_length}."
                )
            return torch.full((len(request.source), k), given, device=self.device)
        lengths = self._likely_lengths(encoded, request.source_padding, settings.length_beam)
        ranks = torch.arange(max(k, settings.length_beam), device=self.device) % settings.length_beam
        return lengths[:, ranks]

    def _likely_lengths(self, encoded: Encoded, source_padding: Tensor, count: int) -> Tensor:
        """The likeliest lengths of the answer to each source, likeliest first, long [b count]."""
        known = encoded.states, ~encoded.visible[:, 0, 0], (~source_padding).sum(1)
        return self.length_head.top(*known, count)[0]

    @torch.no_grad()
    def answer_length(self, source: Tensor, source_padding: Tensor) -> Tensor:
        return self._likely_lengths(self.encode(source, source_padding), source_padding, 1)[:, 0]

    def _mask_predict(
        self,
        encoded: Encoded,
        padding: Tensor,
        pinned: Tensor,
        settings: IterativeGeneration,
        noise: RowNoise,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield words [n l] and their probabilities [n l] after each round (section 3.1 of the paper).

        pinned: long [n l], ids of words that are given, −1 elsewhere. In round t of T the N·(T − t)/T
        least sure of a row's N free words are predicted again, all others stay with the probability they had.
        """
        free = ~padding & (pinned < 0)
        num_free = free.sum(1, keepdim=True)
        tokens = torch.where(pinned >= 0, pinned, self.special.pad)
        confidence = torch.ones_like(tokens, dtype=torch.float32)
        for index in range(settings.steps):
            num_masked = num_free * (settings.steps - index) // settings.steps
            order = confidence.masked_fill(~free, torch.inf).argsort(dim=1, stable=True).argsort(dim=1)
            masked = order < num_masked
            hidden = self.read(tokens.masked_fill(masked, self.special.mask), padding, encoded)
            words = self.choose(hidden, noise(hidden[..., :1])[..., 0], settings.temperature)
            tokens = torch.where(masked, words.tokens, tokens)
            confidence = torch.where(masked, words.probability, confidence)
            yield tokens, confidence


def mask_uniformly(padding: Tensor, generator: torch.Generator | None) -> Tensor:
    """Which tokens are masked, bool [b l]: a uniform number of the N, at least one (section 2.2)."""
    shape, device = padding.shape, padding.device
    count = (~padding).sum(1, keepdim=True)
    share = torch.rand(shape[0], 1, generator=generator, device=device)
    number = ((share * count).floor() + 1).clamp(max=count)
    order = torch.rand(shape, generator=generator, device=device).masked_fill(padding, 2.0)
    return order.argsort(dim=1).argsort(dim=1) < number


def _pinned(request: Request, padding: Tensor) -> Tensor:
    """The template for every row, long [n l]; −1 where the text is free."""
    if request.template is None:
        return torch.full(padding.shape, -1, device=padding.device)
    return request.template.repeat_interleave(len(padding) // len(request.template), dim=0)


def _row_seeds(seeds: list[int], k: int, rows: int) -> list[int]:
    """A seed for each of `rows` rows a source; those beyond k are derived from the k that are given."""
    sources = range(len(seeds) // k)
    return [
        (seeds[i * k + row % k] + row // k * 0x9E3779B97F4A7C15) % 2**63
        for i in sources
        for row in range(rows)
    ]


def _surest(score: Tensor, k: int, rows: int) -> Tensor:
    """Indices [b·k] of the k rows of every source that are drafts of answers, by the mean log-probability of their
    words [b·rows]: with more lengths than candidates, the highest first (section 3.3)."""
    if rows == k:
        return torch.arange(len(score), device=score.device)
    best = score.view(-1, rows).topk(k, dim=1).indices
    return (best + torch.arange(len(best), device=best.device)[:, None] * rows).flatten()
