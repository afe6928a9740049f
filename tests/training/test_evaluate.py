"""A look at the validation set: metrics, and warnings for useless answers."""

import pytest

from diffuseq.data.pairs import Pair
from diffuseq.training.evaluate import look_at_answers, warn_degenerate


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        (["", " ", "", "how are you"], "empty"),
        (["what is it", "what is it", "what is it", "who"], "the same"),
        (["the the the the the", "a a a a", "is is is is is is", "who is it"], "repeat"),
    ],
)
def test_useless_answers_are_named_with_what_to_try(outputs: list[str], expected: str) -> None:
    (warning,) = warn_degenerate(outputs)
    assert expected in warning and "train longer" in warning


@pytest.mark.parametrize("outputs", [[], ["one answer"], ["a", "b", "c", "d"], ["", "b", "c", "d"]])
def test_usable_answers_get_no_warning(outputs: list[str]) -> None:
    assert warn_degenerate(outputs) == []


def test_perfect_answers_score_one_and_the_copy_row_stands_beside_them() -> None:
    pairs = [
        Pair(
            "how do i learn to draw well", "what is the best way to draw", ("what is the best way to draw",)
        ),
        Pair(
            "who wrote this very long book",
            "this long book was written by whom",
            ("x", "this long book was written by whom"),
        ),
    ]
    metrics, warnings = look_at_answers(lambda sources: [pair.target for pair in pairs], pairs)
    assert metrics["valid_bleu"] == pytest.approx(1.0)
    assert metrics["valid_bleu_of_copying"] < 0.2
    assert metrics["samples"][0] == {
        "source": pairs[0].source,
        "target": pairs[0].target,
        "answer": pairs[0].target,
    }
    assert warnings == []


def test_bleu_of_targets_without_spaces_is_not_left_uncommented() -> None:
    pairs = [
        Pair("今天我看书", "我今天看书", ("我今天看书",)),
        Pair("昨天他买房", "他昨天买房", ("他昨天买房",)),
    ]
    _, (warning,) = look_at_answers(lambda sources: ["我今天看书", "昨天他买房"], pairs)
    assert "have none between words" in warning and "chrF" in warning


def test_a_model_that_knows_only_lower_case_is_not_marked_down_for_it() -> None:
    pairs = [
        Pair(
            "Who wrote the long Book of Kells",
            "By whom is the Book of Kells",
            ("By whom is the Book of Kells",),
        )
    ]
    lower = [pairs[0].target.lower()]
    folded, _ = look_at_answers(lambda sources: lower, pairs, lowercase=True)
    cased, _ = look_at_answers(lambda sources: lower, pairs)
    assert folded["valid_bleu"] == pytest.approx(1.0) and cased["valid_bleu"] < 0.6
