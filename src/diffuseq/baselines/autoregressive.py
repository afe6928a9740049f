"""What every autoregressive baseline shares: teacher forcing, its loss, and generation through `search`.

A subclass is a network: `decode` for training, `project` for the words, `begin` and `step` for generation.

Legend: b sources, c rows a source, n = b·c rows, s source length, t target length, d width, v vocabulary.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diffuseq.baselines import search
from diffuseq.baselines.configs import AutoregressiveGeneration
from diffuseq.baselines.reading import PrefixReader
from diffuseq.data.batch import Batch
from diffuseq.errors import InputError
from diffuseq.sampling.fixed_point import Read
from diffuseq.system import Draft, Loss, Request, SpecialTokens, System


class Autoregressive(System):
    """A system that writes an answer from left to right: p(y | x) = Π p(y_i | y_<i, x)."""

    label_smoothing: float = 0.0
    longest_source: int | None = None
    """Longest source that the network takes, in tokens; None is no limit."""
    longest_target: int | None = None
    """Longest answer that the network can write, in tokens; None is no limit."""

    def __init__(self, config: Any, special: SpecialTokens) -> None:
        super().__init__()
        self.config = config
        self.special = special

    @property
    def reads_in_order(self) -> bool:
        return not self.draws_latents

    @property
    def start(self) -> int:
        """The token that opens every answer."""
        return self.special.start

    @property
    def draws_latents(self) -> bool:
        """Whether every candidate has noise before its first token, and so is a source by itself."""
        return False

    @abstractmethod
    def decode(self, source: Tensor, source_padding: Tensor, inputs: Tensor, input_padding: Tensor) -> Tensor:
        """Teacher forcing: hidden states [b t d] after each of `inputs` [b t], which open with the start."""

    def remember(self, source: Tensor, source_padding: Tensor) -> tuple[Tensor, ...]:
        """What `decode_after` needs of the sources, each part row by row [b …]: here the sources themselves, for
        networks that have nothing better."""
        return source, source_padding

    def decode_after(self, memory: tuple[Tensor, ...], inputs: Tensor) -> Tensor:
        """`decode` of rows [b t] without padding, by what `remember` gave of their sources."""
        return self.decode(memory[0], memory[1], inputs, torch.zeros_like(inputs, dtype=torch.bool))

    @abstractmethod
    def project(self, hidden: Tensor) -> Tensor:
        """Hidden states [… d] to logits [… v]."""

    @abstractmethod
    def begin(self, request: Request, copies: int, room: int) -> search.State:
        """Read the sources once, for `copies` rows each (side by side) of up to `room` tokens.

        A system that draws latents takes each of the n candidates as a source, with its seed.
        """

    @abstractmethod
    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Read one token a row (long [n]); logits [n v] of the next one, and the state after it."""

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> Loss:
        """Cross entropy of the target and its end token, a mean over tokens.

        `generator` is not used: dropout, the only noise, draws from torch's global stream.
        """
        return self.target_loss(self._teacher_forced(batch), batch)

    def next_words(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        return self.project(self._teacher_forced(batch)).float().softmax(-1)

    @torch.no_grad()
    def reader(self, request: Request, lengths: Tensor, is_open_ended: bool) -> Read:
        return PrefixReader(self, request, int(lengths.max()), is_open_ended)

    def _teacher_forced(self, batch: Batch) -> Tensor:
        """Hidden states [b t+1 d] before every word of the targets and before their end."""
        self.check_batch(batch)
        inputs, padding = opened(batch.target, batch.target_padding, self.start)
        return self.decode(batch.source, batch.source_padding, inputs, padding)

    def target_loss(self, hidden: Tensor, batch: Batch) -> Loss:
        """Cross entropy of the words after `hidden` [b t+1 d], label-smoothed (Szegedy et al., 2016), or with the
        labels of the batch.

        On a CPU only real tokens reach the output matrix, which is the dearest part of a small network.
        """
        words, padding = closed(batch.target, batch.target_padding, self.special)
        real, labels = ~padding, batch.labels
        count = real.sum()
        if leaves_padding_out(hidden.device):
            labels = None if labels is None else labels[real]
            hidden, words, real = hidden[real], words[real], real[real]
        logits = self.project(hidden).float()
        log_total = logits.logsumexp(-1)

        def mean(nats: Tensor) -> Tensor:
            return nats.masked_fill(~real, 0.0).sum() / count

        nll = mean(log_total - logits.gather(-1, words[..., None])[..., 0])
        loss = nll
        if labels is not None:
            loss = mean(log_total - (labels * logits).sum(-1))
        elif self.label_smoothing:
            uniform = mean(log_total - logits.mean(-1))
            loss = (1 - self.label_smoothing) * nll + self.label_smoothing * uniform
        return Loss(loss, {"nll": nll.detach()}, weight=count)

    @torch.no_grad()  # as a decorator it holds while the generator works, not while its caller does
    def generate(self, request: Request) -> Iterator[Draft]:
        """Yield a draft a token; `forwards` counts the decoder's steps. See `diffuseq.baselines.search`.

        Raises `InputError` for settings that do not go together or texts that are too long.
        """
        self.check_request(request)
        training = self.training
        self.eval()
        try:
            yield from self._search(request)
        finally:
            self.train(training)

    def check_request(self, request: Request) -> None:
        """Raise `InputError` where the network or the search cannot do what is asked."""
        search.check(request.settings, 1 if self.draws_latents else request.candidates)
        self.check_lengths(request.source.shape[1], _room(request))

    def check_lengths(self, source: int, target: int) -> None:
        for what, length, limit in (
            ("source", source, self.longest_source),
            ("target", target, self.longest_target),
        ):
            if limit is not None and length > limit:
                raise InputError(
                    f"The {what} has up to {length} tokens, but this system takes {limit}; "
                    "shorten it or build the system with a larger max_length."
                )

    def check_batch(self, batch: Batch) -> None:
        """As `check_lengths`, for every pair of a batch."""
        self.check_lengths(batch.source.shape[1], batch.target.shape[1])

    def longest_answer(self, source: int) -> int | None:
        return self.longest_target

    def _search(self, request: Request) -> Iterator[Draft]:
        settings: AutoregressiveGeneration = request.settings
        sources, width, template = len(request.source), request.candidates, request.template
        if self.draws_latents:
            template = None if template is None else template.repeat_interleave(width, dim=0)
            sources, width = sources * width, 1
        rules = self.rules(_room(request), template)
        state = self.begin(request, search.rows(settings, width), rules.max_length)
        return search.search(self.step, state, sources, width, rules, settings, request.seeds)

    def rules(self, max_length: int, template: Tensor | None = None) -> search.Rules:
        """What an answer may be. The start, padding and mask tokens are never written."""
        special = self.special
        banned = {special.start, special.pad, special.mask} - {special.end}
        return search.Rules(self.start, special.end, special.pad, tuple(sorted(banned)), max_length, template)


def _room(request: Request) -> int:
    return request.settings.max_length if request.template is None else request.template.shape[1]


def leaves_padding_out(device: torch.device) -> bool:
    """Whether the output matrix sees real tokens only: on a CPU; a GPU would have to wait for their number."""
    return device.type == "cpu"


def opened(tokens: Tensor, padding: Tensor, start: int) -> tuple[Tensor, Tensor]:
    """Rows [b t] with the start token in front: ids and padding [b t+1]."""
    return F.pad(tokens, (1, 0), value=start), F.pad(padding, (1, 0), value=False)


def closed(tokens: Tensor, padding: Tensor, special: SpecialTokens) -> tuple[Tensor, Tensor]:
    """Rows [b t] with the end token right after the last token: ids and padding [b t+1]."""
    lengths = (~padding).sum(1, keepdim=True)
    ids = F.pad(tokens.masked_fill(padding, special.pad), (0, 1), value=special.pad)
    ids = ids.scatter(1, lengths, special.end)
    return ids, torch.arange(ids.shape[1], device=ids.device) > lengths
