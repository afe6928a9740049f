import json

import pytest
import torch
from torch import Tensor

from diffuseq.diffusion.times import LossSecondMoment, UniformTimes, from_all_processes
from diffuseq.errors import InputError


def filled(losses: list[float], history: int = 3, mixing: float = 0.001) -> LossSecondMoment:
    sampler = LossSecondMoment(len(losses), history, mixing)
    for _ in range(history):
        sampler.update(torch.arange(len(losses)), torch.tensor(losses))
    return sampler


def test_times_are_uniform_until_every_time_has_its_history() -> None:
    sampler = LossSecondMoment(3, history=2)
    sampler.update(torch.tensor([0, 0, 1, 1, 2]), torch.tensor([9.0, 9.0, 1.0, 1.0, 1.0]))
    assert sampler.probabilities().tolist() == pytest.approx([1 / 3] * 3)
    sampler.update(torch.tensor([2]), torch.tensor([1.0]))
    assert sampler.probabilities()[0] > 0.8


def test_probabilities_follow_the_root_mean_square_of_the_losses() -> None:
    sampler = filled([1.0, 3.0], mixing=0.1)
    assert sampler.probabilities().tolist() == pytest.approx([0.9 * 0.25 + 0.05, 0.9 * 0.75 + 0.05])


def test_old_losses_are_forgotten() -> None:
    sampler = filled([100.0, 1.0])
    sampler.update(torch.zeros(3, dtype=torch.long), torch.ones(3))
    assert sampler.probabilities().tolist() == pytest.approx([0.5, 0.5])


def test_weights_keep_the_expected_loss_that_of_uniform_times() -> None:
    losses = torch.tensor([1.0, 3.0, 8.0])
    sampler = filled(losses.tolist())
    times, weights = sampler.sample(200_000, torch.Generator().manual_seed(0))
    p = sampler.probabilities()
    assert torch.bincount(times) / len(times) == pytest.approx(p.numpy(), abs=0.01)
    assert float((weights * losses[times]).mean()) == pytest.approx(float(losses.mean()), rel=0.01)


def test_uniform_times_reach_every_time_with_weight_one() -> None:
    times, weights = UniformTimes(5).sample(1000, torch.Generator().manual_seed(0))
    assert times.unique().tolist() == [0, 1, 2, 3, 4]
    assert weights.unique().tolist() == [1.0]


def test_the_generator_decides_the_times() -> None:
    sampler = filled([1.0, 2.0, 3.0])
    draws = [sampler.sample(50, torch.Generator().manual_seed(seed))[0] for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_processes_that_gather_keep_one_history() -> None:
    """Two processes with half of the losses each end where one with all of them does."""
    times, losses = torch.arange(8) % 4, torch.arange(1.0, 9.0)
    alone = LossSecondMoment(4, history=2)
    alone.update(times, losses)
    halves = [(times[:4], losses[:4]), (times[4:], losses[4:])]

    def gather(values: Tensor) -> Tensor:
        return times if values.dtype == torch.long else losses

    for own_times, own_losses in halves:
        process = LossSecondMoment(4, history=2, gather=gather)
        process.update(own_times, own_losses)
        assert torch.equal(process.probabilities(), alone.probabilities())


def test_without_other_processes_gathering_gives_the_values_back() -> None:
    values = torch.tensor([1.0, 2.0])
    assert torch.equal(from_all_processes(values), values)


def test_the_state_survives_json() -> None:
    sampler = filled([1.0, 2.0, 5.0])
    restored = LossSecondMoment(3, history=3)
    restored.load_state(json.loads(json.dumps(sampler.state())))
    assert torch.equal(restored.probabilities(), sampler.probabilities())


def test_a_state_takes_the_place_of_all_that_was_seen() -> None:
    sampler, young = filled([1.0, 2.0, 5.0]), LossSecondMoment(3, history=3)
    young.update(torch.tensor([0, 1]), torch.tensor([4.0, 4.0]))
    sampler.load_state(young.state())
    assert sampler.probabilities().tolist() == pytest.approx([1 / 3] * 3)


def test_asking_again_does_not_look_through_the_history(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every micro-batch asks, and 2,000 times of 10 losses take longer than a small network's step."""
    sampler = filled([1.0, 3.0], mixing=0.0)
    monkeypatch.setattr(sampler, "_history", None)
    assert sampler.probabilities().tolist() == pytest.approx([0.25, 0.75])


def test_the_state_of_another_chain_is_refused() -> None:
    with pytest.raises(InputError, match="has 3 times, but diffusion_steps is 4"):
        LossSecondMoment(4).load_state(filled([1.0, 2.0, 5.0]).state())


def test_a_loss_that_is_not_finite_leaves_the_history_alone() -> None:
    sampler = filled([1.0, 2.0])
    before = sampler.probabilities()
    sampler.update(torch.tensor([0, 1]), torch.tensor([float("nan"), float("inf")]))
    assert torch.equal(sampler.probabilities(), before)


def test_losses_of_zero_everywhere_give_uniform_times() -> None:
    assert filled([0.0, 0.0]).probabilities().tolist() == [0.5, 0.5]
