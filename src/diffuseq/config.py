"""Every setting of a run, as frozen dataclasses: no torch in here, so that `--help` is instant.

A `Config` is the whole of a run: the system (its network, its diffusion), the text, the training and the
generation. Recipes (`diffuseq.recipes`) are Python functions that return a full `Config`; `diffuseq.checks` says
which settings make sense, and `diffuseq.plain` turns them into JSON values and back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Runtime = Literal["torch", "onnx"]
"""What computes the network: PyTorch, or ONNX Runtime on the CPU (see `diffuseq.onnx_runtime`)."""

Precision = Literal["auto", "fp32", "bf16"]
"""What a network computes in: auto is bf16 where the machine has it in hardware and is faster with it."""

Sampler = Literal["ddim", "ancestral", "dpm-solver", "settle", "fixed-point"]
"""How a diffusion system goes from noise to text; see `DiffusionGeneration.sampler`."""
WORD_BY_WORD: tuple[Sampler, ...] = ("settle", "fixed-point")
"""Samplers that give every position a level of its own and have words at every step."""


@dataclass(frozen=True)
class TextConfig:
    """How text becomes tokens."""

    tokenizer: str | None = None
    """None trains one on the data; else that of a model that comes with the package (`qqp`), a tokenizer.json, a
    BERT vocab.txt, a folder (also of a model), a hub name, or a published word list (`words.txt`)."""
    algorithm: Literal["wordpiece", "bpe"] = "wordpiece"
    """The kind of tokenizer to train."""
    vocab_size: int = 8192
    """Size of the vocabulary to train; fewer if the data has fewer."""
    lowercase: bool = True
    """Lower-case everything, as the published models do."""
    max_source: int = 64
    """Longest source, in tokens."""
    max_target: int = 64
    """Longest target, in tokens."""
    overlong: Literal["cut", "refuse"] = "cut"
    """Cut longer texts (the number cut is printed) or refuse them with an error."""
    published_layout: bool = False
    """Cut by the published rule: the longer side first, until both fit in `max_source` − 5 together; the
    other five places are for special tokens."""


@dataclass(frozen=True)
class TrainingConfig:
    """How a system is trained. A batch is counted in pairs, over all processes and accumulation steps."""

    batch_size: int = 256
    """Pairs in one optimiser step, over all processes."""
    accumulate: int = 1
    """Micro-batches that one optimiser step is split into on each process."""
    steps: int = 10_000
    """Optimiser steps."""
    epochs: float | None = None
    """Stop after so many times through the pairs (through both directions, with `both_directions`) instead of after
    `steps`."""
    minutes: float | None = None
    """Stop after so many minutes of training steps (evaluation not counted) instead of after `steps`; warm-up
    and decay of the learning rate then go by time too."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """AdamW, or Muon for the matrices inside the network with AdamW for the rest."""
    learning_rate: float = 1e-3
    """Peak learning rate of AdamW."""
    muon_learning_rate: float = 0.02
    """Peak learning rate of Muon's matrices."""
    schedule: Literal["linear", "cosine", "constant", "inverse-sqrt"] = "cosine"
    """Shape of the decay after the warm-up."""
    warmup: float = 0.02
    """Share of the training spent on a linear warm-up."""
    final_learning_rate: float = 0.0
    """Where a linear or cosine decay ends, as a share of the peak."""
    betas: tuple[float, float] = (0.9, 0.98)
    """Momentum terms of AdamW."""
    weight_decay: float = 0.0
    """Decoupled weight decay, on matrices only."""
    clip: float | None = 1.0
    """Largest norm of the gradient; None leaves it as it is."""
    ema: float = 0.999
    """Decay of the averaged weights, which are the ones that are saved and used; 0 turns averaging off."""
    precision: Precision = "auto"
    """bf16 autocast where the machine has it in hardware and it is faster (auto), never (fp32), or always."""
    compile: bool = False
    """torch.compile the system on a GPU, which takes a minute or two first; a CPU goes without (docs/log.md)."""
    cuda_graphs: bool = False
    """One GPU: record forward and backward once for every shape of a batch and replay them, for systems that can be
    recorded: small networks are then no longer held up by starting their kernels one by one."""
    fsdp: bool = False
    """Several processes: spread weights, gradients and optimiser state over them (FSDP, full shard) instead of
    keeping a copy on each (DDP)."""
    start_from: str | None = None
    """A model (folder or name) whose weights the training begins with, and whose tokenizer it takes: fine-tuning.
    The sizes of the system are that model's."""
    teachers: tuple[str, ...] = ()
    """Models (folders or names) of the same vocabulary whose expectations of every word are learned, their mean
    (knowledge distillation); label smoothing is left out then. For systems that read from left to right."""
    teaching: float = 0.8
    """Share of every label that the teachers say; the rest is the word itself."""
    both_directions: bool = False
    """Train on target → source as well: fair where the task is symmetric (paraphrase)."""
    seed: int = 0
    """Seed of initialisation, order of the data, and noise."""
    log_every: int = 50
    """Optimiser steps between two lines of metrics."""
    evaluate_every: int = 1000
    """Optimiser steps between two looks at the validation set (loss, BLEU, samples)."""
    evaluate_rows: int = 200
    """Validation rows that are generated for at each look."""
    save_every: int = 1000
    """Optimiser steps between two checkpoints."""
    keep: int = 1
    """Checkpoints with optimiser state that are kept for resuming."""
    tensorboard: bool = False
    """Write TensorBoard events beside metrics.jsonl."""


