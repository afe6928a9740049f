"""Laws of the length head."""

from __future__ import annotations

import pytest
import torch

from diffuseq.errors import InputError
from diffuseq.model.length import LengthHead


def example(rows: int = 16, width: int = 12) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    lengths = torch.randint(1, 8, (rows,), generator=generator)
    padding = torch.arange(7) >= lengths.unsqueeze(1)
    return torch.randn(rows, 7, width, generator=generator), padding, lengths


def test_probabilities_of_all_lengths_sum_to_one_for_short_and_overlong_sources() -> None:
    states, padding, _ = example()
    head = LengthHead(12, 10)
    for length in (0, 1, 10, 500):
        log_probs = head.log_probs(states, padding, torch.full((16,), length))
        assert log_probs.shape == (16, 10)
        torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(16))


def test_what_stands_in_padding_changes_nothing() -> None:
    states, padding, lengths = example()
    head = LengthHead(12, 10)
    noised = torch.where(padding.unsqueeze(-1), torch.full_like(states, 1e3), states)
    assert torch.equal(head.log_probs(states, padding, lengths), head.log_probs(noised, padding, lengths))


def test_lengths_come_likeliest_first_and_each_once() -> None:
    states, padding, lengths = example()
    head = LengthHead(12, 10)
    best, log_probs = head.top(states, padding, lengths, 10)
    assert (log_probs.diff(dim=1) <= 0).all()
    assert torch.equal(best.sort(1).values, torch.arange(1, 11).expand(16, 10))
    everything = head.log_probs(states, padding, lengths)
    torch.testing.assert_close(everything.gather(1, best - 1), log_probs)


def test_an_offset_learned_on_short_sources_carries_over_to_longer_ones() -> None:
    torch.manual_seed(0)
    head = LengthHead(12, 20)
    states, padding, lengths = example(rows=64)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        head.loss(states, padding, lengths, lengths + 2).backward()
        optimizer.step()
    longer = torch.full_like(lengths, 15)
    assert torch.equal(head.top(states, padding, longer, 1)[0].squeeze(1), longer + 2)


def test_more_lengths_than_there_are_is_refused() -> None:
    states, padding, lengths = example()
    with pytest.raises(InputError, match="1 to 10"):
        LengthHead(12, 10).top(states, padding, lengths, 11)
