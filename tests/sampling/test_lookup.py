"""What follows in another text on the last words of this one."""

from __future__ import annotations

import pytest
import torch

from diffuseq.sampling.lookup import looked_up

KNOWN = [5, 1, 2, 3, 7, 1, 2, 4, 9, -1]


def follow(text: list[int], known: list[int] = KNOWN, length: int = 8) -> list[int] | None:
    """What is found behind a text, in a window of `length`."""
    tokens = torch.full((1, length), 8)  # what stands behind must not matter
    tokens[0, : len(text)] = torch.tensor(text, dtype=torch.long)
    words, is_found = looked_up(tokens, torch.tensor([len(text) - 1]), torch.tensor([known]))
    assert (words[0, : len(text)] == -1).all()
    return words[0, len(text) :].tolist() if is_found else None


@pytest.mark.parametrize(
    ("text", "follows"),
    [
        ([5], [1, 2, 3, 7, 1, 2, 4]),
        ([6, 1, 2], [3, 7, 1, 2, 4]),  # of two places that have as much in common the first
        ([3, 7, 1, 2], [4, 9, -1, -1]),  # of two places the one that has more in common
        ([0, 3, 3, 3, 7], [1, 2, 4]),
        ([5, 9], None),  # nothing follows on the last word
        ([5, 6], None),
    ],
)
def test_what_follows_on_the_last_words(text: list[int], follows: list[int] | None) -> None:
    assert follow(text) == follows


def test_words_in_common_are_counted_from_the_last_one_back() -> None:
    assert follow([1, 2, 3, 6, 4], [1, 2, 3, 4, 0, 6, 4, 5]) == [5, -1, -1]
    assert follow([1, 2], [2, 3]) == [3, -1, -1, -1, -1, -1], (
        "a text that is looked up in may begin in the middle"
    )


def test_a_text_without_words_and_one_that_fills_its_window_go_on_with_nothing() -> None:
    tokens, known = torch.tensor([[8, 8], [5, 1]]), torch.tensor([KNOWN, KNOWN])
    words, is_found = looked_up(tokens, torch.tensor([-1, 1]), known)
    assert is_found.tolist() == [False, True]
    assert (words == -1).all()


def test_a_known_text_may_be_shorter_or_longer_than_the_other() -> None:
    assert follow([2], [1, 2, 3]) == [3, -1, -1, -1, -1, -1, -1]
    assert follow([5], KNOWN + [6] * 20, length=3) == [1, 2]
