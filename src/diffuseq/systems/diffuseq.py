"""Our DiffuSeq: the denoiser with its loss and its samplers, behind the protocol of every system.

Legend: b sources, k candidates a source, n = b·k rows, l target length, d embedding width, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from diffuseq import pretrained
from diffuseq.config import BertSizes, DiffuSeqConfig
from diffuseq.data.batch import Batch, with_end
from diffuseq.diffusion.forward import partial_noise
from diffuseq.diffusion.levels import mixed_levels, settling_order
from diffuseq.diffusion.schedule import LogLinearSchedule
from diffuseq.model.bert_encoder import BertEncoder, principal_directions
from diffuseq.model.denoiser import Denoiser, Encoded, Level
from diffuseq.model.embeddings import INITIAL_RADIUS
from diffuseq.model.length import LengthHead
from diffuseq.model.order import Order
from diffuseq.model.word_losses import label_losses, negative_log_likelihood, word_losses
from diffuseq.sampling.fixed_point import Read
from diffuseq.sampling.noise import RowNoise
from diffuseq.system import Draft, Loss, Request, SpecialTokens, System
from diffuseq.systems.generation import generate
from diffuseq.systems.networks import Reader
from diffuseq.systems.page import pinned_words


class DiffuSeq(System):
    """Conditional denoising with a cached source and cross-entropy on the predicted x_0."""

    def __init__(self, config: DiffuSeqConfig, special: SpecialTokens) -> None:
        super().__init__()
        is_fresh = config.bert is None
        bert, config = _bert(config, special)
        reader = None if bert is None else BertEncoder(bert, config.width, special)
        self.config, self.special = config, special
        self.schedule = LogLinearSchedule(config.log_snr_max, config.log_snr_min)
        self.denoiser = Denoiser(
            special.vocab_size,
            width=config.width,
            heads=config.heads,
            feed_forward=config.feed_forward,
            encoder_layers=config.encoder_layers,
            decoder_layers=config.decoder_layers,
            embedding_width=config.embedding_width,
            dropout=config.dropout,
            copy=config.copy,
            self_conditioned=config.self_condition > 0,
            longest_in_order=config.max_length if config.attention == "settled" else None,
            reader=reader,
        )
        if bert is not None and is_fresh:
            self._begin_with_words_of(bert)
        self.length_head = LengthHead(config.width, config.max_length)

    @torch.no_grad()
    def _begin_with_words_of(self, bert: Any) -> None:
        table = self.denoiser.word_embedding.weight
        words = bert.get_input_embeddings().weight
        table.copy_(principal_directions(words, table.shape[1], INITIAL_RADIUS))

    @property
    def graphable(self) -> bool:
        """A pretrained reader is transformers' own code, which may wait."""
        return self.denoiser.in_order and self.denoiser.reader is None

    @property
    def reads_in_order(self) -> bool:
        return self.denoiser.in_order

    def learning_rate_share(self, name: str) -> float:
        """A pretrained reader learns slowly, so that it keeps what it knows."""
        return self.config.pretrained_rate if name.startswith("denoiser.reader.bert.") else 1.0

    def check_lengths(self, source: int, target: int) -> None:
        if isinstance(self.denoiser.reader, BertEncoder):
            self.denoiser.reader.check_length(source)

    def longest_answer(self, source: int) -> int | None:
        return self.config.max_length

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> Loss:
        source, source_padding = self._drop_source(batch, generator)
        draws = self.config.draws
        target, padding = (part.repeat_interleave(draws, 0) for part in (batch.target, batch.target_padding))
        drawn = self._draw(padding, generator)
        encoded = self.denoiser.encode(source, source_padding)
        length_loss = self.length_head.loss(
            encoded.states, source_padding, (~batch.source_padding).sum(1), (~batch.target_padding).sum(1)
        )
        encoded = encoded.repeat(draws)
        if self.denoiser.in_order:
            nll, loss, count = self._losses_in_order(target, padding, batch.labels, encoded, *drawn)
        else:
            nll, loss, count = self._losses_at_levels(target, padding, encoded, generator, *drawn)
        # a length counts as `length_loss` tokens, so that the whole is a mean over tokens
        value = loss.sum() / count + self.config.length_loss * length_loss * (len(padding) / count)
        return Loss(value, {"nll": nll.detach().sum() / count, "length": length_loss.detach()}, count)

    def _draw(self, padding: Tensor, generator: torch.Generator | None) -> tuple[Tensor, ...]:
        """What chance decides for targets [b l]: ranks and noise, or levels, who is noised, and noise."""
        if self.denoiser.in_order:
            config = self.config
            rank = settling_order(
                padding, config.left_to_right, config.length_first, generator, config.look_ahead
            )
            return rank, self.noise_for(rank, generator), self._draw_others(rank, generator)
        return *mixed_levels(padding, self.config.token_wise, generator), self.noise_for(padding, generator)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """As for any module, but part by part and for training alone; see `Denoiser.compile_parts`."""
        self.denoiser.compile_parts(*args, **kwargs)

    def _draw_others(self, rank: Tensor, generator: torch.Generator | None) -> Tensor:
        """For every position of a batch [b l] whose word the others see in its place, among all b·l positions: its
        own, but for a share `wrong_words` in training."""
        own = torch.arange(rank.numel(), device=rank.device).view(rank.shape)
        if not (self.training and self.config.wrong_words):
            return own
        chance = torch.rand(rank.shape, generator=generator, device=rank.device)
        anybody = torch.randint(rank.numel(), rank.shape, generator=generator, device=rank.device)
        return torch.where(chance < self.config.wrong_words, anybody, own)

    def _losses_in_order(
        self,
        target: Tensor,
        padding: Tensor,
        labels: Tensor | None,
        encoded: Encoded,
        rank: Tensor,
        noise: Tensor,
        others: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """−log p of words and ends, each while it is noise and what settles before it is clean (0 beyond the end),
        what training descends in its place, and the number of words and ends.

        That nothing stands beyond the end, as long as the end is not known, is learned beside and not counted; such
        places are as many as padding makes, so that what is descended depends on what a target is batched with.
        Labels say what to expect from left to right, so that targets that settle otherwise learn their own words.
        """
        words, length = self.with_end(target, padding)
        given = words.flatten()[others]
        given = torch.where(given == self.special.end, words, given)  # an end is no word
        hidden = self.states_by_rank(given, length, encoded, rank, noise)
        if labels is not None:
            labels = labels.repeat_interleave(self.config.draws, 0)
            taught = _is_in_reading_order(rank, length).to(labels.dtype)[:, None, None]
            own = (1.0 - taught).expand(-1, words.shape[1], -1)
            labels = (labels * taught).scatter_add(-1, words[..., None], own)
        nll, loss = self._word_losses(hidden, encoded, words, labels=labels)
        return nll.masked_fill(~_within(words, length).flatten(), 0.0), loss, (length + 1).sum()

    def _word_losses(
        self,
        hidden: Tensor,
        encoded: Encoded,
        target: Tensor,
        where: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        smoothing, vocabulary = self.config.label_smoothing, self.config.vocabulary_loss
        if labels is not None:
            return label_losses(self.denoiser, hidden, encoded, target, labels, vocabulary=vocabulary)
        return word_losses(
            self.denoiser, hidden, encoded, target, where, smoothing=smoothing, vocabulary=vocabulary
        )

    def with_end(self, target: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        """Targets [b l] with the end in the place of all padding and one place more [b l+1], and their numbers of
        words [b]."""
        return with_end(target, padding, self.special.end), (~padding).sum(1)

    def states_by_rank(
        self, words: Tensor, length: Tensor, encoded: Encoded, rank: Tensor, noise: Tensor
    ) -> Tensor:
        """What `Denoiser.distribution` needs to predict every word, and the end, of targets as `with_end` gives
        them [b l] and [b] from those of smaller ranks [b l], for attention "settled". noise [b l d]: standard
        normal."""
        x0 = self.denoiser.word_embedding(words)
        order = Order.of_targets(rank, length)
        return self.denoiser.decode_in_order(
            x0, self.pure_noise(x0, noise), self.clean_or_noise(), encoded, order
        )

    def log_p_by_rank(
        self, words: Tensor, length: Tensor, encoded: Encoded, rank: Tensor, noise: Tensor
    ) -> Tensor:
        """Log-probability in nats of every word of the targets, and of the end, given those of smaller ranks [b l],
        0 beyond the end; the rest as in `states_by_rank`."""
        hidden = self.states_by_rank(words, length, encoded, rank, noise)
        within = _within(words, length)
        nats = negative_log_likelihood(self.denoiser, hidden, encoded, words, within)
        return torch.zeros_like(rank).masked_scatter(within, -nats)

    def next_words(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        words, length = self.with_end(batch.target, batch.target_padding)
        rank = settling_order(batch.target_padding, 1.0, 0.0, generator)
        encoded = self.denoiser.encode(batch.source, batch.source_padding)
        hidden = self.states_by_rank(words, length, encoded, rank, self.noise_for(rank, generator))
        return self.denoiser.distribution(hidden, encoded).unflatten(0, words.shape)

    def pure_noise(self, x0: Tensor, noise: Tensor) -> Tensor:
        """x_1 of words [b l d]: what the schedule's end leaves of them in the noise [b l d]."""
        everywhere = torch.ones(x0.shape[:2], device=x0.device)
        return self._corrupt(x0, everywhere, everywhere.bool(), noise)[0]

    def clean_or_noise(self) -> Level:
        """The two levels of token-wise noise, as a table of two rows."""
        ends = torch.arange(2.0, device=self.device)
        return self.denoiser.level(self.schedule.log_snr(ends).float())

    def _losses_at_levels(
        self,
        target: Tensor,
        padding: Tensor,
        encoded: Encoded,
        generator: torch.Generator | None,
        time: Tensor,
        noised: Tensor,
        noise: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """−log p of noised words, at levels that are drawn, what training descends in its place, and how many."""
        x0 = self.denoiser.word_embedding(target)
        x, log_snr = self._corrupt(x0, time, noised, noise)
        level = self.denoiser.level(log_snr)
        estimate = self._first_estimate(x, level, padding, encoded, generator)
        hidden = self.denoiser.decode(x, level, padding, encoded, estimate)
        return *self._word_losses(hidden, encoded, target, noised), noised.sum().clamp_min(1)

    def _drop_source(self, batch: Batch, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Some rows lose their source: a single mask token stands in its place."""
        if not self.config.source_dropout:
            return batch.source, batch.source_padding
        rows = (
            torch.rand(len(batch), generator=generator, device=batch.source.device)
            < self.config.source_dropout
        )
        ids, padding = self._no_source(batch.source)
        return (
            torch.where(rows[:, None], ids, batch.source),
            torch.where(rows[:, None], padding, batch.source_padding),
        )

    def _no_source(self, source: Tensor) -> tuple[Tensor, Tensor]:
        ids, padding = torch.full_like(source, self.special.pad), torch.ones_like(source, dtype=torch.bool)
        ids[:, 0], padding[:, 0] = self.special.mask, False
        return ids, padding

    def noise_for(self, positions: Tensor, generator: torch.Generator | None) -> Tensor:
        """Standard normal noise [b l d] for positions [b l]."""
        shape = *positions.shape, self.config.embedding_width
        return torch.randn(shape, generator=generator, device=positions.device)

    def _corrupt(self, x0: Tensor, time: Tensor, noised: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """x_t [b l d] and the log-SNR [b l] that the network is told; clean tokens stay bit-equal."""
        log_snr = self.schedule.log_snr(time).to(x0.dtype)
        alpha, sigma = self.schedule.alpha(time).to(x0.dtype), self.schedule.sigma(time).to(x0.dtype)
        return partial_noise(x0, noised, alpha, sigma, noise.to(x0.dtype)), log_snr

    def _first_estimate(
        self, x: Tensor, level: Level, padding: Tensor, encoded: Encoded, generator: torch.Generator | None
    ) -> Tensor | None:
        """Self-conditioning (Chen et al., 2022): a share of the rows sees the network's own estimate."""
        if not self.config.self_condition:
            return None
        number = self.config.self_condition * x.shape[0]
        if not number.is_integer():
            # chance decides about the last one, or a batch of one row would never have any
            number += float(torch.rand((), generator=generator, device=x.device))
        rows = torch.randperm(x.shape[0], generator=generator, device=x.device)[: int(number)]
        estimate = torch.zeros_like(x)
        if not len(rows):
            return estimate
        with torch.no_grad():
            part = encoded.select(rows)
            hidden = self.denoiser.decode(
                x[rows], level.at(rows), padding[rows], part, torch.zeros_like(x[rows])
            )
            probability = self.denoiser.distribution(hidden, part)
            words = probability @ self.denoiser.word_embedding.table()  # in bf16 under autocast
            estimate[rows] = words.view(-1, *x.shape[1:]).to(x.dtype)
        return estimate

    @torch.no_grad()
    def reader(self, request: Request, lengths: Tensor, is_open_ended: bool) -> Read:
        encoded = self.denoiser.encode(request.source, request.source_padding).repeat(request.candidates)
        shape = len(lengths), int(lengths.max()), self.config.embedding_width
        noise = RowNoise(request.seeds, lengths)(torch.empty(shape, device=lengths.device))
        table, pinned = self.denoiser.word_embedding.table(), pinned_words(request)
        return Reader(self, encoded, noise, lengths, table, pinned, is_open_ended)

    def generate(self, request: Request) -> Iterator[Draft]:
        """Drafts after every step of the sampler; see `diffuseq.systems.generation`."""
        self.eval()
        return generate(self, request)

    @torch.no_grad()
    def answer_length(self, source: Tensor, source_padding: Tensor) -> Tensor:
        """The likeliest length of the answer to each source, long [b]."""
        encoded = self.denoiser.encode(source, source_padding)
        lengths, _ = self.length_head.top(encoded.states, source_padding, (~source_padding).sum(1), 1)
        return lengths[:, 0]


def _within(words: Tensor, length: Tensor) -> Tensor:
    """Which places of targets [b l] are their words, so many [b], or the end behind them: [b l]."""
    return torch.arange(words.shape[1], device=words.device) <= length[:, None]


def _is_in_reading_order(rank: Tensor, length: Tensor) -> Tensor:
    """Whether the words of each target settle from left to right and its end after them all [b], by their ranks
    [b l+1] and numbers of words [b]."""
    place = torch.arange(rank.shape[1], device=rank.device)
    return ((rank == place) | (place > length[:, None])).all(1)


def _bert(config: DiffuSeqConfig, special: SpecialTokens) -> tuple[Any, DiffuSeqConfig]:
    """The BERT that reads the source (None: our own encoder does), and the config that builds it anew offline."""
    if config.bert is not None:
        sizes = {"vocab_size": special.vocab_size, "pad_token_id": special.pad, **_bert_sizes(config.bert)}
        package = pretrained.transformers()
        return package.BertModel(package.BertConfig(**sizes), add_pooling_layer=False), config
    if config.pretrained is None:
        return None, config
    bert = pretrained.load("BertModel", config.pretrained, special, add_pooling_layer=False)
    found = {ours: getattr(bert.config, theirs) for ours, theirs in _BERT_NAMES.items()}
    return bert, replace(config, bert=BertSizes(**found))


_BERT_NAMES = {
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "width": "hidden_size",
    "feed_forward": "intermediate_size",
    "positions": "max_position_embeddings",
    "token_types": "type_vocab_size",
}
"""Our names of BERT's sizes, and transformers'."""


def _bert_sizes(sizes: BertSizes) -> dict[str, int]:
    return {theirs: getattr(sizes, ours) for ours, theirs in _BERT_NAMES.items()}
