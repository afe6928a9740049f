"""The published network: a BERT encoder over source and target that gives back the clean embeddings.

The state dict has the names of the published checkpoints (`word_embedding`, `lm_head`, `time_embed.{0,2}`,
`input_up_proj.{0,2}`, `input_transformers.layer.N…`, `position_embeddings`, `LayerNorm`,
`output_down_proj.{0,2}` and, for v2, `mean_embed`), so that importing one is a plain `load_state_dict`.

Legend: b rows, l positions, d embedding width, w network width, v vocabulary, h heads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LAYER_NORM_EPS = 1e-12
"""BERT's, not torch's default."""


@dataclass(frozen=True)
class BertShape:
    """Sizes of the published network; the defaults are BERT-base's."""

    vocab_size: int
    layers: int = 12
    heads: int = 12
    width: int = 768
    feed_forward: int = 3072
    embedding_width: int = 128
    time_width: int = 128
    max_positions: int = 512
    dropout: float = 0.1
    absorbing: bool = False
    """v2: with the learned soft absorbing state `mean_embed` [d]."""


def sinusoidal_time(time: Tensor, width: int, longest_period: float = 10_000.0) -> Tensor:
    """Times [b] as cosines, then sines, of falling frequencies [b width] (Vaswani et al., 2017)."""
    half = width // 2
    frequencies = torch.exp(
        torch.arange(half, dtype=torch.float32, device=time.device) * (-math.log(longest_period) / half)
    )
    angles = time.float()[:, None] * frequencies[None]
    waves = torch.cat([angles.cos(), angles.sin()], dim=-1)
    return F.pad(waves, (0, width % 2))


class BertDenoiser(nn.Module):
    """f_θ(z_t, t): noisy embeddings to clean ones. No attention mask: padding is a word like others."""

    position_ids: Tensor

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.shape = shape
        narrow, wide = shape.embedding_width, shape.width
        self.word_embedding = nn.Embedding(shape.vocab_size, narrow)
        self.lm_head = nn.Linear(narrow, shape.vocab_size)
        self.lm_head.weight = self.word_embedding.weight
        self.time_embed = nn.Sequential(
            nn.Linear(shape.time_width, 4 * shape.time_width),
            nn.SiLU(),
            nn.Linear(4 * shape.time_width, wide),
        )
        self.input_up_proj = nn.Sequential(nn.Linear(narrow, wide), nn.Tanh(), nn.Linear(wide, wide))
        self.input_transformers = BertEncoder(shape)
        self.position_embeddings = nn.Embedding(shape.max_positions, wide)
        self.LayerNorm = nn.LayerNorm(wide, eps=LAYER_NORM_EPS)
        self.dropout = nn.Dropout(shape.dropout)
        self.output_down_proj = nn.Sequential(nn.Linear(wide, wide), nn.Tanh(), nn.Linear(wide, narrow))
        # Not used here, but a published state dict has it.
        self.register_buffer("position_ids", torch.arange(shape.max_positions)[None])
        self.mean_embed = nn.Parameter(torch.randn(narrow) / math.sqrt(narrow)) if shape.absorbing else None

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Noisy embeddings x [b l d] at times [b] (t·1000/T for the published models) → x_0 [b l d]."""
        time_vector = self.time_embed(sinusoidal_time(time, self.shape.time_width))
        hidden = self.position_embeddings.weight[: x.shape[1]] + self.input_up_proj(x) + time_vector[:, None]
        hidden = self.dropout(self.LayerNorm(hidden))
        estimate: Tensor = self.output_down_proj(self.input_transformers(hidden))
        return estimate

    def embed(self, ids: Tensor) -> Tensor:
        """Ids [b l] → embeddings [b l d]."""
        embeddings: Tensor = self.word_embedding(ids)
        return embeddings

    def logits(self, x: Tensor) -> Tensor:
        """Embeddings [b l d] → scores of the words [b l v], by the tied head with bias."""
        scores: Tensor = self.lm_head(x)
        return scores


class BertEncoder(nn.Module):
    """The stack of layers."""

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.layer = nn.ModuleList(BertLayer(shape) for _ in range(shape.layers))

    def forward(self, hidden: Tensor) -> Tensor:
        """[b l w] → [b l w]."""
        for layer in self.layer:
            hidden = layer(hidden)
        return hidden


class BertLayer(nn.Module):
    """One post-LN block (Devlin et al., 2019): attention, then a GELU feed-forward."""

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.attention = BertAttention(shape)
        self.intermediate = Dense(shape.width, shape.feed_forward)
        self.output = AddAndNorm(shape.feed_forward, shape.width, shape.dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        """[b l w] → [b l w]."""
        hidden = self.attention(hidden)
        result: Tensor = self.output(F.gelu(self.intermediate(hidden)), hidden)
        return result


class BertAttention(nn.Module):
    """Self-attention with its output projection; the submodules' names are BERT's."""

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.self = SelfAttention(shape)
        self.output = AddAndNorm(shape.width, shape.width, shape.dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        """[b l w] → [b l w]."""
        result: Tensor = self.output(self.self(hidden), hidden)
        return result


class SelfAttention(nn.Module):
    """Multi-head attention of every position to every position."""

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.heads, self.dropout = shape.heads, shape.dropout
        self.query = nn.Linear(shape.width, shape.width)
        self.key = nn.Linear(shape.width, shape.width)
        self.value = nn.Linear(shape.width, shape.width)

    def forward(self, hidden: Tensor) -> Tensor:
        """[b l w] → [b l w]."""
        queries, keys, values = (
            project(hidden).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(queries, keys, values, dropout_p=dropout)
        return mixed.transpose(1, 2).flatten(2)


class Dense(nn.Module):
    """A linear layer under BERT's name for it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, outputs)

    def forward(self, hidden: Tensor) -> Tensor:
        """[b l inputs] → [b l outputs]."""
        result: Tensor = self.dense(hidden)
        return result


class AddAndNorm(nn.Module):
    """Linear and dropout, added to the residual and normalised."""

    def __init__(self, inputs: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, outputs)
        self.LayerNorm = nn.LayerNorm(outputs, eps=LAYER_NORM_EPS)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, residual: Tensor) -> Tensor:
        """[b l inputs] and the residual [b l outputs] → [b l outputs]."""
        result: Tensor = self.LayerNorm(self.dropout(self.dense(hidden)) + residual)
        return result