@dataclass(frozen=True)
class Generation:
    """What every system's generation can be told."""

    candidates: int = 1
    """Answers drawn for every source; minimum Bayes risk chooses one."""
    likelihood_weight: float = 0.0
    """The choice: what a candidate's log-probability (nats) counts beside its mean BLEU with the others; 0 is
    minimum Bayes risk as published."""
    source_weight: float = 0.0
    """The choice: what a candidate's BLEU with the source costs, for tasks in which repeating the source is no
    answer (paraphrase)."""
    copies: bool = True
    """The choice: whether it may fall on a candidate that is the source itself (but for case and spaces). A
    paraphrase is better without; where all candidates are copies, one of them is the answer."""
    seed: int = 0
    """One seed gives one answer, whatever the batch size or the order of the input, but for rounding: a batch of
    another size may round differently, which now and then decides for another word (docs/scaling.md)."""
    batch_size: int = 64
    """Sources at a time. On a CPU small batches stay in the cache; on a GPU take 64 or more."""


@dataclass(frozen=True)
class DiffusionGeneration(Generation):
    """How a diffusion system generates."""

    candidates: int = 10
    batch_size: int = 16
    steps: int = 10
    """Network calls for one candidate."""
    rescore: bool = False
    """settle: the last call of several reads every candidate once more, from left to right, and its log-probability
    with that of its length takes the place of that of the words as they were drawn, which depends on what was drawn
    when. It only matters to the choice: with one candidate, one call or `attention` "all" it changes nothing."""
    sampler: Sampler = "ddim"
    """ddim (with the churn dial), ancestral (DDPM), dpm-solver (DPM-Solver++), settle (confident tokens become
    clean first; for systems trained with token-wise noise), or fixed-point (all words at once, each given those
    before it as they stand, until none moves; for systems with `attention` "settled")."""
    grid: Literal["uniform-time", "uniform-log-snr", "trailing"] = "uniform-time"
    """Where the network is called on the way from noise to text."""
    churn: float = 1.0
    """ddim: share of fresh noise, from the deterministic path (0) to full re-noising (1)."""
    eta: float | None = None
    """ddim: the η of its paper (1 is the ancestral variance) instead of `churn`."""
    order: Literal[1, 2] = 2
    """dpm-solver: order of the multistep solver."""
    stochastic: bool = False
    """dpm-solver: the SDE form (2M-SDE)."""
    published_v2: bool = False
    """dpm-solver: do as the released DiffuSeq-v2 code does, which overwrites the state by the estimate before
    every update and so is no DPM-Solver++ any more. Only for comparing with published v2 numbers."""
    clamp_from: float | None = None
    """Round every estimate to its nearest word from this share of the steps on (0 = always); None = never."""
    truncate: float | None = None
    """Keep all noise within this many standard deviations (the published `top_p`)."""
    temperature: float = 1.0
    """Sharpness of the word distribution that becomes the estimate; below 1 is sharper."""
    repeats: bool = False
    """settle, fixed-point: whether a token may stand twice in a row, which 0.8 % of Quora's questions have."""
    order_noise: float = 0.0
    """settle: chance in which words settle first (scale of Gumbel noise on their log-probabilities, falling to
    none at the end); at 0.5 candidates differ clearly more (docs/log.md)."""
    settle_first: Literal["surest", "leftmost"] = "surest"
    """settle: who settles in a call. surest: the words that the network is surest of. leftmost: the leftmost word
    that has not settled, and beside it, where more than one has to, the surest; for systems that were trained from
    left to right as well (`left_to_right`)."""
    sure_enough: float = 1.0
    """settle: words of more than this probability settle at once, whether their turn has come or not; 1: none."""
    cache: bool = True
    """settle: settled words keep their keys and values in attention; off, they are computed anew in every call,
    which takes up to a third longer, its answers the same within chance (docs/log.md). A system with
    `attention` "settled" always keeps them, and loses nothing by it."""
    draft: Literal["source", "nothing"] = "nothing"
    """fixed-point: what stands in an answer's place before the first call. source: the source itself, where answers
    keep many of its words (paraphrase, simplification), and behind words of it that are final stands what follows
    on them there: far more texts rest within ten calls (Sun et al., 2021, "Instantaneous Grammatical Error
    Correction with Shallow Aggressive Decoding"; Yang et al., 2023, "Inference with Reference"; docs/log.md).
    nothing: where sources and targets share few words (translation)."""
    stratified: bool = True
    """settle, fixed-point: the candidates of a source share out the quantiles of every position among them (Latin
    hypercube sampling) instead of drawing independently: each is drawn as before, all together cover more
    (docs/log.md)."""
    guidance: float = 1.0
    """Classifier-free guidance; 1 is off. For systems trained with source dropout."""
    length: int | None = None
    """Length of the answer in tokens; None leaves it to the model."""
    length_beam: int = 5
    """Candidates have so many likely lengths, each as often as is its probability. Not for fixed-point, whose
    answers end where they end."""


