"""Settings of the baselines' networks and of their decoding: no torch in here (see diffuseq.config)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from diffuseq.config import Generation


@dataclass(frozen=True)
class AutoregressiveGeneration(Generation):
    """How an autoregressive system generates."""

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
    stratified: bool = False
    """sample: the candidates of a source share out the quantiles of every position among them, as ours do by
    fixed-point, instead of drawing independently."""
    max_length: int = 64
    """Longest answer, in tokens."""


@dataclass(frozen=True)
class IterativeGeneration(Generation):
    """How an iterative non-autoregressive system (LevT, CMLM) generates."""

    steps: int = 10
    """Most rounds of refinement (LevT stops by itself when nothing changes)."""
    temperature: float = 0.0
    """Sharpness of the distribution that words are drawn from, which is what makes candidates differ; 0
    takes the likeliest."""
    length: int | None = None
    """CMLM: length of the answer in tokens; None predicts it."""
    length_beam: int = 1
    """CMLM: so many likely lengths are tried. Fewer candidates than lengths: the likeliest answers stay (one
    candidate is the published length beam); more: candidates are spread over the lengths."""


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
    """Layer normalisation after each residual (as published) or before each block (steadier)."""
    label_smoothing: float = 0.1
    max_length: int = 256
    """Longest source or target, in tokens."""


@dataclass(frozen=True)
class GruConfig:
    """GRU encoder–decoder with global attention (Luong et al., 2015)."""

    kind: Literal["gru"] = "gru"
    layers: int = 2
    """Of the encoder and of the decoder."""
    width: int = 512
    """Of the word vectors and of the vector that predicts the next word; they share one matrix."""
    hidden: int = 512
    """State of the decoder, and of each direction of the encoder."""
    dropout: float = 0.2
    label_smoothing: float = 0.0


@dataclass(frozen=True)
class Gpt2Config:
    """GPT-2 (Radford et al., 2019), fine-tuned on source, separator, target."""

    kind: Literal["gpt2"] = "gpt2"
    name: str = "gpt2"
    """Hub name ("gpt2", "gpt2-large") or local folder of the pretrained network; the text needs its
    tokenizer. Not used with random weights."""
    weights: Literal["pretrained", "random", "saved"] = "pretrained"
    """pretrained: weights and sizes come from `name`; random: from scratch, with the sizes below. The
    program itself writes saved: the sizes below, and weights from the model folder."""
    layers: int = 12
    heads: int = 12
    width: int = 768
    max_length: int = 1024
    """Longest source, separator and target together, in tokens."""
    dropout: float = 0.1
    label_smoothing: float = 0.0


@dataclass(frozen=True)
class GpvaeT5Config:
    """GPVAE-T5 (Du et al., 2022): T5 with a latent of a Gaussian-process prior at every source position."""

    kind: Literal["gpvae-t5"] = "gpvae-t5"
    name: str = "t5-base"
    """Hub name ("t5-small", "t5-base") or local folder of the pretrained T5; the text needs its tokenizer.
    Not used with random weights."""
    weights: Literal["pretrained", "random", "saved"] = "pretrained"
    """pretrained: weights and sizes come from `name`; random: from scratch, with the sizes below. The
    program itself writes saved: the sizes below, and weights from the model folder."""
    layers: int = 12
    """Of the encoder and of the decoder."""
    heads: int = 12
    width: int = 768
    head_width: int = 64
    feed_forward: int = 3072
    dropout: float = 0.1
    label_smoothing: float = 0.0
    kernel_of: Literal["states", "positions"] = "states"
    """What the kernel compares: the encoder's states, as published, or the positions in the source."""
    kernel_variance: float = 1.0
    """v of the kernel, for each latent dimension. (The released code has 512 for a sum over dimensions.)"""
    kernel_length: float = 0.001
    """r of the kernel: how far (in the states' or positions' unit) two latents go together."""
    kl_weight: float = 1.0
    """Weight of the KL divergence in the loss; 1 is the evidence lower bound."""
    scalar: float = 2.0
    """Generation: the latent's standard deviation is multiplied by this; 0 takes its mean."""
    sample_from: Literal["posterior", "prior"] = "posterior"
    """Generation: where latents are drawn from. Both see the source alone; posterior is as released."""


@dataclass(frozen=True)
class CMLMConfig:
    """Conditional masked language model (Ghazvininejad et al., 2019), base size by default."""

    kind: Literal["cmlm"] = "cmlm"
    encoder_layers: int = 6
    decoder_layers: int = 6
    heads: int = 8
    width: int = 512
    feed_forward: int = 2048
    dropout: float = 0.3
    norm: Literal["post", "pre"] = "post"
    """Layer normalisation after each residual (as published) or before each block."""
    label_smoothing: float = 0.1
    length_loss: float = 1.0
    """Weight of the length's cross entropy: how many words a length counts as."""
    max_length: int = 256
    """Longest source or target, in tokens."""


@dataclass(frozen=True)
class LevTConfig:
    """Levenshtein Transformer (Gu et al., 2019), base size by default."""

    kind: Literal["levt"] = "levt"
    encoder_layers: int = 6
    decoder_layers: int = 6
    heads: int = 8
    width: int = 512
    feed_forward: int = 2048
    dropout: float = 0.3
    norm: Literal["post", "pre"] = "post"
    """Layer normalisation after each residual (as published) or before each block."""
    label_smoothing: float = 0.1
    """On the words; the other two heads have none."""
    roll_in_noise: float = 0.0
    """Share of the words that deletion is taught on that are drawn at random instead of by the network: 0 as
    published; more where so little data is seen so often that the network hardly errs in training."""
    from_empty: float = 0.0
    """Share of the targets of which insertion is taught to write all (β of the paper, which mixes the text that
    generation starts from into the roll-in); of the others a random number of words is given."""
    max_insertions: int = 255
    """Most placeholders that one slot takes in a round."""
    max_length: int = 256
    """Longest source or target, in tokens."""


@dataclass(frozen=True)
class DiffusionLMConfig:
    """Diffusion-LM (Li et al., 2022): an unconditional language model of the targets, and the classifier of
    noisy texts that steers it towards a source."""

    kind: Literal["diffusion-lm"] = "diffusion-lm"
    layers: int = 12
    heads: int = 12
    width: int = 768
    feed_forward: int = 3072
    embedding_width: int = 128
    time_width: int = 128
    sequence_length: int = 64
    """Positions of a text with its start and end tokens; everything is padded to it."""
    dropout: float = 0.1
    noise_schedule: Literal["sqrt", "linear", "cosine", "trunc_cos", "trunc_lin", "pw_lin"] = "sqrt"
    diffusion_steps: int = 2000
    classifier_layers: int = 6
    classifier_heads: int = 8
    classifier_width: int = 512
    classifier_feed_forward: int = 2048


@dataclass(frozen=True)
class GuidedGeneration(Generation):
    """How Diffusion-LM generates."""

    candidates: int = 10
    batch_size: int = 16
    steps: int = 200
    """Denoising steps; each is one call of the language model and `updates` calls of the classifier."""
    guidance: float = 1.0
    """Weight of the classifier beside the fluency regulariser; 0 generates without the source."""
    updates: int = 3
    """Gradient updates of the state after every step."""
    update_rate: float = 0.1
    """Adagrad's step size of these updates."""
    fluency: float = 0.01
    """λ: weight of log p(x_s | x_t), which holds the state near what the language model said."""
    clamp_from: float | None = None
    """Round every estimate to its nearest word from this share of the steps on (0 = always); None = never."""
    length: int | None = None
    """Length of the answer in tokens; None leaves it to the model."""
