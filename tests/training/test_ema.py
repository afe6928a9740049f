"""Averaged weights."""

import torch

from diffuseq.training.ema import AveragedWeights


def test_the_average_is_the_weighted_sum_of_all_weights_so_far() -> None:
    weights = [torch.tensor([4.0, -2.0]), torch.tensor([[1.0]])]
    average = AveragedWeights(weights, decay=0.9)
    expected = [w.clone() for w in weights]
    for step in range(1, 30):
        for w in weights:
            w.add_(step * 0.5)
        average.update(step)
        rate = min(0.9, (1 + step) / (10 + step))
        expected = [rate * e + (1 - rate) * w for e, w in zip(expected, weights, strict=True)]
    torch.testing.assert_close(average.values, expected)


def test_constant_weights_are_their_own_average() -> None:
    weights = [torch.randn(5)]
    average = AveragedWeights(weights, decay=0.999)
    for step in range(1, 50):
        average.update(step)
    torch.testing.assert_close(average.values, weights)


def test_the_first_steps_are_forgotten_faster_than_the_decay_says() -> None:
    average = AveragedWeights([torch.zeros(1)], decay=0.999)
    rates = [average.rate(step) for step in range(1, 20_000)]
    assert rates == sorted(rates)
    assert rates[0] < 0.2
    assert rates[-1] == 0.999


def test_weights_come_back_bit_equal_after_the_average_stood_in_for_them() -> None:
    weights = [torch.nn.Parameter(torch.randn(7))]
    average = AveragedWeights(weights, decay=0.5)
    with torch.no_grad():
        weights[0].add_(1.0)
    before, averaged = weights[0].detach().clone(), average.values[0].clone()
    with average.in_place():
        assert torch.equal(weights[0], averaged)
    assert torch.equal(weights[0], before)
    assert torch.equal(average.values[0], averaged)


def test_without_averaging_the_weights_stand_for_themselves() -> None:
    weights = [torch.randn(3)]
    average = AveragedWeights(weights, decay=0.0)
    average.update(1)
    with average.in_place():
        assert average.values == []
