"""Every baseline's loss says what it is a mean over: parts of a batch, by their weights, are the whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from autoregressive_cases import CONFIGS
from memorise import SPECIAL, pairs, rows
from torch import Tensor

from diffuseq.baselines.configs import CMLMConfig, DiffusionLMConfig, LevTConfig
from diffuseq.config import DiffuSeqConfig
from diffuseq.data.batch import Batch, pad
from diffuseq.registry import build
from diffuseq.system import Loss

SMALL: dict[str, Any] = {
    "encoder_layers": 1,
    "decoder_layers": 1,
    "heads": 2,
    "width": 32,
    "feed_forward": 64,
    "dropout": 0.0,
    "max_length": 12,
}
SYSTEMS: dict[str, Any] = {
    **CONFIGS,
    "cmlm": CMLMConfig(**SMALL),
    "levt": LevTConfig(**SMALL, max_insertions=10, roll_in_noise=0.3),
    "diffusion-lm": DiffusionLMConfig(
        layers=1,
        heads=2,
        width=32,
        feed_forward=64,
        embedding_width=12,
        time_width=16,
        sequence_length=10,
        dropout=0.0,
        classifier_layers=1,
        classifier_heads=2,
        classifier_width=32,
        classifier_feed_forward=64,
    ),
}
DRAWS = ("rand", "randn", "randint", "multinomial")
WHOLE = pairs(8)
PARTS = (slice(0, 3), slice(3, 8))
"""Of unequal size, and of other numbers of words a pair."""


class Recorded:
    """Random numbers of a whole batch, given again to its parts: each gets the rows that were its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.draws: list[Tensor] = []
        self.given: list[int] = []
        self.turn: int | None = None
        for name in DRAWS:
            monkeypatch.setattr(torch, name, self._instead_of(getattr(torch, name)))

    def again(self) -> None:
        """From now on nothing is drawn any more; the next part begins with the first draw."""
        self.given = self.given or [0] * len(self.draws)
        self.turn = 0

    def _instead_of(self, draw: Any) -> Any:
        def give(*arguments: Any, **options: Any) -> Tensor:
            fresh = draw(*arguments, **options)
            if self.turn is None:
                self.draws.append(fresh)
                return fresh
            turn, self.turn = self.turn, self.turn + 1
            first = self.given[turn]
            self.given[turn] += len(fresh)
            cut = tuple(slice(size) for size in fresh.shape[1:])
            return self.draws[turn][(slice(first, first + len(fresh)), *cut)]

        return give


@pytest.mark.parametrize("kind", SYSTEMS)
def test_two_micro_batches_are_one_batch(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    system = build(SYSTEMS[kind], SPECIAL).eval()
    recorded = Recorded(monkeypatch)
    whole = system(WHOLE)
    expected = torch.autograd.grad(whole.value, list(system.parameters()), allow_unused=True)
    losses, weights = [], []
    for part in PARTS:
        recorded.again()
        loss: Loss = system(rows(WHOLE, part))
        losses.append(loss)
        weights.append(float(part.stop - part.start if loss.weight is None else loss.weight))
    assert all(given == len(drawn) for given, drawn in zip(recorded.given, recorded.draws, strict=True))
    total = sum(weights)
    assert total == float(len(WHOLE) if whole.weight is None else whole.weight)
    value = sum(weight * loss.value for weight, loss in zip(weights, losses, strict=True)) / total
    torch.testing.assert_close(value, whole.value, atol=1e-5, rtol=1e-5)
    found = torch.autograd.grad(value, list(system.parameters()), allow_unused=True)
    for (name, _), one, two in zip(system.named_parameters(), expected, found, strict=True):
        assert (one is None) == (two is None), name
        if one is not None and two is not None:
            torch.testing.assert_close(
                two, one, atol=1e-5, rtol=1e-3, msg=lambda text, n=name: f"{n}: {text}"
            )
    for name, whole_log in whole.logs.items():
        parts = sum(weight * loss.logs[name] for weight, loss in zip(weights, losses, strict=True)) / total
        torch.testing.assert_close(parts, whole_log, atol=1e-5, rtol=1e-5)


OURS = {
    attention: DiffuSeqConfig(
        encoder_layers=1,
        decoder_layers=1,
        heads=2,
        width=32,
        feed_forward=64,
        embedding_width=12,
        attention=attention,  # type: ignore[arg-type]
    )
    for attention in ("settled", "all")
}


@pytest.mark.parametrize("name", [*SYSTEMS, *OURS])
def test_targets_without_any_word_have_a_loss_and_a_gradient(name: str) -> None:
    torch.manual_seed(0)
    system = build((SYSTEMS | OURS)[name], SPECIAL).train()
    loss = system(Batch(*pad([[5, 6], [7]], 0), *pad([[], []], 0)), torch.Generator().manual_seed(0))
    loss.value.backward()
    assert all(part.grad is None or part.grad.isfinite().all() for part in system.parameters())
    assert loss.value.isfinite() and all(part.isfinite() for part in loss.logs.values())
    assert loss.weight is None or loss.weight > 0
