"""GRU encoder–decoder with attention (Cho et al., 2014; Luong et al., 2015), the paper's oldest baseline.

The attention comes after the decoder's recurrence and is not fed back into it, so that a whole target goes
through the fused `nn.GRU` at once in training.

Legend: b sources, c rows a source, n = b·c rows, s source length, t target length, e hidden width,
d width of word vectors, v vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from diffuseq.baselines.autoregressive import Autoregressive, closed
from diffuseq.baselines.configs import GruConfig
from diffuseq.dropout import Dropout
from diffuseq.system import Request, SpecialTokens


@dataclass(frozen=True)
class GruState:
    """memory: the encoded source [b s e], shared by its rows; visible: bool [b 1 s], where it has a token;
    hidden: the decoder's state [layers n e].
    """

    memory: Tensor
    visible: Tensor
    hidden: Tensor

    @property
    def device(self) -> torch.device:
        return self.memory.device

    def select(self, rows: Tensor) -> GruState:
        return replace(self, hidden=self.hidden[:, rows])


class Gru(Autoregressive):
    """Bidirectional encoder, decoder, and Luong's global attention with the "general" score h_tᵀ W h_s."""

    config: GruConfig

    def __init__(self, config: GruConfig, special: SpecialTokens) -> None:
        super().__init__(config, special)
        self.label_smoothing = config.label_smoothing
        between = config.dropout if config.layers > 1 else 0.0
        size = {"num_layers": config.layers, "batch_first": True, "dropout": between}
        self.embedding = nn.Embedding(special.vocab_size, config.width)
        self.encoder = nn.GRU(config.width, config.hidden, bidirectional=True, **size)
        self.decoder = nn.GRU(config.width, config.hidden, **size)
        self.join = nn.Linear(2 * config.hidden, config.hidden)
        self.bridge = nn.Linear(2 * config.hidden, config.hidden)
        self.score = nn.Linear(config.hidden, config.hidden, bias=False)
        self.attend = nn.Linear(2 * config.hidden, config.width, bias=False)
        self.bias = nn.Parameter(torch.zeros(special.vocab_size))
        self.dropout = Dropout(config.dropout)
        nn.init.normal_(self.embedding.weight, std=config.width**-0.5)

    def embed(self, tokens: Tensor) -> Tensor:
        """Tokens [b t] to vectors [b t d] of about unit variance."""
        return self.dropout(self.embedding(tokens) * self.config.width**0.5)

    def encode(self, source: Tensor, source_padding: Tensor) -> GruState:
        """The source with its end token, read in both directions; its last states open the decoder."""
        tokens, padding = closed(source, source_padding, self.special)
        lengths = (~padding).sum(1).cpu()
        packed = pack_padded_sequence(self.embed(tokens), lengths, batch_first=True, enforce_sorted=False)
        output, last = self.encoder(packed)
        states, _ = pad_packed_sequence(output, batch_first=True, total_length=tokens.shape[1])
        both = last.unflatten(0, (self.config.layers, 2)).transpose(1, 2).flatten(2)  # [layers b 2e]
        return GruState(self.dropout(self.join(states)), ~padding[:, None, :], self.bridge(both).tanh())

    def attended(self, hidden: Tensor, state: GruState) -> Tensor:
        """The attentional vectors [n t d] of the decoder's `hidden` [n t e] (Luong et al., Eq. 5)."""
        # The rows of a source stand side by side, so that they share its memory without copies.
        query = self.score(hidden).reshape(len(state.memory), -1, hidden.shape[-1])  # [b c·t e]
        context = F.scaled_dot_product_attention(
            query, state.memory, state.memory, attn_mask=state.visible, scale=self.config.hidden**-0.5
        )
        return self.dropout(self.attend(torch.cat([context.view_as(hidden), hidden], dim=-1)).tanh())

    def decode(self, source: Tensor, source_padding: Tensor, inputs: Tensor, input_padding: Tensor) -> Tensor:
        state = self.encode(source, source_padding)
        hidden, _ = self.decoder(self.embed(inputs), state.hidden)
        return self.attended(self.dropout(hidden), state)

    def project(self, hidden: Tensor) -> Tensor:
        # the states take the factor, for there are fewer of them than words
        return F.linear(hidden * self.config.width**0.5, self.embedding.weight, self.bias)

    def begin(self, request: Request, copies: int, room: int) -> GruState:
        state = self.encode(request.source, request.source_padding)
        return replace(state, hidden=state.hidden.repeat_interleave(copies, dim=1))

    def step(self, tokens: Tensor, state: GruState) -> tuple[Tensor, GruState]:
        output, hidden = self.decoder(self.embed(tokens[:, None]), state.hidden.contiguous())
        return self.project(self.attended(output, state)[:, 0]), replace(state, hidden=hidden)
