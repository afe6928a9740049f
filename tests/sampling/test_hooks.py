import math

import pytest
import torch

from diffuseq.diffusion.schedule import LogLinearSchedule
from diffuseq.errors import InputError
from diffuseq.sampling.grid import make_grid
from diffuseq.sampling.hooks import anchor, clamp, guide, in_turn, pin, truncate
from diffuseq.sampling.noise import RowNoise, batch_noise
from diffuseq.sampling.step import Estimate

GRID = make_grid("uniform-time", LogLinearSchedule(3.0, -9.0), 4)
TABLE = torch.eye(3)


def test_anchoring_puts_back_the_source_and_nothing_else():
    x, known = torch.zeros(2, 3, 2), torch.ones(2, 3, 2)
    mask = torch.tensor([[True, False, False], [True, True, False]])
    out = anchor(known, mask)(x, 0.6, 0.8)
    assert torch.equal(out[mask], known[mask]) and torch.equal(out[~mask], x[~mask])


def test_pinned_tokens_get_the_level_of_their_neighbours_if_asked():
    x, known = torch.zeros(1, 30_000, 2), torch.full((1, 30_000, 2), 5.0)
    mask = torch.ones(1, 30_000, dtype=torch.bool)
    project = pin(known, mask, batch_noise(torch.Generator().manual_seed(0)))
    noised = project(x, 0.6, 0.8)
    assert float(noised.mean()) == pytest.approx(3.0, abs=0.02)
    assert float(noised.std()) == pytest.approx(0.8, rel=0.02)
    assert torch.equal(project(x, 1.0, 0.0), known)


def test_projects_apply_in_the_order_given():
    everywhere = torch.ones(1, 2, dtype=torch.bool)
    first_only = torch.tensor([[True, False]])
    project = in_turn(anchor(torch.ones(1, 2, 1), everywhere), anchor(torch.full((1, 2, 1), 2.0), first_only))
    assert project(torch.zeros(1, 2, 1), 1.0, 0.0).flatten().tolist() == [2.0, 1.0]


@pytest.mark.parametrize(
    ("from_share", "to_share", "expected"),
    [(0.0, 1.0, [0, 1, 2, 3]), (0.5, 1.0, [2, 3]), (0.0, 0.25, [0]), (0.3, 0.8, [2, 3])],
)
def test_clamping_rounds_to_the_table_in_its_range_of_steps(from_share, to_share, expected):
    logits = torch.ones(1, 1, 3)
    denoise = clamp(lambda x, time: Estimate(0.9 * x, logits), TABLE, GRID, from_share, to_share)
    estimates = [denoise(TABLE[None, 1:2], time) for time in GRID.time[:-1].tolist()]
    rounded = [
        index for index, estimate in enumerate(estimates) if torch.equal(estimate.x0, TABLE[None, 1:2])
    ]
    assert rounded == expected
    assert all(estimate.logits is logits for estimate in estimates)


@pytest.mark.parametrize(("from_share", "to_share"), [(0.5, 0.5), (-0.1, 1.0), (0.0, 1.1)])
def test_a_range_of_steps_that_is_none_is_refused(from_share, to_share):
    with pytest.raises(InputError, match="0 ≤ from < to ≤ 1"):
        clamp(lambda x, time: Estimate(x), TABLE, GRID, from_share, to_share)


@pytest.mark.parametrize("limit", [0.5, 1.0, 2.0])
def test_truncated_noise_has_the_distribution_of_redrawing(limit):
    """Compared with redrawing itself: the same quantiles, nothing beyond the limit."""
    plain = batch_noise(torch.Generator().manual_seed(0))
    ours = truncate(plain, limit)(torch.empty(200_000))
    redrawn = plain(torch.empty(1_000_000))
    redrawn = redrawn[redrawn.abs() <= limit][:200_000]
    assert ours.abs().max() <= limit
    shares = torch.linspace(0.05, 0.95, 10)
    torch.testing.assert_close(ours.quantile(shares), redrawn.quantile(shares), atol=0.012, rtol=0)


def test_a_far_limit_leaves_the_noise_as_it_is_and_zero_stays_zero():
    x = torch.empty(1, 5, 4)
    ours, plain = truncate(RowNoise([3], [4]), 30.0)(x), RowNoise([3], [4])(x)
    torch.testing.assert_close(ours, plain)
    assert (ours[0, 4] == 0).all()


@pytest.mark.parametrize("limit", [0.0, -1.0, math.nan])
def test_a_limit_that_leaves_nothing_is_refused(limit):
    with pytest.raises(InputError, match="above 0"):
        truncate(RowNoise([1]), limit)


def test_guidance_moves_away_from_the_unconditional_estimate():
    conditional, unconditional = (
        lambda x, time: Estimate(x + 1, x + 2),
        lambda x, time: Estimate(x, x),
    )
    x = torch.zeros(1, 2, 3)
    guided = guide(conditional, unconditional, 3.0)(x, 0.5)
    assert (guided.x0 == 3).all() and (guided.logits == 6).all()
    assert guide(conditional, unconditional, 1.0) is conditional
    assert guide(lambda x, time: Estimate(x + 1), unconditional, 2.0)(x, 0.5).logits is None