@dataclass(frozen=True)
class BertSizes:
    """The sizes of a BERT."""

    layers: int = 12
    heads: int = 12
    width: int = 768
    feed_forward: int = 3072
    positions: int = 512
    token_types: int = 2


@dataclass(frozen=True)
class DiffuSeqConfig:
    """Our DiffuSeq: source encoded once, target-only steps, cross-entropy on x_0, token-wise noise."""

    kind: Literal["diffuseq"] = "diffuseq"
    encoder_layers: int = 7
    decoder_layers: int = 3
    """Few: only they are paid for in every call (docs/log.md)."""
    pretrained: str | None = None
    """Hub name or folder of a BERT that reads the source instead of the `encoder_layers` of our own, and whose
    word table ours begins as; text.tokenizer must be the same. None: everything from random weights."""
    pretrained_rate: float = 0.1
    """The BERT's learning rate, as a share of that of the rest."""
    bert: BertSizes | None = None
    """Sizes of the BERT within. The program itself writes them into a saved model, which so opens without
    `pretrained`."""
    heads: int = 8
    width: int = 512
    feed_forward: int = 1024
    """Width of the gated feed-forward (SwiGLU): three matrices of width × feed_forward."""
    embedding_width: int = 128
    dropout: float = 0.1
    copy: bool = True
    """Mix the vocabulary's softmax with a pointer to the source's words."""
    log_snr_max: float = 3.0
    """log(α²/σ²) where the noise begins: a word is readable there without any network."""
    log_snr_min: float = -8.0
    """log(α²/σ²) where the noise ends: nothing of the word is left."""
    attention: Literal["settled", "all"] = "settled"
    """settled: a position sees the words that settled before it, so that one pass trains on every word of a
    target, each from what was there before it. all: every position sees all others, at any noise level."""
    left_to_right: float = 0.95
    """attention "settled": share of training sequences that settle from left to right; the others in random
    order."""
    look_ahead: float = 0.0
    """attention "settled": share of the training sequences from left to right in which groups of 4 to 32 words
    settle together, each predicted from what is before its group: better first drafts for fixed-point
    (docs/log.md)."""
    length_first: float = 0.05
    """attention "settled": share of training sequences whose length is known before any of their words; in the
    others their end settles like a word."""
    token_wise: float = 1.0
    """attention "all": share of training sequences whose tokens have levels of their own, some clean, the rest
    pure noise; the others have one level, as the samplers other than settle need."""
    self_condition: float = 0.0
    """attention "all": share of training sequences that see the network's own first estimate."""
    draws: int = 1
    """Noise draws (orders, where attention is "settled") for every encoded source in a training step; with
    attention "all" 2 are better (docs/log.md)."""
    source_dropout: float = 0.0
    """Share of training sequences without their source, for classifier-free guidance."""
    label_smoothing: float = 0.0
    """Share of every word in the loss that goes to all words of the vocabulary alike."""
    wrong_words: float = 0.0
    """attention "settled": share of the words before for which others of the batch are drawn, in training, which
    holds overfitting back where pairs are seen often (docs/log.md). Drawn are all places of the batch; where there
    is no word but an end or what is beyond it, the word stays the target's own."""
    vocabulary_loss: float = 0.5
    """`copy`: weight of the cross-entropy of the vocabulary's softmax alone beside that of its mixture with the
    pointer, since the softmax learns little from words that may be copied."""
    length_loss: float = 1.0
    """Weight of the length head's cross-entropy: how many target tokens a length counts as."""
    max_length: int = 128
    """Longest answer in tokens that the length head can predict."""


