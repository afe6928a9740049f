"""Devices without double precision: what is finer elsewhere does with single there, and makes no double by the way.

No such device is needed: another one stands in for it, which is told to be as coarse and watched.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from diffuseq.baselines.configs import DiffusionLMConfig
from diffuseq.config import DiffuSeqConfig, PublishedConfig
from diffuseq.data.batch import Batch, pad
from diffuseq.devices import finest_float
from diffuseq.diffusion.schedule import CosineSchedule, DiscreteSchedule, LogLinearSchedule, Schedule
from diffuseq.evaluation.bound import terms
from diffuseq.evaluation.likelihood import system_terms
from diffuseq.registry import build
from diffuseq.sampling.grid import Grid, uniform_time
from diffuseq.sampling.hooks import truncate
from diffuseq.sampling.noise import batch_noise
from diffuseq.sampling.step import Estimate
from diffuseq.system import SpecialTokens
from diffuseq.systems.published import PublishedDiffuSeq

SPECIAL = SpecialTokens(24, pad=0, start=1, end=2, unknown=3, mask=4)
FINE = (
    "baselines.diffusion_lm",
    "diffusion.schedule",
    "systems.published",
    "sampling.hooks",
    "evaluation.bound",
    "evaluation.likelihood",
)
"""Modules that ask how finely a device computes."""
SCHEDULES = [LogLinearSchedule(3.0, -9.0), CosineSchedule(), DiscreteSchedule.named("sqrt", 20)]


class Coarse(TorchDispatchMode):
    """Makes a device have no double precision, as Apple's GPUs: nobody hears of it, and who asks is refused."""

    def __init__(self, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.device = device
        for module in FINE:
            monkeypatch.setattr(f"diffuseq.{module}.finest_float", self.finest_float)

    def finest_float(self, device: torch.device) -> torch.dtype:
        return torch.float32 if device.type == self.device else torch.float64

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for part in tree_leaves(made):
            if isinstance(part, Tensor) and part.device.type == self.device and part.dtype == torch.float64:
                raise TypeError(f"{func} makes float64 on {self.device}")
        return made


@pytest.mark.parametrize(
    ("device", "dtype"), [("mps", torch.float32), ("cpu", torch.float64), ("cuda:1", torch.float64)]
)
def test_double_precision_is_for_who_has_it(device: str, dtype: torch.dtype) -> None:
    assert finest_float(torch.device(device)) == dtype


def test_doubles_are_seen_by_these_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    with Coarse("meta", monkeypatch), pytest.raises(TypeError, match="float64 on meta"):
        torch.empty(1, device="meta").double()


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
def test_schedules_are_as_fine_as_the_device(schedule: Schedule, monkeypatch: pytest.MonkeyPatch) -> None:
    with Coarse("meta", monkeypatch):
        time = torch.empty(3, device="meta")
        log_snr = schedule.log_snr(time)
        found = log_snr, schedule.time(log_snr), schedule.alpha(time), schedule.sigma(time)
    assert {(part.device.type, part.dtype) for part in found} == {("meta", torch.float32)}


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
def test_a_schedule_in_single_precision_is_nearly_as_good(
    schedule: Schedule, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = torch.linspace(0.05, 1, 20)
    fine = schedule.alpha(time), schedule.sigma(time)
    monkeypatch.setattr("diffuseq.diffusion.schedule.finest_float", lambda device: torch.float32)
    coarse = [part.double() for part in (schedule.alpha(time), schedule.sigma(time))]
    torch.testing.assert_close(coarse, list(fine), rtol=1e-4, atol=1e-5)


def test_truncated_noise_is_as_fine_as_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    with Coarse("meta", monkeypatch):
        assert truncate(torch.empty_like, 1.0)(torch.empty(2, 3, device="meta")).dtype == torch.float32


def test_the_published_system_needs_no_doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    config = PublishedConfig(
        layers=1, heads=2, width=16, feed_forward=32, embedding_width=8, time_width=8,
        sequence_length=16, max_positions=16, diffusion_steps=20,
    )  # fmt: skip
    system = PublishedDiffuSeq(config, SPECIAL).eval().to("meta")
    with Coarse("meta", monkeypatch):
        x = torch.empty(2, 16, 8, device="meta")
        target = torch.empty(2, 16, dtype=torch.bool, device="meta")
        noised = system.noised(x, target, torch.empty(2, dtype=torch.long, device="meta"), x)
        assert system.denoise_at(noised, 3.0).x0.dtype == torch.float32


def test_diffusion_lm_trains_without_doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"layers": 1, "heads": 2, "width": 16, "feed_forward": 32}
    config = DiffusionLMConfig(
        **sizes, **{f"classifier_{name}": size for name, size in sizes.items()}, embedding_width=8, time_width=8,
        sequence_length=8, diffusion_steps=20,
    )  # fmt: skip
    system = build(config, SPECIAL).to("meta")
    batch = Batch(*pad([[10, 11, 12], [13]], 0), *pad([[20, 21], [22]], 0)).to("meta")
    with Coarse("meta", monkeypatch):
        assert system(batch).value.dtype == torch.float32


def drawn_terms(grid: Grid) -> list[Tensor]:
    x0, target = torch.ones(2, 3, 4), torch.tensor([[True, True, False], [True, False, False]])
    generator = torch.Generator().manual_seed(0)
    found = terms(
        x0, target, lambda x: x.mean(-1), lambda x, time: Estimate(0.9 * x), grid, batch_noise(generator), 3,
        generator=generator,
    )  # fmt: skip
    return list(vars(found).values())


def test_a_bound_in_single_precision_is_nearly_as_good(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = uniform_time(SCHEDULES[0], 10, end="lowest")
    fine = drawn_terms(grid)
    with Coarse("cpu", monkeypatch):
        coarse = drawn_terms(grid)
    torch.testing.assert_close([part.double() for part in coarse], fine, rtol=1e-4, atol=1e-5)


def test_our_bound_needs_no_doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    config = DiffuSeqConfig(
        encoder_layers=1, decoder_layers=1, heads=2, width=16, feed_forward=16, embedding_width=8,
        dropout=0.0, max_length=6,
    )  # fmt: skip
    batch = Batch(*pad([[10, 11, 12], [13]], 0), *pad([[20, 21], [22]], 0))
    system = build(config, SPECIAL).eval()
    with Coarse("cpu", monkeypatch), torch.no_grad():
        found = system_terms(system, batch, 2, torch.Generator().manual_seed(0))
    assert {part.dtype for part in vars(found).values()} == {torch.float32}
