"""ROUGE is torchmetrics', on anything."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.text.rouge import rouge_score

from diffuseq.metrics.rouge import common_subsequence, rouge_l, rouge_n

WORDS = ["a", "B", "c'd", "e-f", "12", "é", "?", "a"]
TEXT = st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(TEXT, st.lists(TEXT, min_size=1, max_size=3)), min_size=1, max_size=4))
def test_scores_are_those_of_torchmetrics(rows: list[tuple[str, list[str]]]) -> None:
    texts, references = [h for h, _ in rows], [r for _, r in rows]
    keys = ("rouge1", "rouge2", "rougeL")
    wanted = [
        [float(rouge_score(h, [r], accumulate="best", rouge_keys=keys)[f"{key}_fmeasure"]) for key in keys]
        for h, r in rows
    ]
    ours = np.stack(
        [rouge_n(texts, references, 1), rouge_n(texts, references, 2), rouge_l(texts, references)]
    )
    np.testing.assert_allclose(ours.T, wanted, atol=1e-6)


def test_the_common_subsequence_may_have_gaps_and_any_length() -> None:
    assert common_subsequence(["a", "b", "c", "b", "d", "a", "b"], ["b", "d", "c", "a", "b", "a"]) == 4
    assert common_subsequence(["x"] * 200, ["x"] * 150) == 150
    assert common_subsequence([], ["x"]) == 0
