from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffuseq.decoding.mbr import barred_copies, bleu_to_source, choose, pairwise_bleu
from diffuseq.errors import InputError

TEXT = st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), max_size=8).map(" ".join)


def test_one_candidate_is_itself() -> None:
    assert choose([["only this"], [""]]) == [0, 0]


def test_duplicates_win_and_the_first_wins_a_tie() -> None:
    assert choose([["x y z", "a b c", "a b c"], ["a", "b", "c"]]) == [1, 0]


def test_the_models_own_likelihood_counts_as_much_as_it_is_given() -> None:
    groups = [["a b c d", "a b c d", "w x y z"], ["p q", "r s"]]
    log_p = [[-9.0, -9.0, -1.0], [-3.0, -2.0]]
    assert choose(groups, log_p) == choose(groups) == [0, 0]
    # mean agreement 0.5 (one of two others is equal) against 0; the doubted text loses once 8 nats are worth more
    assert choose(groups, log_p, 0.06) == [0, 1]
    assert choose(groups, log_p, 0.07) == [2, 1]


def test_copies_of_the_source_are_passed_over_unless_there_is_nothing_else() -> None:
    groups = [["What  is it ?", "what is it?", "what may it be?"], ["Why?", "why ?"]]
    sources = ["what is it?", "why?"]
    assert barred_copies(sources, groups) == [[0, 1], []]
    assert choose(groups) == [0, 0]
    assert choose(groups, sources=sources) == [0, 0]
    assert choose(groups, sources=sources, copies=False) == [2, 0]


def test_nearness_to_the_source_costs_as_much_as_it_is_given() -> None:
    source = "what is it good for?"
    group = [source, source, "who may that be?"]
    assert bleu_to_source(group, source)[0] == pytest.approx(1)
    assert bleu_to_source(group, "What is it GOOD for?") == bleu_to_source(group, source)
    agreed = pairwise_bleu(group).sum(1) - 1
    gap = (agreed[0] - agreed[2]) / 2 / (1 - bleu_to_source(group, source)[2])
    assert [choose([group], sources=[source], source_weight=w * gap)[0] for w in (0.9, 1.1)] == [0, 2]
    log_p = [[0.0, 0.0, -1000.0]]
    assert choose([group], log_p, 1.0, [source], source_weight=1.1 * gap) == [0]
    with pytest.raises(InputError, match="give the sources"):
        choose([group], source_weight=0.1)


def test_where_words_have_no_spaces_characters_agree() -> None:
    group = ["明天她在学校看书。", "明天他在学校看书。", "明天他在学校看报。", "昨天我买房子。"]
    assert choose([group]) == choose([[" ".join(text) for text in group]]) == [1]
    near = bleu_to_source(group, group[0])
    assert near[0] == pytest.approx(1) and near[1] > near[2] > near[3] > 0
    thai = ["ฉันชอบแอปเปิ้ล", "เขาชอบแอปเปิ้ล", "รถยนต์"]
    assert pairwise_bleu(thai)[0, 1] > pairwise_bleu(thai)[0, 2]


@settings(max_examples=50, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_the_order_of_the_candidates_does_not_change_the_utility_of_the_answer(group, random) -> None:  # type: ignore[no-untyped-def]
    shuffled = list(group)
    random.shuffle(shuffled)

    def utility(texts: list[str]) -> float:
        matrix = pairwise_bleu(texts)
        index = choose([texts])[0]
        return float(matrix[index].sum() - matrix[index, index])

    assert utility(group) == pytest.approx(utility(shuffled), abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(TEXT, min_size=1, max_size=5), min_size=1, max_size=6))
def test_sources_do_not_influence_each_other(groups: list[list[str]]) -> None:
    assert choose(groups) == [choose([group])[0] for group in groups]


def test_the_matrix_has_each_candidate_against_each() -> None:
    matrix = pairwise_bleu(["a b c d", "a b c d e", "x"])
    assert matrix.shape == (3, 3)
    np.testing.assert_allclose(np.diag(matrix), 1.0)
    assert matrix[0, 1] < matrix[1, 0] + 1 and matrix[0, 2] == 0


def test_a_source_without_candidates_is_refused() -> None:
    assert choose([]) == []
    with pytest.raises(InputError, match="Source 1 has no candidate"):
        choose([["a"], []])