@dataclass(frozen=True)
class EnsembleConfig:
    """Several systems of one vocabulary, trained apart, that write together: every word is drawn from the mixture
    of what they expect (Lakshminarayanan et al., 2017, "Deep Ensembles")."""

    kind: Literal["ensemble"] = "ensemble"
    members: tuple[Any, ...] = ()
    """Their system configs: first a diffuseq with `attention` "settled", then more of these or autoregressive
    systems."""
    weights: tuple[float, ...] = ()
    """What each member counts for in the mixture, one for each; none: all the same."""
    models: tuple[str, ...] = ()
    """Names or folders of the models that the members' weights are read from, one for each; none: the weights are
    in the ensemble's own folder."""


@dataclass(frozen=True)
class PublishedConfig:
    """DiffuSeq as published (Gong et al., ICLR 2023), v1 and v2: one BERT encoder over source and target."""

    kind: Literal["published"] = "published"
    version: Literal[1, 2] = 1
    """1: DiffuSeq; 2: DiffuSeq-v2, with the soft absorbing state and DPM-Solver++."""
    layers: int = 12
    heads: int = 12
    width: int = 768
    feed_forward: int = 3072
    embedding_width: int = 128
    time_width: int = 128
    sequence_length: int = 128
    """Source, target and separators together; everything is padded to it."""
    max_positions: int = 512
    """Rows of the position table."""
    dropout: float = 0.1
    noise_schedule: Literal["sqrt", "linear", "cosine", "trunc_cos", "trunc_lin", "pw_lin"] = "sqrt"
    diffusion_steps: int = 2000
    rescale_time: bool = True
    """Feed t·1000/T to the network instead of t."""
    objective: Literal["published", "paper"] = "published"
    """published: the loss of the released code; paper: Eq. 2 of the paper. See docs/loss.md."""
    time_sampling: Literal["loss-aware", "uniform"] = "loss-aware"
    absorb_rate: float = 0.5
    """v2: λ of the discrete noise."""
    regularize: float = 0.01
    """v2: weight of the norm of the absorbing vector."""


@dataclass(frozen=True)
class Config:
    """The whole of a run."""

    system: Any
    text: TextConfig = field(default_factory=TextConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    generation: Any = field(default_factory=DiffusionGeneration)
