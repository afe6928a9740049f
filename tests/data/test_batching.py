from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffuseq.data.batching import BatchPlan, StoredPairs, collate
from diffuseq.data.pairs import Pair
from diffuseq.data.store import TokenStore, build_store
from diffuseq.errors import InputError

PAD = 0


def lengths(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    source = random.integers(1, 40, n)
    return source, np.maximum(1, source + random.integers(-3, 4, n))


def plan(n: int, batch_size: int, **changes: object) -> BatchPlan:
    return BatchPlan(*lengths(n), batch_size, **{"seed": 0, **changes})  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 700), batch_size=st.integers(1, 40), both=st.booleans(), epoch=st.integers(0, 5))
def test_an_epoch_holds_every_example_and_only_the_last_batch_repeats(
    n: int, batch_size: int, both: bool, epoch: int
) -> None:
    each = plan(n, batch_size, both_directions=both)
    batches = list(each.batches(epoch))
    assert len(batches) == each.batches_per_epoch
    assert all(len(batch) == batch_size for batch in batches)
    counts = np.bincount(np.concatenate(batches), minlength=each.num_examples)
    assert len(counts) == n * (2 if both else 1)
    assert counts.min() >= 1
    assert counts.sum() - len(counts) < batch_size


@pytest.mark.parametrize("start", [0, 1, 17, 63, 64])
def test_any_batch_is_reached_without_the_ones_before(start: int) -> None:
    each = plan(1000, 8)
    whole, tail = list(each.batches(2)), list(each.batches(2, start))
    assert len(tail) == len(whole) - start
    assert all((a == b).all() for a, b in zip(whole[start:], tail, strict=True))


def test_steps_run_on_through_the_epochs_and_are_reached_in_any_order() -> None:
    each = plan(50, 8)
    assert each.batches_per_epoch == 7
    expected = [*each.batches(0), *each.batches(1)]
    for step in (13, 0, 6, 7, 2, 1, 9):
        assert (each.rows(step) == expected[step]).all()


def test_epochs_and_seeds_differ_and_repeat() -> None:
    first = np.concatenate(list(plan(200, 8).batches(0)))
    assert (first == np.concatenate(list(plan(200, 8).batches(0)))).all()
    assert (first != np.concatenate(list(plan(200, 8).batches(1)))).any()
    assert (first != np.concatenate(list(plan(200, 8, seed=1).batches(0)))).any()


def test_grouping_by_length_leaves_little_padding_and_mixes_the_lengths_over_the_epoch() -> None:
    source, target = lengths(4000)
    batches = list(BatchPlan(source, target, 32, seed=0).batches(0))
    positions = sum(len(b) * (source[b].max() + target[b].max()) for b in batches)
    assert (source.sum() + target.sum()) / positions > 0.85
    longest = [int(source[b].max()) for b in batches]
    early, late = longest[: len(longest) // 2], longest[len(longest) // 2 :]
    assert abs(np.mean(early) - np.mean(late)) < 5


def test_no_pairs_and_an_empty_batch_are_errors() -> None:
    with pytest.raises(InputError, match="no pairs"):
        plan(0, 6)
    with pytest.raises(InputError, match="at least 1"):
        plan(10, 0)


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    pairs = [Pair("5 6 7", "8", ("8",)), Pair("9", "10 11 12 13 14", ("",)), Pair("15", "16", ("",))]
    encode = lambda texts: [[int(word) for word in text.split()] for text in texts]  # noqa: E731
    return build_store(
        pairs, encode, tmp_path / "s", max_source=9, max_target=9, vocab_size=20, unknown_id=None
    )


def test_collate_pads_to_the_longest_row_and_marks_the_padding(store: TokenStore) -> None:
    batch = collate(store, [0, 2], PAD)
    assert batch.source.tolist() == [[5, 6, 7], [15, PAD, PAD]]
    assert batch.source_padding.tolist() == [[False, False, False], [False, True, True]]
    assert batch.target.tolist() == [[8], [16]]
    assert not batch.target_padding.any()


def test_examples_beyond_the_pairs_are_the_pairs_turned_around(store: TokenStore) -> None:
    batch = collate(store, np.array([1, 3 + 1]), PAD)
    assert batch.source.tolist() == [[9, PAD, PAD, PAD, PAD], [10, 11, 12, 13, 14]]
    assert batch.target.tolist() == [[10, 11, 12, 13, 14], [9, PAD, PAD, PAD, PAD]]


def test_lengths_are_rounded_up_for_fixed_shapes(store: TokenStore) -> None:
    batch = collate(store, [1], PAD, multiple=4)
    assert batch.source.shape == (1, 4)
    assert batch.target.shape == (1, 7)  # and the end
    assert batch.target_padding.sum() == 2


def test_lengths_are_rounded_up_to_no_more_than_the_longest_text(store: TokenStore) -> None:
    lengths = (store.source_lengths, store.target_lengths)
    plan = BatchPlan(*lengths, batch_size=1, seed=0, both_directions=True)
    data = StoredPairs(store, plan, PAD, multiple=8)
    assert data.longest == 5
    assert data.collate([1]).target.shape == data.collate([4]).source.shape == (1, 5)
    assert data.collate([0, 1, 2]).source.shape[1] == 5


def test_stored_pairs_give_the_loop_the_rows_of_a_step_and_their_batch(store: TokenStore) -> None:
    lengths = (store.source_lengths, store.target_lengths)
    data = StoredPairs(store, BatchPlan(*lengths, batch_size=2, seed=0, both_directions=True), PAD)
    assert data.pairs([0, len(store), 2 * len(store) - 1]) == [0, 0, len(store) - 1]
    seen = [int(row) for step in range(3) for row in data.rows(step)]
    assert sorted(seen) == list(range(6))
    assert data.collate([0]).source.tolist() == data.collate([3]).target.tolist() == [[5, 6, 7]]
