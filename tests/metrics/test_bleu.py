"""Sentence-BLEU is NLTK's, on anything."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate.bleu_score import SmoothingFunction
from nltk.translate.bleu_score import sentence_bleu as nltk_bleu

from diffuseq.metrics import ngrams
from diffuseq.metrics.bleu import pairwise_sentence_bleu, sentence_bleu

TEXT = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=9).map(" ".join)


def by_nltk(hypothesis: str, *references: str) -> float:
    smoothing = SmoothingFunction().method4
    return float(
        nltk_bleu([text.split() for text in references], hypothesis.split(), smoothing_function=smoothing)
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=8))
def test_one_reference_scores_as_in_nltk(pairs: list[tuple[str, str]]) -> None:
    ours = sentence_bleu([h for h, _ in pairs], [r for _, r in pairs])
    np.testing.assert_allclose(ours, [by_nltk(h, r) for h, r in pairs], atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TEXT, st.lists(TEXT, min_size=1, max_size=4)), min_size=1, max_size=8))
def test_several_references_score_as_in_nltk(rows: list[tuple[str, list[str]]]) -> None:
    ours = sentence_bleu([h for h, _ in rows], [r for _, r in rows])
    np.testing.assert_allclose(ours, [by_nltk(h, *r) for h, r in rows], atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(TEXT, min_size=1, max_size=4), min_size=1, max_size=5))
def test_pairwise_scores_are_those_of_the_pairs(groups: list[list[str]]) -> None:
    matrix = pairwise_sentence_bleu(groups)
    for g, group in enumerate(groups):
        for i, hypothesis in enumerate(group):
            wanted = [by_nltk(hypothesis, reference) for reference in group]
            np.testing.assert_allclose(matrix[g, i, : len(group)], wanted, atol=1e-12)


def test_many_groups_cross_the_borders_of_the_blocks() -> None:
    groups = [[f"w{i} x y", f"x y w{i % 7}", f"w{i}"] for i in range(300)]
    whole, alone = pairwise_sentence_bleu(groups), [pairwise_sentence_bleu([group])[0] for group in groups]
    np.testing.assert_allclose(whole, alone, atol=1e-12)


@pytest.mark.parametrize(
    ("hypothesis", "reference", "score"),
    [
        ("", "a b", 0.0),
        ("a", "a", 1.0),
        ("a", "a b", np.exp(-1)),
        ("b", "a", 0.0),
        ("a b c d", "a b c d", 1.0),
    ],
)
def test_empty_and_one_word_outputs(hypothesis: str, reference: str, score: float) -> None:
    assert sentence_bleu([hypothesis], [reference])[0] == pytest.approx(score)


def test_no_texts_give_no_scores() -> None:
    assert sentence_bleu([], []).shape == (0,)
    assert pairwise_sentence_bleu([["", ""]]).tolist() == [[[0, 0], [0, 0]]]


def test_one_long_text_takes_no_room_beside_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    sizes = draw.integers(0, 9, size=(150, 3))
    groups = [[" ".join(draw.choice(list("abcde"), size=size)) for size in row] for row in sizes]
    whole = pairwise_sentence_bleu(groups)
    monkeypatch.setattr(ngrams, "_MOST_CELLS", 100)
    assert (pairwise_sentence_bleu(groups) == whole).all()
    monkeypatch.undo()
    groups[7][0] = " ".join(map(str, range(60_000)))
    tracemalloc.start()
    pairwise_sentence_bleu(groups)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6  # 100 MB where 128 groups take the room of the largest
