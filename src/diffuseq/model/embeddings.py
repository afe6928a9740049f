"""Words and noise levels as vectors, for our denoiser."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

INITIAL_RADIUS = 0.1
"""Standard deviation of the table before it is normalised. Only directions count, and Adam moves each number
by about the learning rate: the smaller the numbers, the faster the directions turn (docs/log.md)."""


class WordEmbedding(nn.Module):
    """Words as points on the sphere of radius √d, so that noise of variance 1 means the same at every d."""

    def __init__(self, vocab_size: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab_size, width).normal_(std=INITIAL_RADIUS))

    def table(self) -> Tensor:
        """All words [v d], normalised."""
        return F.normalize(self.weight.float(), dim=-1) * math.sqrt(self.weight.shape[1])

    def forward(self, ids: Tensor) -> Tensor:
        return F.normalize(F.embedding(ids, self.weight).float(), dim=-1) * math.sqrt(self.weight.shape[1])


class LevelEmbedding(nn.Module):
    """Features of a log-SNR, which is what the network is told of the noise at a position."""

    def __init__(self, width: int, features: int = 64) -> None:
        super().__init__()
        self.features = features
        self.mlp = nn.Sequential(nn.Linear(features, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, log_snr: Tensor) -> Tensor:
        half = self.features // 2
        frequency = torch.exp(torch.linspace(math.log(0.05), math.log(4.0), half, device=log_snr.device))
        angle = log_snr.float()[..., None] * frequency
        return self.mlp(torch.cat((angle.cos(), angle.sin()), dim=-1))
