"""What the non-autoregressive baselines share: the Transformer with a decoder that sees every position.

Network and initialisation are the Transformer baseline's, so that the comparison is one of methods.

Legend: b sources, k rows a source, n = b·k rows, s source length, l target length, d width, v vocabulary.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from diffuseq.baselines.configs import CMLMConfig, IterativeGeneration, LevTConfig, TransformerConfig
from diffuseq.baselines.transformer import Transformer
from diffuseq.errors import InputError
from diffuseq.sampling.words import draw_words, uniform
from diffuseq.system import Draft, Request, SpecialTokens, System


@dataclass(frozen=True)
class Encoded:
    """A read source: states [b s+1 d] (with the end token), where it has tokens bool [b 1 1 s+1], and each
    decoder layer's keys and values of it."""

    states: Tensor
    visible: Tensor
    memory: list[tuple[Tensor, Tensor]]

    def select(self, sources: Tensor) -> Encoded:
        """The sources of these indices only."""
        memory = [(key[sources], value[sources]) for key, value in self.memory]
        return Encoded(self.states[sources], self.visible[sources], memory)


class Words(NamedTuple):
    """A choice of words [n l] and the probability that the network gave each of them [n l]."""

    tokens: Tensor
    probability: Tensor


class NonAutoregressive(System):
    """Base of CMLM and LevT; a subclass adds its heads, its loss and its rounds of refinement."""

    def __init__(self, config: CMLMConfig | LevTConfig, special: SpecialTokens) -> None:
        super().__init__()
        self.config, self.special = config, special
        self.network = Transformer(
            TransformerConfig(
                encoder_layers=config.encoder_layers,
                decoder_layers=config.decoder_layers,
                heads=config.heads,
                width=config.width,
                feed_forward=config.feed_forward,
                dropout=config.dropout,
                norm=config.norm,
                max_length=config.max_length + 1,  # with the two boundaries there is one more position
            ),
            special,
        )

    def check_lengths(self, source: int, target: int) -> None:
        self._check_length("source", source)
        self._check_length("target", target)

    def _check_length(self, what: str, length: int) -> None:
        if length > self.config.max_length:
            raise InputError(
                f"The {what} has up to {length} tokens, but this system takes {self.config.max_length}; "
                "shorten it or build the system with a larger max_length."
            )

    def encode(self, source: Tensor, source_padding: Tensor) -> Encoded:
        """Read the sources [b s] once, for all rounds and candidates."""
        states, visible = self.network.encode(source, source_padding)
        return Encoded(states, visible, [layer.memory(states) for layer in self.network.decoder_layers])

    def read(self, tokens: Tensor, padding: Tensor, encoded: Encoded) -> Tensor:
        """Hidden states [n l d] of the texts [n l], every position seen by every other one."""
        visible = ~padding[:, None, None, :]
        x = self.network.embed(tokens)
        for layer, memory in zip(self.network.decoder_layers, encoded.memory, strict=True):
            x = layer(
                x, lambda y, a=layer.attention: a(y, visible), layer.looking_at(memory, encoded.visible)
            )
        return self.network.decoder_norm(x)

    def choose(self, hidden: Tensor, noise: Tensor, temperature: float) -> Words:
        """A word for every state [n l d]: the likeliest at temperature 0, else by `noise`, normal [n l]."""
        tokens, log_p = draw_words(self.word_logits(hidden), uniform(noise), temperature)
        return Words(tokens, log_p.exp())

    def word_logits(self, hidden: Tensor) -> Tensor:
        """Scores [… v] of the words that may be written after states [… d]: special tokens never are."""
        special = self.special
        logits = self.network.project(hidden).float()
        logits[..., [special.pad, special.start, special.end, special.mask]] = -torch.inf
        return logits

    def word_losses(self, hidden: Tensor, words: Tensor) -> Tensor:
        """Label-smoothed cross entropy, in nats, of each of the words [m] after states [m d]."""
        logits = self.network.project(hidden).float()
        smoothing = self.config.label_smoothing
        return F.cross_entropy(logits, words, label_smoothing=smoothing, reduction="none")

    @torch.no_grad()
    def generate(self, request: Request) -> Iterator[Draft]:
        """Yield a draft a round of refinement; `forwards` counts the decoder's calls.

        Raises `InputError` for settings that the system cannot serve.
        """
        settings: IterativeGeneration = request.settings
        if settings.steps < 1:
            raise InputError(f"steps is {settings.steps}; generation needs at least 1 round.")
        if settings.temperature < 0:
            raise InputError(f"temperature is {settings.temperature}; give 0 (take the likeliest) or more.")
        self._check_length("source", request.source.shape[1])
        training = self.training
        self.eval()
        try:
            yield from self.refine(request, settings)
        finally:
            self.train(training)

    @abstractmethod
    def refine(self, request: Request, settings: IterativeGeneration) -> Iterator[Draft]:
        """The rounds of refinement behind `generate`, which has checked the settings and set eval mode."""
