"""What holds for every schedule, whatever its numbers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffuseq.diffusion.schedule import CosineSchedule, DiscreteSchedule, LogLinearSchedule

NAMES = ["sqrt", "linear", "cosine", "trunc_cos", "trunc_lin", "pw_lin"]
SCHEDULES = {
    "log-linear": LogLinearSchedule(3.0, -9.0),
    "cosine, continuous": CosineSchedule(),
    **{
        f"{name}, {steps} steps": DiscreteSchedule.named(name, steps)
        for name in NAMES
        for steps in (20, 2000)
    },
}
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
times = st.floats(0, 1)


@every_schedule
@given(u=times)
@settings(max_examples=20)
def test_signal_and_noise_have_variance_one_together(schedule, u):
    assert float(schedule.alpha(u) ** 2 + schedule.sigma(u) ** 2) == pytest.approx(1, abs=1e-14)


@every_schedule
def test_the_log_snr_falls_with_time(schedule):
    log_snr = schedule.log_snr(torch.linspace(0.001, 1, 997, dtype=torch.float64))
    assert (log_snr.diff() < 0).all()


@every_schedule
@given(u=times)
@settings(max_examples=20)
def test_time_is_the_inverse_of_the_log_snr(schedule, u):
    assert float(schedule.time(schedule.log_snr(u))) == pytest.approx(u, abs=1e-9)


@every_schedule
@given(u=st.floats(0.001, 1))
@settings(max_examples=20)
def test_the_log_snr_is_that_of_alpha_and_sigma(schedule, u):
    log_snr = 2 * (schedule.alpha(u).log() - schedule.sigma(u).log())
    assert float(log_snr) == pytest.approx(float(schedule.log_snr(u)), rel=1e-9, abs=1e-9)


@every_schedule
def test_a_float_and_a_tensor_give_the_same_in_float64(schedule):
    batch = schedule.alpha(torch.tensor([[0.25], [0.5]], dtype=torch.float32))
    assert batch.dtype == torch.float64 and batch.shape == (2, 1)
    assert batch[1, 0] == schedule.alpha(0.5)
