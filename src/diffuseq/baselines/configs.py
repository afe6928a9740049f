"""Settings of the baselines' networks and of their decoding: no torch in here (see diffuseq.config)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class AutoregressiveGeneration:
    """How an autoregressive system generates."""

    candidates: int = 1
    """Answers for every source; minimum Bayes risk chooses one."""
    strategy: Literal["greedy", "beam", "diverse-beam", "sample"] = "greedy"
    """greedy and beam are deterministic; sample draws each candidate by its own seed."""
    beams: int = 5
    """Width of the beam."""
    beam_groups: int = 5
    """diverse-beam: groups the beam is split into."""
    diversity: float = 0.5
    """diverse-beam: penalty for a word another group has chosen at this position."""
    length_penalty: float = 1.0
    """A beam's score is its log-probability over length to this power."""
    temperature: float = 1.0
    """sample: sharpness of the distribution."""
    top_k: int = 0
    """sample: keep the k likeliest words; 0 keeps all."""
    top_p: float = 1.0
    """sample: keep the smallest set of words with this probability."""
    max_length: int = 64
    """Longest answer, in tokens."""
    seed: int = 0
    """One seed gives one answer, whatever the batch size or the order of the input."""
    batch_size: int = 64
    """Sources at a time."""


@dataclass(frozen=True)
class IterativeGeneration:
    """How an iterative non-autoregressive system (LevT, CMLM) generates."""

    candidates: int = 1
    """Answers for every source; minimum Bayes risk chooses one."""
    steps: int = 10
    """Most rounds of refinement (LevT stops by itself when nothing changes)."""
    temperature: float = 0.0
    """Gumbel noise on the choice of words, which is what makes candidates differ; 0 takes the best."""
    length: int | None = None
    """CMLM: length of the answer in tokens; None predicts it."""
    length_beam: int = 1
    """CMLM: candidates are spread over so many likely lengths."""
    seed: int = 0
    """One seed gives one answer, whatever the batch size or the order of the input."""
    batch_size: int = 64
    """Sources at a time."""


@dataclass(frozen=True)
class TransformerConfig:
    """Encoder–decoder Transformer (Vaswani et al., 2017), base size by default."""

    kind: Literal["transformer"] = "transformer"
    encoder_layers: int = 6
    decoder_layers: int = 6
    heads: int = 8
    width: int = 512
    feed_forward: int = 2048
    dropout: float = 0.1
    """On embeddings and on what every block adds; attention weights are not dropped (fairseq's base)."""
    norm: Literal["post", "pre"] = "post"
    """Layer normalisation after each residual (as published) or before each block (steadier without warm-up)."""
    label_smoothing: float = 0.1
    max_length: int = 256
    """Longest source or target, in tokens."""
