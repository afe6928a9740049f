import pytest
import torch

from diffuseq.diffusion.schedule import DiscreteSchedule, LogLinearSchedule
from diffuseq.errors import InputError
from diffuseq.sampling.grid import GRIDS, make_grid, published_steps

CHAIN = DiscreteSchedule.named("sqrt", 2000)
SCHEDULE = LogLinearSchedule(3.0, -9.0)


@pytest.mark.parametrize("end", ["clean", "lowest"])
@pytest.mark.parametrize("calls", [1, 3, 10, 1999])
@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_falls_from_the_noisiest_level_to_the_end_asked_for(name, calls, end):
    grid = make_grid(name, CHAIN, calls, end)
    assert len(grid) == calls and len(grid.levels()) == calls + 1
    assert (grid.time.diff() < 0).all() and (grid.sigma.diff() < 0).all() and (grid.alpha.diff() > 0).all()
    assert grid.alpha[0] ** 2 == pytest.approx(float(CHAIN.alpha_bar[-1]), rel=1e-9)
    last = (1.0, 0.0) if end == "clean" else (CHAIN.alpha_bar[0].sqrt(), (1 - CHAIN.alpha_bar[0]).sqrt())
    assert (float(grid.alpha[-1]), float(grid.sigma[-1])) == pytest.approx(tuple(map(float, last)))


def test_times_and_levels_belong_together():
    for name in ("uniform-time", "uniform-log-snr", "trailing"):
        grid = make_grid(name, SCHEDULE, 7, "lowest")
        torch.testing.assert_close(grid.alpha, SCHEDULE.alpha(grid.time))
        torch.testing.assert_close(grid.sigma, SCHEDULE.sigma(grid.time))


def test_uniform_log_snr_is_uniform_in_log_snr():
    grid = make_grid("uniform-log-snr", CHAIN, 8, "lowest")
    steps = CHAIN.log_snr(grid.time).diff()
    torch.testing.assert_close(steps, steps.mean().expand(8))


def test_trailing_calls_stand_on_indices_of_the_chain():
    indices = CHAIN.index_of_time(make_grid("trailing", CHAIN, 7).time)
    torch.testing.assert_close(indices, indices.round(), atol=1e-9, rtol=0)
    assert make_grid("trailing", CHAIN, 4).time.tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]


def test_the_published_steps_are_all_indices_of_the_chain():
    grid = published_steps(CHAIN)
    assert grid.time.tolist() == list(range(1999, -2, -1))
    torch.testing.assert_close(grid.alpha[:-1] ** 2, CHAIN.alpha_bar.flip(0))
    assert published_steps(CHAIN, end="lowest").time.tolist() == list(range(1999, -1, -1))


def test_a_chain_down_to_its_lowest_level_has_a_call_less():
    assert len(make_grid("trailing", CHAIN, 1999, "lowest")) == 1999
    with pytest.raises(InputError, match=r"steps is 2000; .* 1 to 1999 network calls"):
        make_grid("trailing", CHAIN, 2000, "lowest")


@pytest.mark.parametrize(
    ("name", "schedule", "calls", "message"),
    [
        ("uniform", SCHEDULE, 5, "Did you mean 'uniform-time'"),
        ("uniform-time", SCHEDULE, 0, "steps is 0"),
        ("trailing", CHAIN, 2001, "steps is 2001"),
        ("published-steps", CHAIN, 2001, "steps is 2001"),
        ("published-steps", SCHEDULE, 5, "choose uniform-time"),
    ],
)
def test_a_grid_that_cannot_be_made_is_refused(name, schedule, calls, message):
    with pytest.raises(InputError, match=message):
        make_grid(name, schedule, calls)
