import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffuseq.decoding.rounding import by_logits, likeliest, nearest


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_an_embedding_row_rounds_to_itself():
    table = normal(50, 8)
    ids = torch.tensor([[3, 49, 0], [7, 7, 12]])
    assert torch.equal(nearest(table[ids], table), ids)


@given(seed=st.integers(0, 999), chunk=st.sampled_from([1, 3, 7, 100]))
@settings(max_examples=30)
def test_the_nearest_row_is_the_one_at_the_smallest_distance(seed, chunk):
    x, table = normal(2, 5, 4, seed=seed), 2 * normal(30, 4, seed=seed + 1)
    assert torch.equal(nearest(x, table, chunk), torch.cdist(x, table.expand(2, 30, 4)).argmin(-1))


def test_a_long_row_of_the_table_is_not_preferred_for_its_length():
    table = torch.tensor([[1.0, 0.0], [10.0, 0.0]])
    assert nearest(torch.tensor([[2.0, 0.0]]), table).tolist() == [0]
    assert by_logits(torch.tensor([[2.0, 0.0]]), table).tolist() == [1]


@pytest.mark.parametrize("chunk", [1, 4, 1000])
def test_rounding_by_logits_is_the_argmax_of_the_head(chunk):
    x, weight, bias = normal(3, 7, 4), normal(20, 4, seed=1), normal(20, seed=2)
    assert torch.equal(by_logits(x, weight, bias, chunk), (x @ weight.T + bias).argmax(-1))


def test_the_likeliest_words_come_with_their_probability():
    logits = normal(2, 3, 9)
    ids, confidence = likeliest(logits)
    torch.testing.assert_close(confidence, logits.softmax(-1).amax(-1))
    assert torch.equal(ids, logits.argmax(-1))


def test_nothing_rounds_to_nothing():
    assert nearest(torch.empty(2, 0, 4), normal(5, 4)).shape == (2, 0)
