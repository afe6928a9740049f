import pytest
import torch

from diffuseq.diffusion.schedule import CosineSchedule, DiscreteSchedule, LogLinearSchedule
from diffuseq.errors import InputError


def test_a_chain_has_its_own_levels_at_its_indices():
    chain = DiscreteSchedule.named("sqrt", 20)
    alpha = chain.alpha(chain.time_of_index(torch.arange(20)))
    torch.testing.assert_close(alpha**2, chain.alpha_bar, rtol=1e-13, atol=0)
    assert chain.alpha(0.0) == 1 and chain.sigma(0.0) == 0


def test_the_log_of_alpha_is_linear_between_the_indices_of_a_chain():
    chain = DiscreteSchedule.named("cosine", 20)
    at = [chain.alpha(chain.time_of_index(index)).log() for index in (7, 7.25, 8)]
    torch.testing.assert_close(at[1], 0.75 * at[0] + 0.25 * at[2])


def test_index_and_time_of_a_chain_are_inverses():
    chain = DiscreteSchedule.named("sqrt", 2000)
    assert chain.time_of_index(1999) == 1 and chain.time_of_index(-1) == 0
    assert chain.index_of_time(chain.time_of_index(123)) == pytest.approx(123)


def test_the_log_linear_schedule_runs_from_end_to_end():
    schedule = LogLinearSchedule(2.0, -8.0)
    assert [float(schedule.log_snr(u)) for u in (0.0, 0.5, 1.0)] == [2.0, -3.0, -8.0]


def test_the_cosine_schedule_keeps_its_ends():
    schedule = CosineSchedule(10.0, -12.0)
    assert float(schedule.log_snr(0.0)) == pytest.approx(10.0)
    assert float(schedule.log_snr(1.0)) == pytest.approx(-12.0)


def test_an_unknown_schedule_is_refused_with_the_nearest_name():
    with pytest.raises(InputError, match="Did you mean 'sqrt'"):
        DiscreteSchedule.named("sqrtt", 2000)


@pytest.mark.parametrize(("name", "num_steps"), [("sqrt", 0), ("pw_lin", 10), ("linear", 5), ("pw_lin", 15)])
def test_a_chain_too_short_for_its_formula_is_refused(name, num_steps):
    with pytest.raises(InputError, match=f"diffusion_steps is {num_steps}"):
        DiscreteSchedule.named(name, num_steps)


def test_a_log_snr_that_rises_with_time_is_refused():
    with pytest.raises(InputError, match="larger one first"):
        LogLinearSchedule(-8.0, 2.0)
