"""The edit expert against brute force, and the edits against plain lists."""

from __future__ import annotations

import itertools
import random

import torch

from diffuseq.baselines.edits import align, delete, insert, insertions
from diffuseq.data.batch import pad

PAD, START, END, PLACEHOLDER = 0, 1, 2, 3


def longest_common(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """By trying every subsequence of `a`, the longest first."""
    for size in range(len(a), 0, -1):
        for part in itertools.combinations(a, size):
            rest = iter(b)
            if all(token in rest for token in part):
                return size
    return 0


def pairs(count: int) -> list[tuple[list[int], list[int]]]:
    draw = random.Random(5)
    words = [4, 5, 6]
    return [
        (
            [START, *draw.choices(words, k=draw.randint(0, 6)), END],
            [START, *draw.choices(words, k=draw.randint(0, 6)), END],
        )
        for _ in range(count)
    ]


def test_the_expert_keeps_as_much_as_brute_force_finds() -> None:
    examples = pairs(300)
    current, current_padding = pad([a for a, _ in examples], PAD)
    goal, goal_padding = pad([b for _, b in examples], PAD)
    kept_for = align(current, current_padding, goal, goal_padding)
    for row, (a, b) in enumerate(examples):
        kept = [(i, int(j)) for i, j in enumerate(kept_for[row]) if j >= 0]
        assert all(a[i] == b[j] for i, j in kept)
        assert all(one[1] < two[1] for one, two in itertools.pairwise(kept))
        assert kept[0] == (0, 0) and kept[-1] == (len(a) - 1, len(b) - 1)
        assert len(kept) == longest_common(tuple(a), tuple(b))


def test_deletions_insertions_and_words_of_the_expert_lead_to_the_goal() -> None:
    examples = pairs(300)
    current, current_padding = pad([a for a, _ in examples], PAD)
    goal, goal_padding = pad([b for _, b in examples], PAD)
    kept_for = align(current, current_padding, goal, goal_padding)
    kept, kept_padding = delete(current, current_padding, kept_for < 0, PAD)
    places, _ = delete(kept_for, current_padding, kept_for < 0, 0)
    opened, opened_padding = insert(kept, kept_padding, insertions(places, kept_padding), PLACEHOLDER, PAD)
    assert torch.equal(opened_padding, goal_padding)
    assert torch.equal(opened, torch.where(opened == PLACEHOLDER, opened, goal))
    filled = torch.where(opened == PLACEHOLDER, goal, opened)
    assert torch.equal(filled, goal)


def test_edits_are_those_of_plain_lists() -> None:
    draw = random.Random(1)
    rows = [a for a, _ in pairs(100)]
    tokens, padding = pad(rows, PAD)
    unwanted = [[draw.random() < 0.5 for _ in row] for row in rows]
    counts = [[draw.randint(0, 3) for _ in row[1:]] for row in rows]
    width = tokens.shape[1]
    shorter, shorter_padding = delete(
        tokens, padding, torch.tensor([[*u, *[False] * (width - len(u))] for u in unwanted]), PAD
    )
    longer, longer_padding = insert(
        tokens, padding, torch.tensor([[*c, *[7] * (width - 1 - len(c))] for c in counts]), PLACEHOLDER, PAD
    )
    for i, row in enumerate(rows):
        assert shorter[i][~shorter_padding[i]].tolist() == [
            t for t, u in zip(row, unwanted[i], strict=True) if not u
        ]
        expected = [row[0]]
        for token, count in zip(row[1:], counts[i], strict=True):
            expected += [PLACEHOLDER] * count + [token]
        assert longer[i][~longer_padding[i]].tolist() == expected
    assert (shorter[shorter_padding] == PAD).all() and (longer[longer_padding] == PAD).all()


def test_padding_beside_a_row_changes_nothing() -> None:
    examples = pairs(40)
    current, current_padding = pad([a for a, _ in examples], PAD)
    goal, goal_padding = pad([b for _, b in examples], PAD)
    together = align(current, current_padding, goal, goal_padding)
    for row, (a, b) in enumerate(examples):
        alone = align(*pad([a], PAD), *pad([b], PAD))
        assert torch.equal(together[row, : len(a)], alone[0])
