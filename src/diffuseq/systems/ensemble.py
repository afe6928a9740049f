"""Several systems that write together, word by word.

At every position the word is drawn from the mixture of what the members expect there, given the words before it
(Lakshminarayanan et al., 2017, "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles", as
sequence models are decoded in ensembles since Sutskever et al., 2014). Fixed-point iteration asks for whole texts,
so that an autoregressive member too takes part in ten calls instead of one a word.

The first member is one of ours: it says how much room an answer has, and what stands at first, when the others have
nothing to go by. Members are trained apart; an ensemble that is trained on trains them beside one another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from diffuseq.checks import check_fit, check_system
from diffuseq.config import DiffusionGeneration, EnsembleConfig
from diffuseq.data.batch import Batch
from diffuseq.errors import InputError
from diffuseq.registry import build
from diffuseq.sampling.hooks import mix_words
from diffuseq.system import Draft, Loss, Request, SpecialTokens, System
from diffuseq.systems.diffuseq import DiffuSeq
from diffuseq.systems.generation import Start, by_fixed_point, check_given_length, draft_of


class Ensemble(System):
    """A mixture of systems. Raises `InputError` for members that cannot be mixed."""

    config: EnsembleConfig

    def __init__(
        self, config: EnsembleConfig, special: SpecialTokens, members: Sequence[System] | None = None
    ) -> None:
        """members: the systems themselves, where they are there already; None builds them."""
        super().__init__()
        # whatever it was read from, it holds its weights now
        self.config, self.special = replace(config, models=()), special
        self.members = nn.ModuleList(members or [build(member, special) for member in config.members])
        self._check_members()
        total = sum(config.weights)
        count = len(self.members)
        self.weights = [weight / total for weight in config.weights] or [1 / count] * count

    def _check_members(self) -> None:
        if not (self.members and isinstance(self.members[0], DiffuSeq)):
            raise InputError(
                "The first member of an ensemble is a diffuseq, which knows how long answers are; put one first."
            )
        for number, member in enumerate(self.systems, start=1):
            if not member.reads_in_order:
                raise InputError(
                    f"Member {number} of the ensemble, a {member.config.kind}, has no probability of a word given "
                    'those before it; take systems that have: a diffuseq with attention "settled" or an '
                    "autoregressive one."
                )

    @classmethod
    def of(cls, members: Sequence[System], weights: Sequence[float] = ()) -> Ensemble:
        """An ensemble of systems of one vocabulary. weights: what each counts for; none: all the same."""
        config = EnsembleConfig(members=tuple(member.config for member in members), weights=tuple(weights))
        check_system(config)
        return cls(config, members[0].special, members)

    @property
    def systems(self) -> list[System]:
        """The members."""
        return cast(list[System], list(self.members))

    @property
    def leader(self) -> DiffuSeq:
        """The first member."""
        return cast(DiffuSeq, self.members[0])

    @property
    def reads_in_order(self) -> bool:
        return True

    @property
    def graphable(self) -> bool:
        return all(member.graphable for member in self.systems)

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> Loss:
        """The sum of the members' losses; nobody's gradient reaches another."""
        losses = [member(batch, generator) for member in self.systems]
        logs = {
            f"{name} {number}": value
            for number, loss in enumerate(losses, 1)
            for name, value in loss.logs.items()
        }
        value = torch.stack([loss.value for loss in losses]).sum()
        return Loss(value, logs, losses[0].weight)

    def next_words(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        first, *others = self.systems
        mixture = first.next_words(batch, generator).mul_(self.weights[0])
        for member, weight in zip(others, self.weights[1:], strict=True):
            mixture.add_(member.next_words(batch, generator), alpha=weight)
        return mixture

    @torch.no_grad()
    def generate(self, request: Request) -> Iterator[Draft]:
        """Drafts after every call, which asks each member once. Raises `InputError` for settings that an ensemble
        cannot serve."""
        self.eval()
        settings: DiffusionGeneration = request.settings
        check_fit(self.config, settings)
        length = request.source.shape[1]
        self.check_lengths(length, 1)  # before what room is left is asked
        most = self.longest_answer(length)
        check_given_length(request, most)
        start = Start.of(self.leader, request, most)
        page, first = start.page, start.reader(self.leader, start.encoded)
        others = [member.reader(request, page.lengths, page.is_open_ended) for member in self.systems[1:]]
        read = mix_words([first, *others], self.weights)
        for step in by_fixed_point(read, self.special, settings, start, settings.steps):
            yield draft_of(step, start, settings.steps, step.index + 1)

    def check_lengths(self, source: int, target: int) -> None:
        for member in self.systems:
            member.check_lengths(source, target)

    def longest_answer(self, source: int) -> int | None:
        """What the member takes that takes least."""
        most = [member.longest_answer(source) for member in self.systems]
        return min((length for length in most if length is not None), default=None)

    def answer_length(self, source: Tensor, source_padding: Tensor) -> Tensor:
        return self.leader.answer_length(source, source_padding)

    def learning_rate_share(self, name: str) -> float:
        _, number, inner = name.split(".", 2)
        return self.systems[int(number)].learning_rate_share(inner)

    def after_step(self) -> None:
        for member in self.systems:
            member.after_step()
