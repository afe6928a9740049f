"""Lengths are apportioned: in proportion to their probability, the likeliest first, and nested."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffuseq.decoding.lengths import apportion


def random_log_probs(seed: int, lengths: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(2, lengths, generator=generator)).log_softmax(-1)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10_000), candidates=st.integers(1, 40))
def test_seats_are_within_one_of_the_exact_share_of_two_lengths(seed: int, candidates: int) -> None:
    log_p = random_log_probs(seed, 2)
    ranks = apportion(log_p, candidates)
    seats = (ranks == 0).sum(1)
    assert ((seats - candidates * log_p[:, 0].exp()).abs() <= 1).all()


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10_000), lengths=st.integers(1, 6), candidates=st.integers(1, 40))
def test_the_likeliest_length_is_first_and_likelier_lengths_never_have_fewer_seats(
    seed: int, lengths: int, candidates: int
) -> None:
    log_p = random_log_probs(seed, lengths)
    ranks = apportion(log_p, candidates)
    assert torch.equal(ranks[:, 0], log_p.argmax(-1))
    seats = torch.nn.functional.one_hot(ranks, lengths).sum(1)
    by_probability = seats.gather(1, log_p.argsort(-1, descending=True))
    assert (by_probability.diff(dim=-1) <= 0).all()


def test_more_candidates_change_none_of_the_first() -> None:
    log_p = random_log_probs(1, 5)
    assert torch.equal(apportion(log_p, 20)[:, :7], apportion(log_p, 7))


def test_shares_of_five_three_and_two_tenths_get_five_three_and_two_of_ten() -> None:
    ranks = apportion(torch.tensor([[0.5, 0.3, 0.2]]).log(), 10)
    assert torch.bincount(ranks[0]).tolist() == [5, 3, 2]
