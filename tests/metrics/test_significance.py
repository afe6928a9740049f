from __future__ import annotations

import numpy as np
import pytest

from diffuseq.metrics.significance import Statistics, holm, interval, p_value


def values(seed: int, shift: float = 0.0, size: int = 400) -> Statistics:
    return Statistics.of_mean(np.random.default_rng(seed).normal(shift, 1.0, size))


def test_the_interval_has_the_width_that_theory_gives() -> None:
    low, high = interval(values(0).resample(2000, seed=1))
    assert (high - low) == pytest.approx(2 * 1.96 / 20, rel=0.1)
    assert low < values(0).score() < high


def test_any_whole_number_is_a_seed() -> None:
    draws = [tuple(values(0).resample(3, seed)) for seed in (-1, 0, 1, 2**70)]
    assert len({*draws}) >= 3


def test_equal_systems_are_not_significant_and_different_ones_are() -> None:
    assert p_value(values(0), values(0), 500, seed=0) == 1.0
    assert p_value(values(0), values(0, 1.0), 500, seed=0) == pytest.approx(1 / 501)
    assert p_value(values(0), values(1), 500, seed=0) > 0.05


def test_a_few_sentences_prove_nothing_however_large_their_difference() -> None:
    low, high = np.zeros(6), np.ones(6)
    for size, least in ((1, 1.0), (2, 0.5), (5, 1 / 16), (6, 1 / 32)):
        few = Statistics.of_mean(low[:size]), Statistics.of_mean(high[:size])
        assert p_value(*few, 500, seed=0) == least


def test_pairing_finds_a_small_but_constant_difference() -> None:
    base = np.random.default_rng(0).normal(0, 10, 300)
    noise = np.random.default_rng(1).normal(0, 0.1, 300)
    assert p_value(Statistics.of_mean(base), Statistics.of_mean(base + 0.05 + noise), 500, 0) < 0.01


def test_false_alarms_are_about_as_rare_as_promised() -> None:
    alarms = [
        p_value(values(i, size=100), values(i + 1000, size=100), 200, seed=i) < 0.05 for i in range(200)
    ]
    assert np.mean(alarms) < 0.1


def test_values_that_are_not_there_do_not_count() -> None:
    assert Statistics.of_mean(np.array([1.0, np.nan, 3.0])).score() == 2.0


def test_holm_adjusts_by_rank_and_keeps_the_order() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
