"""The loop: what a step is, however it is split, and when it stops."""

import dataclasses
from itertools import pairwise

import pytest
import tiny_runs as tiny
import torch
from torch import Tensor, nn

from diffuseq.config import TrainingConfig
from diffuseq.data.batch import Batch
from diffuseq.errors import InputError
from diffuseq.system import Loss, System
from diffuseq.training.chance import mix
from diffuseq.training.feed import Stream
from diffuseq.training.loop import NotFiniteError, fit, prepare, train_steps


def trained(settings: TrainingConfig, **changes: float) -> dict[str, Tensor]:
    system = tiny.system(**changes)
    fit(
        system, Stream(lambda step: tiny.batch(settings.batch_size, seed=step), settings.batch_size), settings
    )
    return system.state_dict()


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_one_batch_is_learned_to_almost_nothing(optimizer: str) -> None:
    system, batch, losses = tiny.system(), tiny.batch(8), []
    settings = tiny.settings(steps=150, learning_rate=1e-2, ema=0.0, optimizer=optimizer, log_every=10)
    progress = fit(
        system, Stream(lambda step: batch, 8), settings, on_log=lambda logs: losses.append(logs["loss"])
    )
    assert losses[0] > 2.0
    assert losses[-1] < 0.02
    assert (progress.step, progress.pairs) == (150, 1200)


@pytest.mark.parametrize("accumulate", [2, 3, 8])
def test_any_number_of_micro_batches_equals_one_large_batch(accumulate: int) -> None:
    """Rows have several lengths and the loss is a mean over tokens, so a mean of means would differ."""
    whole, split = (curve(tiny.settings(steps=5, log_every=1, accumulate=a)) for a in (1, accumulate))
    assert split == pytest.approx(whole, rel=1e-4)


def curve(settings: TrainingConfig) -> list[float]:
    """Loss and gradient norm of every step, one after the other."""
    logs: list[dict[str, float]] = []
    data = Stream(lambda step: tiny.batch(8, seed=step), 8)
    fit(tiny.system(), data, settings, on_log=logs.append)
    return [line[name] for line in logs for name in ("loss", "gradient_norm")]


def test_the_same_seed_gives_the_same_weights_bit_for_bit_and_another_does_not() -> None:
    first, second, other = (trained(tiny.settings(steps=3, seed=seed), dropout=0.3) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_a_step_that_gives_no_number_stops_before_the_weights_change() -> None:
    class Overflows(type(tiny.system())):  # type: ignore[misc]
        def forward(self, batch: Batch, generator: torch.Generator | None = None) -> Loss:
            loss = super().forward(batch, generator)
            return dataclasses.replace(loss, value=loss.value / (0.0 if 21 in batch.source else 1.0))

    torch.manual_seed(0)
    system = Overflows(tiny.NETWORK, tiny.SPECIAL)
    before = {name: value.clone() for name, value in system.state_dict().items()}
    batch = tiny.batch(8)
    bad = sorted({int(row) for row in (batch.source == 21).any(1).nonzero()[:, 0]})
    assert 0 < len(bad) < 8
    with pytest.raises(
        NotFiniteError, match=r"Step 1: .*training rows (\d+, )*\d+; .*learning_rate"
    ) as caught:
        fit(system, Stream(lambda step: batch, 8), tiny.settings(accumulate=8))
    assert f"training rows {', '.join(map(str, bad))};" in str(caught.value)
    assert all(torch.equal(before[name], value) for name, value in system.state_dict().items())


def test_minutes_end_the_training_and_decay_the_learning_rate_by_time() -> None:
    logs: list[dict[str, float]] = []
    settings = tiny.settings(minutes=0.01, steps=1, log_every=1, schedule="linear", warmup=0.0)
    progress = fit(tiny.system(), Stream(lambda step: tiny.batch(8), 8), settings, on_log=logs.append)
    assert progress.step > 1
    assert 0.6 <= progress.seconds < 1.5
    rates = [line["learning_rate"] for line in logs]
    assert rates == sorted(rates, reverse=True)
    for earlier, later in pairwise(logs):
        assert later["learning_rate"] == pytest.approx(settings.learning_rate * (1 - earlier["done"]))


def test_the_system_hears_of_every_optimiser_step_and_ends_averaged_in_eval_mode() -> None:
    class Counts(type(tiny.system())):  # type: ignore[misc]
        steps = 0

        def after_step(self) -> None:
            self.steps += 1

    system: System = Counts(tiny.NETWORK, tiny.SPECIAL)
    fit(system, Stream(lambda step: tiny.batch(8), 8), tiny.settings(steps=4, accumulate=2))
    assert system.steps == 4
    assert not system.training


def test_bf16_trains_too() -> None:
    losses: list[float] = []
    settings = tiny.settings(steps=40, precision="bf16", learning_rate=1e-2, log_every=20)
    fit(
        tiny.system(),
        Stream(lambda s: tiny.batch(8), 8),
        settings,
        on_log=lambda logs: losses.append(logs["loss"]),
    )
    assert losses[-1] < losses[0]


def test_a_batch_smaller_than_its_micro_batches_is_refused() -> None:
    with pytest.raises(InputError, match="batch_size"):
        fit(tiny.system(), Stream(lambda step: tiny.batch(2), 2), tiny.settings(accumulate=3))


@pytest.mark.parametrize(
    "changes",
    [
        {"batch_size": 0},
        {"ema": 1.0},
        {"clip": -1.0},
        {"minutes": 0.0},
        {"epochs": -1.0},
        {"epochs": 1e308},
        {"steps": 10**400},
        {"epochs": 1.0, "minutes": 1.0},
        {"warmup": 1.5},
        {"learning_rate": 0.0},
        {"seed": -1},
        {"seed": 2**63},
    ],
)
def test_settings_that_cannot_train_are_refused_by_name(changes: dict[str, float]) -> None:
    with pytest.raises(InputError, match=f"training.{next(iter(changes))}"):
        fit(tiny.system(), Stream(lambda step: tiny.batch(8), 8), tiny.settings(**changes))


def test_seeds_of_steps_and_chunks_never_meet() -> None:
    seeds = {mix(seed, step, chunk) for seed in range(4) for step in range(50) for chunk in range(8)}
    assert len(seeds) == 4 * 50 * 8


def test_a_system_that_answered_between_two_steps_trains_on_in_training_mode() -> None:
    """Answering puts the system into eval mode, and several processes' wrapper around it knows nothing of that."""

    class Wrapper(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, *given: object) -> Loss:
            modes.append(self.module.training)
            return self.module(*given)

    modes: list[bool] = []
    training = prepare(tiny.system(), tiny.settings(steps=3))
    training.model = Wrapper(training.system)
    for _ in train_steps(training, Stream(lambda step: tiny.batch(8, seed=step), 8)):
        training.system.eval()
    assert modes == [True] * 3
