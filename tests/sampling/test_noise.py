import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from diffuseq.sampling.noise import RowNoise, batch_noise, mix_seed, stratify, word_quantiles


def draws(seeds: list[int], lengths: list[int] | None, width: int, calls: int = 3) -> list[torch.Tensor]:
    noise = RowNoise(seeds, lengths)
    return [noise(torch.empty(len(seeds), width, 4)) for _ in range(calls)]


def test_the_noise_of_a_row_does_not_depend_on_the_batch():
    together = draws([5, 6, 7], [3, 9, 6], width=9)
    alone = draws([7], [6], width=6)
    shuffled = draws([7, 5], [6, 3], width=12)
    for full, single, other in zip(together, alone, shuffled, strict=True):
        assert torch.equal(full[2, :6], single[0]) and torch.equal(other[0, :6], single[0])
        assert torch.equal(other[1, :3], full[0, :3])


def test_beyond_its_length_a_row_is_zero():
    (noise,) = draws([1, 2], [3, 5], width=5, calls=1)
    assert (noise[0, 3:] == 0).all() and (noise[0, :3] != 0).all()


class CountReads(TorchDispatchMode):
    """Counts the numbers that are read off tensors one by one: so often a GPU is waited for."""

    reads = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.reads += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_lengths_in_a_tensor_are_those_in_a_list_and_not_read_one_by_one():
    lengths = torch.tensor([3, 5, 2])
    with CountReads() as counted:
        noise = RowNoise([1, 2, 3], lengths)
    assert counted.reads == 0
    assert torch.equal(noise(torch.empty(3, 5, 4)), draws([1, 2, 3], [3, 5, 2], width=5, calls=1)[0])


def test_every_call_gives_fresh_noise_and_every_seed_its_own():
    first, second, _ = draws([1, 2], None, width=5)
    assert (first != second).all() and (first[0] != first[1]).all()


@pytest.mark.parametrize("noise", [RowNoise([3] * 4), batch_noise(torch.Generator().manual_seed(3))])
def test_the_noise_is_standard_normal_in_the_dtype_of_the_tensor(noise):
    drawn = noise(torch.empty(4, 500, 16, dtype=torch.float64))
    assert drawn.dtype == torch.float64
    assert float(drawn.mean()) == pytest.approx(0, abs=0.03) and float(drawn.std()) == pytest.approx(
        1, abs=0.03
    )


def test_a_wrong_number_of_rows_is_an_error():
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        RowNoise([1, 2])(torch.empty(3, 4, 5))


def test_mixed_seeds_are_stable_and_all_different():
    assert mix_seed(0, "how do i cook rice ?", 3) == 7656944047872439187
    seeds = {mix_seed(seed, text, k) for seed in range(5) for text in ("a", "b", "0") for k in range(12)}
    assert len(seeds) == 5 * 3 * 12 and all(0 <= seed < 2**63 for seed in seeds)


def test_candidates_share_out_the_quantiles_of_every_position():
    seeds = list(range(20))
    numbers = stratify(torch.rand(20, 30), seeds, 5).view(4, 5, 30)
    parts = (numbers * 5).long().sort(1).values
    assert torch.equal(parts, torch.arange(5)[:, None].expand(4, 5, 30))
    assert not torch.equal(numbers[0].argsort(0), numbers[1].argsort(0))


def test_a_stratified_number_alone_is_uniform_and_knows_nothing_of_its_neighbours():
    numbers = stratify(torch.rand(40_000, 2), list(range(40_000)), 4)
    for candidate in range(4):
        first, second = numbers[candidate::4].T
        for column in (first, second):
            share = torch.histc(column, 8, 0, 1) / len(column)
            torch.testing.assert_close(share, torch.full((8,), 1 / 8), atol=0.015, rtol=0)
        assert abs(torch.corrcoef(torch.stack((first, second)))[0, 1]) < 0.04


def test_who_gets_which_part_depends_on_the_source_alone():
    uniform = torch.rand(6, 9)
    together = stratify(uniform, [1, 2, 3, 4, 5, 6], 3)
    assert torch.equal(together[3:, :5], stratify(uniform[3:, :5], [4, 5, 6], 3))
    assert torch.equal(stratify(uniform, [1, 2, 3, 4, 5, 6], 1), uniform)


def test_words_are_drawn_by_fresh_uniform_numbers_stratified_or_not():
    x, seeds = torch.empty(4000, 3, 2), list(range(4000))
    for rows in (1, 5):
        quantiles = word_quantiles(RowNoise(seeds), x, seeds, stratified=rows)
        first, second = quantiles(), quantiles()
        assert first.shape == (4000, 3) and first.min() > 0 and first.max() < 1
        assert float(first.mean()) == pytest.approx(0.5, abs=0.01)
        assert float(first.std()) == pytest.approx(12**-0.5, abs=0.01)
        assert abs(torch.corrcoef(torch.stack((first.flatten(), second.flatten())))[0, 1]) < 0.04
        spread = float(first.view(-1, 5, 3).mean(1).std())
        assert spread == pytest.approx(60**-0.5 / (1 if rows == 1 else 5), abs=0.01)
