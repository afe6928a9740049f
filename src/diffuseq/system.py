"""The one protocol of the house: what train, generate, evaluate and serve need of any system.

A system is a network with its loss and its way of generating: DiffuSeq as published, ours, and every
baseline. It works on token ids and knows neither text nor files. A system is built from its config and
the ids of the special tokens:

    system = build(config, special)          # see diffuseq.registry
    loss = system(batch, generator)          # forward = one training loss, so that DDP and FSDP wrap it
    for draft in system.generate(request):   # one draft a network call (or a token), the last is the answer
        ...

Legend: b sources, k candidates a source, n = b·k rows (row i·k+j is candidate j of source i), s source
length, l target length.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from diffuseq.data.batch import Batch

if TYPE_CHECKING:
    from diffuseq.sampling.fixed_point import Read


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of the special tokens in the system's vocabulary, and the size of the vocabulary."""

    vocab_size: int
    pad: int
    start: int
    end: int
    unknown: int
    mask: int

    def without_text(self, *, end: bool = True) -> list[int]:
        """The tokens that stand for no text; end: whether the end is one of them, or a word like others."""
        silent = {self.pad, self.start, self.end, self.mask} - {self.unknown}
        return sorted(silent if end else silent - {self.end})


@dataclass(frozen=True)
class Loss:
    """What one forward pass gives: the scalar to descend, and named scalars for the log.

    weight: how many things `value` is the mean over, where these are not the pairs of the batch (say, the
    target tokens); the loop needs it to make several micro-batches or processes equal one large batch.
    """

    value: Tensor
    logs: dict[str, Tensor] = field(default_factory=dict)
    weight: Tensor | float | None = None


@dataclass(frozen=True)
class Request:
    """What to generate.

    source: long [b s]; source_padding: bool [b s]; candidates: k; seeds: one integer for each of the n
    rows, already mixed from the user's seed, the source and the candidate, so that batching changes an answer
    by no more than rounding; settings: the system's own generation dataclass; template: long [b l] or None,
    target tokens that are pinned (−1 where free; l is then the length of the answer).
    """

    source: Tensor
    source_padding: Tensor
    candidates: int
    seeds: list[int]
    settings: Any
    template: Tensor | None = None


@dataclass(frozen=True)
class Draft:
    """One state of the texts on their way: tokens [n l], padding [n l] (True past the end of the answer),
    confidence [n l] (the probability that the network gave each word when it was drawn), log_p [n], the step's
    index and the number of steps, and the network calls so far.

    log_p: log-probability of every text in nats; given its length where that is chosen first, with its end where
    the system writes one. Exact where each word is drawn given all that stand already (autoregressive systems,
    fixed-point at rest, settle with a call a word), else as if the words of one call were independent.
    """

    tokens: Tensor
    padding: Tensor
    confidence: Tensor
    log_p: Tensor
    index: int
    total: int
    forwards: int


def log_p_of_words(confidence: Tensor, padding: Tensor) -> Tensor:
    """Log-probability of the words of every text [n], from the probability of each [n l]. None of them counts as
    less likely than 10⁻³⁰, so that the sum is finite."""
    return confidence.float().clamp_min(1e-30).log().masked_fill(padding, 0.0).sum(1)


def first_of_each(chosen: Tensor) -> Tensor:
    """Of the chosen places [n l] the first in every row, [n l]."""
    return chosen & (chosen.cumsum(1) == 1)


class System(nn.Module, ABC):
    """Base of every system; subclasses implement `forward` and `generate`."""

    config: Any
    special: SpecialTokens

    @property
    def graphable(self) -> bool:
        """Whether `forward` on a GPU never waits for a result, so that it can be recorded as a CUDA graph
        (`training.cuda_graphs`)."""
        return False

    @property
    def reads_in_order(self) -> bool:
        """Whether the system knows the probability of a word given those before it: `next_words` says it, and
        `forward` learns it from `Batch.labels`, where a batch has them."""
        return False

    @abstractmethod
    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> Loss:
        """The training loss of a batch, a mean over pairs or target tokens; randomness from `generator`."""

    @abstractmethod
    def generate(self, request: Request) -> Iterator[Draft]:
        """Yield drafts; the last one is the answer. Runs without gradients, in eval mode."""

    def next_words(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        """The probability of every word at each place of the targets and of the end behind them, given the words
        before it [b l+1 v]; what is beyond the end means nothing. Of systems for which `reads_in_order` holds."""
        raise NotImplementedError

    def reader(self, request: Request, lengths: Tensor, is_open_ended: bool) -> Read:
        """What the system says of every word given those before it, for the rows of a request: a `Read` of
        `diffuseq.sampling.fixed_point`. Of systems for which `reads_in_order` holds.

        lengths [n]: positions of every row; is_open_ended: whether the end is a word like others.
        """
        raise NotImplementedError

    def check_lengths(self, source: int, target: int) -> None:
        """Raise `InputError` for a pair of so many tokens that is longer than the network takes. Any is taken by
        default."""

    def longest_answer(self, source: int) -> int | None:
        """How many tokens an answer to a source of so many has at most; None: any number."""
        return None

    def answer_length(self, source: Tensor, source_padding: Tensor) -> Tensor:
        """A likely length of the answer to each source [b s], long [b]; the source's own by default."""
        return (~source_padding).sum(1)

    def learning_rate_share(self, name: str) -> float:
        """The learning rate of the parameter `name`, as a share of the run's; 1 by default."""
        return 1.0

    def after_step(self) -> None:
        """Called after every optimiser step (say, to renormalise embeddings). Nothing by default."""

    def state(self) -> dict[str, Any]:
        """Training state beyond the weights (say, the loss history of a time sampler), for resuming."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def num_parameters(self) -> int:
        return sum(p.numel() for p in self.parameters())
