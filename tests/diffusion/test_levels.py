"""Noise levels of training: shares as asked, at least one noised token, padding never noised."""

from __future__ import annotations

import math

import torch

from diffuseq.diffusion.levels import GROUP, grouped, mixed_levels, one_level, settling_order

LENGTHS = torch.randint(1, 12, (4000,), generator=torch.Generator().manual_seed(0))
PADDING = torch.arange(12) >= LENGTHS[:, None]


def test_one_level_covers_every_part_of_the_range_once() -> None:
    time = one_level(100, torch.Generator().manual_seed(0), torch.device("cpu")).flatten()
    assert torch.equal((time * 100).floor().long().sort().values, torch.arange(100))


def test_without_token_wise_noise_a_row_has_one_level_and_all_its_tokens_are_noised() -> None:
    time, noised = mixed_levels(PADDING, 0.0, torch.Generator().manual_seed(0))
    assert (time == time[:, :1]).all()
    assert torch.equal(noised, ~PADDING)


def test_token_wise_rows_are_clean_or_pure_noise_and_never_all_clean() -> None:
    time, noised = mixed_levels(PADDING, 1.0, torch.Generator().manual_seed(0))
    assert torch.equal(time == 1, noised)
    assert ((time == 0) | (time == 1)).all()
    assert (noised.sum(1) >= 1).all()
    assert not (noised & PADDING).any()
    assert (noised.sum(1) <= LENGTHS).all()


def test_the_number_of_noised_tokens_is_uniform() -> None:
    padding = torch.zeros(20_000, 5, dtype=torch.bool)
    _, noised = mixed_levels(padding, 1.0, torch.Generator().manual_seed(0))
    share = torch.bincount(noised.sum(1), minlength=6)[1:] / 20_000
    torch.testing.assert_close(share, torch.full((5,), 0.2), atol=0.015, rtol=0)
    torch.testing.assert_close(noised.float().mean(0), torch.full((5,), 0.6), atol=0.015, rtol=0)


def test_the_share_of_token_wise_rows_is_as_asked() -> None:
    padding = torch.zeros(20_000, 6, dtype=torch.bool)
    time, _ = mixed_levels(padding, 0.3, torch.Generator().manual_seed(0))
    split = ((time == 0) | (time == 1)).all(1).float().mean()
    torch.testing.assert_close(split, torch.tensor(0.3), atol=0.015, rtol=0)


def _orders(look_ahead: float, left_to_right: float = 1.0, length_first: float = 0.0) -> torch.Tensor:
    padding = torch.arange(40) >= torch.randint(20, 41, (3000, 1), generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(0)
    return settling_order(padding, left_to_right, length_first, generator, look_ahead)[:, :20]


def test_a_share_of_the_rows_looks_ahead_in_groups_of_one_size() -> None:
    ranks = _orders(0.3)
    place = torch.arange(20.0)
    is_grouped = (ranks != place).any(1)
    assert 0.25 < is_grouped.float().mean() < 0.33  # a group of one row in seventy holds a single word here
    steps = ranks[is_grouped].diff(dim=1)
    assert ((steps == 0) | (steps == 1)).all() and (ranks[:, 0] == 0).all()
    for row in ranks[is_grouped].int().tolist():
        sizes = [row.count(rank) for rank in sorted(set(row))]
        inner = sizes[1:-1]
        assert len(set(inner)) <= 1 and all(GROUP[0] <= size <= GROUP[1] for size in inner)


def test_groups_have_all_sizes_small_ones_more_often() -> None:
    rank = torch.arange(200.0).expand(20_000, -1)
    inner = (grouped(rank, torch.Generator().manual_seed(0)) == 1).sum(1)
    count = inner.bincount(minlength=GROUP[1] + 1)
    assert len(count) == GROUP[1] + 1 and not count[: GROUP[0]].any()
    within = count[GROUP[0] :] / len(rank)
    size = torch.arange(GROUP[0], GROUP[1] + 1)
    expected = ((size + 1) / size).log() / math.log((GROUP[1] + 1) / GROUP[0])
    torch.testing.assert_close(within, expected, atol=0.01, rtol=0)


def test_only_rows_from_left_to_right_whose_end_comes_last_look_ahead() -> None:
    random = _orders(1.0, left_to_right=0.0)
    assert (random.sort(1).values.diff(dim=1) > 0).all(), "no two positions of random orders are equal"
    end_first = _orders(1.0, length_first=1.0)
    assert torch.equal(end_first, torch.arange(1.0, 21.0).expand_as(end_first))
