"""Noise levels of training: shares as asked, at least one noised token, padding never noised."""

from __future__ import annotations

import torch

from diffuseq.diffusion.levels import mixed_levels, one_level

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
