"""Encoder–decoder Transformer (Vaswani et al., 2017), the paper's strongest baseline trained from scratch.

Legend: b sources, c rows a source, n = b·c rows, h heads, s source length, t target length, d width,
e = d/h width of a head, v vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffuseq.attention import attend
from diffuseq.baselines.autoregressive import Autoregressive, closed
from diffuseq.baselines.configs import TransformerConfig
from diffuseq.baselines.reading import TransformerReader
from diffuseq.dropout import Dropout
from diffuseq.errors import InputError
from diffuseq.sampling.fixed_point import Read
from diffuseq.system import Request, SpecialTokens


@dataclass(frozen=True)
class TransformerState:
    """What decoding remembers.

    memory: keys and values of the source for each layer, [b h s e] — once a source, its rows share them;
    visible: bool [b 1 1 s], where the source has a token; cache: keys and values of the tokens so far for
    each layer, [n h room e], filled up to `length`. The cache is written in place: only the newest state of
    a search may be used.
    """

    memory: list[tuple[Tensor, Tensor]]
    visible: Tensor
    cache: list[tuple[Tensor, Tensor]]
    length: int

    @property
    def device(self) -> torch.device:
        return self.visible.device

    def select(self, rows: Tensor) -> TransformerState:
        filled = slice(0, self.length)
        for pair in self.cache:
            for values in pair:
                values[:, :, filled] = values[rows, :, filled]
        return self


class SelfAttention(nn.Module):
    """Multi-head attention of a sequence to itself."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.read = nn.Linear(config.width, 3 * config.width)
        self.write = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor, visible: Tensor | None = None, causal: bool = False) -> Tensor:
        """x [b t d]; visible: bool, broadcast to [b h t t]."""
        query, key, value = self.heads_of(x)
        return self.join(attend(query, key, value, visible, is_causal=causal))

    def step(self, x: Tensor, cache: tuple[Tensor, Tensor], position: int) -> Tensor:
        """The newest token alone, x [n 1 d]; its key and value are written into the cache."""
        query, key, value = self.heads_of(x)
        keys, values = cache
        keys[:, :, position : position + 1] = key
        values[:, :, position : position + 1] = value
        seen = slice(0, position + 1)
        return self.join(attend(query, keys[:, :, seen], values[:, :, seen]))

    def heads_of(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.read(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)

    def join(self, x: Tensor) -> Tensor:
        return self.write(x.transpose(1, 2).flatten(2))


class CrossAttention(nn.Module):
    """Multi-head attention of the target to the encoded source."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.ask = nn.Linear(config.width, config.width)
        self.read = nn.Linear(config.width, 2 * config.width)
        self.write = nn.Linear(config.width, config.width)

    def memory(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [b h s e] of the encoded source [b s d]."""
        key, value = self.read(encoded).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return key, value

    def forward(self, x: Tensor, memory: tuple[Tensor, Tensor], visible: Tensor) -> Tensor:
        """x [n t d]: a source's rows stand side by side and share its memory; visible: bool [b 1 1 s]."""
        shared = x.reshape(len(visible), -1, x.shape[-1])  # [b c·t d]
        query = self.ask(shared).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        attended = attend(query, *memory, visible)
        return self.write(attended.transpose(1, 2).flatten(2)).view_as(x)


class Layer(nn.Module):
    """One layer of the encoder, or of the decoder with attention to the source."""

    def __init__(self, config: TransformerConfig, decoder: bool) -> None:
        super().__init__()
        self.pre_norm = config.norm == "pre"
        self.attention = SelfAttention(config)
        self.cross = CrossAttention(config) if decoder else None
        self.feed_forward = nn.Sequential(
            nn.Linear(config.width, config.feed_forward),
            nn.ReLU(),
            nn.Linear(config.feed_forward, config.width),
        )
        self.norms = nn.ModuleList(nn.LayerNorm(config.width) for _ in range(3 if decoder else 2))
        self.dropout = Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        attend: Callable[[Tensor], Tensor],
        look: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """x [… d] through self-attention (`attend`), attention to the source (`look`), and feed-forward."""
        x = self._residual(x, 0, attend)
        if look is not None:
            x = self._residual(x, 1, look)
        return self._residual(x, -1, self.feed_forward)

    def memory(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        """What a decoder's layer keeps of the encoded source [b s d]."""
        assert self.cross is not None
        return self.cross.memory(encoded)

    def looking_at(self, memory: tuple[Tensor, Tensor], visible: Tensor) -> Callable[[Tensor], Tensor]:
        """A decoder layer's attention to what it keeps of the source."""
        assert self.cross is not None
        cross = self.cross
        return lambda x: cross(x, memory, visible)

    def _residual(self, x: Tensor, which: int, block: Callable[[Tensor], Tensor]) -> Tensor:
        norm = self.norms[which]
        if self.pre_norm:
            return x + self.dropout(block(norm(x)))
        return norm(x + self.dropout(block(x)))


class Transformer(Autoregressive):
    """Source and target share one embedding matrix, which is the output matrix as well.

    Raises `InputError` where `width` is not a multiple of `heads`, or is odd.
    """

    config: TransformerConfig

    def __init__(self, config: TransformerConfig, special: SpecialTokens) -> None:
        if config.width % config.heads or config.width % 2:
            raise InputError(
                f"A width of {config.width} cannot be split into {config.heads} heads; "
                "choose an even width that is a multiple of heads."
            )
        super().__init__(config, special)
        self.label_smoothing = config.label_smoothing
        self.longest_source = self.longest_target = config.max_length
        self.embedding = nn.Embedding(special.vocab_size, config.width)
        self.encoder = nn.ModuleList(Layer(config, decoder=False) for _ in range(config.encoder_layers))
        self.decoder = nn.ModuleList(Layer(config, decoder=True) for _ in range(config.decoder_layers))
        last = nn.LayerNorm if config.norm == "pre" else nn.Identity
        self.encoder_norm, self.decoder_norm = last(config.width), last(config.width)
        self.dropout = Dropout(config.dropout)
        # One more position than the longest text: the source's end token, the target's start token.
        self.register_buffer("positions", sinusoids(config.max_length + 1, config.width), persistent=False)
        self.positions: Tensor
        self._initialise()

    @property
    def graphable(self) -> bool:
        return True

    @property
    def decoder_layers(self) -> list[Layer]:
        return cast(list[Layer], list(self.decoder))

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
            if isinstance(module, SelfAttention | CrossAttention):
                # Each of the stacked query, key and value matrices is a square one by itself.
                bound = math.sqrt(6 / (2 * self.config.width)) / math.sqrt(2)
                nn.init.uniform_(module.read.weight, -bound, bound)
        nn.init.normal_(self.embedding.weight, std=self.config.width**-0.5)

    def embed(self, tokens: Tensor, first: int = 0) -> Tensor:
        """Tokens [b t] at positions `first`, `first` + 1, … to vectors [b t d]."""
        return self.embed_at(tokens, slice(first, first + tokens.shape[1]))

    def embed_at(self, tokens: Tensor, places: Tensor | slice) -> Tensor:
        """Tokens […] at places to vectors [… d]."""
        words = self.embedding(tokens) * math.sqrt(self.config.width)
        return self.dropout(words + self.positions[places])

    def encode(self, source: Tensor, source_padding: Tensor) -> tuple[Tensor, Tensor]:
        """The encoded source [b s+1 d] with its end token, and where it has a token: bool [b 1 1 s+1]."""
        tokens, padding = closed(source, source_padding, self.special)
        visible = ~padding[:, None, None, :]
        x = self.embed(tokens)
        for layer in cast(list[Layer], self.encoder):
            x = layer(x, lambda y, a=layer.attention: a(y, visible))
        return self.encoder_norm(x), visible

    def decode(self, source: Tensor, source_padding: Tensor, inputs: Tensor, input_padding: Tensor) -> Tensor:
        # Padding stands on the right, where the causal mask already hides it from every token.
        return self.decode_after(self.remember(source, source_padding), inputs)

    def remember(self, source: Tensor, source_padding: Tensor) -> tuple[Tensor, ...]:
        """Where the sources have a token, and keys and values of every layer."""
        encoded, visible = self.encode(source, source_padding)
        return visible, *(part for layer in self.decoder_layers for part in layer.memory(encoded))

    def decode_after(self, memory: tuple[Tensor, ...], inputs: Tensor) -> Tensor:
        visible, x = memory[0], self.embed(inputs)
        pairs = zip(memory[1::2], memory[2::2], strict=True)
        for layer, pair in zip(self.decoder_layers, pairs, strict=True):
            x = layer(x, lambda y, a=layer.attention: a(y, causal=True), layer.looking_at(pair, visible))
        return self.decoder_norm(x)

    @torch.no_grad()
    def reader(self, request: Request, lengths: Tensor, is_open_ended: bool) -> Read:
        return TransformerReader(self, request, int(lengths.max()), is_open_ended)

    def project(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.embedding.weight)

    def begin(self, request: Request, copies: int, room: int) -> TransformerState:
        encoded, visible = self.encode(request.source, request.source_padding)
        memory = [layer.memory(encoded) for layer in self.decoder_layers]
        size = (len(encoded) * copies, self.config.heads, room, self.config.width // self.config.heads)
        cache = [(key.new_empty(size), value.new_empty(size)) for key, value in memory]
        return TransformerState(memory, visible, cache, 0)

    def step(self, tokens: Tensor, state: TransformerState) -> tuple[Tensor, TransformerState]:
        position = state.length
        x = self.embed(tokens[:, None], position)
        for layer, memory, cache in zip(self.decoder_layers, state.memory, state.cache, strict=True):
            x = layer(
                x,
                lambda y, a=layer.attention, c=cache: a.step(y, c, position),
                layer.looking_at(memory, state.visible),
            )
        return self.project(self.decoder_norm(x)[:, 0]), replace(state, length=position + 1)


def sinusoids(length: int, width: int) -> Tensor:
    """The position table [length width] of Vaswani et al. (2017), Section 3.5, as tensor2tensor and fairseq compute
    it: sines first, then cosines, and frequencies that end at 1/10,000 exactly, as 10000^(−i/(d/2 − 1))."""
    with torch.device("cpu"):  # arithmetic on the meta device imports torch's compiler: two seconds
        rate = torch.exp(torch.arange(width // 2) * (-math.log(10_000) / max(1, width // 2 - 1)))
        angle = torch.arange(length)[:, None] * rate
        table = torch.cat([angle.sin(), angle.cos()], dim=1)
    return table.to(torch.get_default_device())
