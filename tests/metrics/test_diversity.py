from __future__ import annotations

import numpy as np
import pytest

from diffuseq.metrics.bleu import sentence_bleu
from diffuseq.metrics.diversity import dist_n, div_n, published_length, self_bleu, word_length


def test_dist_counts_distinct_over_all_ngrams_of_each_text() -> None:
    assert dist_n(["a b a b", "", "a"], 1).tolist() == [0.5, 0.0, 1.0]
    assert dist_n(["a b a b", "", "a"], 2) == pytest.approx([2 / 3, 0.0, 0.0])


def test_div_pools_the_ngrams_of_all_candidates() -> None:
    same, different = ["a b c d e"] * 2, ["a b c d e", "f g h i j"]
    assert div_n([same, different, ["a b", ""]]).tolist() == [0.5, 1.0, 0.0]


def test_self_bleu_looks_at_the_pairs_in_order() -> None:
    group = ["a b c d", "a b c e f", "x y"]
    pairs = [(0, 1), (0, 2), (1, 2)]
    wanted = np.mean([sentence_bleu([group[i]], [group[j]])[0] for i, j in pairs])
    assert self_bleu([group])[0] == pytest.approx(wanted)


def test_groups_of_different_size_keep_their_own_mean() -> None:
    group = ["a b c d", "a b c e f"]
    alone = self_bleu([group])[0]
    together = self_bleu([group, ["a b c d"] * 3, ["a"]])
    assert together[:2] == pytest.approx([alone, 1.0])
    assert np.isnan(together[2])


def test_the_published_length_counts_blanks() -> None:
    texts = [" a b ", " ", "a b"]
    assert published_length(texts).tolist() == [len(text.split(" ")) for text in texts] == [4, 2, 2]
    assert word_length(texts).tolist() == [2, 0, 2]
