from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from diffuseq.errors import InputError
from diffuseq.evaluation.analyses import Limits, check
from diffuseq.evaluation.catalogue import METRICS, TASKS
from diffuseq.evaluation.predictions import Prediction, Predictions
from diffuseq.evaluation.score import CANDIDATES, score
from diffuseq.metrics.bleu import sentence_bleu

WORDS = ["the", "a", "cat", "dog", "sat", "ran", "on", "mat", "far", "there"]


def predictions(sources: int = 40, candidates: int = 4, references: int = 1, **more: object) -> Predictions:
    draw = np.random.default_rng(0)

    def text() -> str:
        return " ".join(draw.choice(WORDS, size=draw.integers(3, 9)))

    rows = tuple(
        Prediction(
            f"{i} {text()}",
            tuple(text() for _ in range(references)),
            tuple(text() for _ in range(candidates)),
            **more,  # type: ignore[arg-type]
        )
        for i in range(sources)
    )
    return Predictions("system", rows, (Path("predictions.jsonl"),))


def test_every_row_and_every_metric_without_a_network_is_there() -> None:
    scores = score(predictions(), task="simplification", bootstrap=50)
    assert set(scores.rows) == {"chosen", "single", "copy", "references", CANDIDATES}
    expected = {n for n, m in METRICS.items() if m.needs in ("", "sacrebleu") and m.group == "text"}
    assert set(scores.rows["chosen"].values) == expected
    assert scores.value("copy", "copied") == 1.0
    assert scores.value("references", "exact_match") == 1.0
    assert scores.value("references", "rougeL") == 1.0


def test_sari_comes_with_the_task_and_bleu_multi_with_several_references() -> None:
    assert score(predictions(), bootstrap=0).value("chosen", "sari") is None
    scores = score(predictions(references=3), bootstrap=0)
    assert (scores.value("chosen", "bleu_multi") or 0) > (scores.value("chosen", "bleu") or 1)


def test_metrics_that_see_little_of_a_script_are_named() -> None:
    def answered(*texts: str) -> Predictions:
        rows = tuple(Prediction("what?", (text,), (texts[0], text)) for text in texts)
        return Predictions("system", rows, (Path("predictions.jsonl"),))

    chinese, russian = answered("今天我在学校看书。", "明天他买汽车。"), answered("я читаю книгу.", "он ест.")
    assert [note[:14] for note in score(chinese, bootstrap=0).warnings] == [
        "The references",
        "ROUGE counts w",
    ]
    assert [note[:14] for note in score(russian, bootstrap=0).warnings] == ["ROUGE counts w"]
    assert score(chinese, metrics=["chrf", "exact_match"], bootstrap=0).warnings == ()
    assert score(predictions(), bootstrap=0).warnings == ()


def test_the_choice_among_texts_without_spaces_goes_by_characters() -> None:
    candidates = ("明天她在学校看书。", "明天他在学校看书。", "明天他在学校看报。", "昨天我买房子。")
    rows = (Prediction("明天？", ("明天他在学校看书。",), candidates),)
    scores = score(Predictions("system", rows, (Path("predictions.jsonl"),)), bootstrap=0)
    assert scores.chosen == (candidates[1],)


def test_the_published_bleu_looks_at_the_first_reference_only() -> None:
    given = predictions(references=3)
    texts = [row.candidates[0] for row in given.rows]
    wanted = sentence_bleu(texts, [row.references[0] for row in given.rows]).mean()
    assert score(given, bootstrap=0).value("single", "bleu") == pytest.approx(wanted)


def test_with_several_references_the_first_is_held_against_the_others() -> None:
    scores = score(predictions(references=3), bootstrap=0)
    assert scores.rows["references"].title == "first reference against the others"
    assert (scores.value("references", "rougeL") or 1) < 0.9


def test_the_systems_own_choice_is_scored_where_it_made_one() -> None:
    scores = score(predictions(chosen="the cat"), bootstrap=0)
    assert set(scores.chosen) == {"the cat"}
    assert scores.rows["chosen"].title == "system (own choice of 4)"
    assert score(predictions(), bootstrap=0).rows["chosen"].title == "system (MBR of 4)"


def test_one_candidate_has_no_self_bleu() -> None:
    scores = score(predictions(candidates=1), bootstrap=10)
    assert scores.value(CANDIDATES, "self_bleu") is None
    assert scores.value(CANDIDATES, "bleu_average_candidate") == scores.value("single", "bleu")
    assert scores.warnings == ()
    asked = score(predictions(candidates=1), metrics=["bleu", "self_bleu", "div4"], bootstrap=0)
    assert asked.warnings == ("Left out, for a source has one candidate alone: self-BLEU, div-4.",)
    assert score(predictions(), metrics=["self_bleu"], bootstrap=0).warnings == ()


def test_a_text_alone_is_no_list_of_metrics_and_cases_have_names() -> None:
    with pytest.raises(InputError, match=r"metrics is one text, 'bleu'; give a list, \('bleu',\) say"):
        score(predictions(), metrics="bleu")
    with pytest.raises(InputError, match="Unknown case 'upper'; choose one of: keep, lower, task"):
        score(predictions(), case="upper")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="only is one text, 'speed'"):
        check("speed", Limits())


def test_scores_without_intervals_say_so() -> None:
    assert score(predictions(), metrics=["bleu"], bootstrap=0).to_dict()["intervals"] == "none"
    assert "20 corpora" in score(predictions(), metrics=["bleu"], bootstrap=20).to_dict()["intervals"]


def test_intervals_hold_the_value_and_do_not_depend_on_other_metrics() -> None:
    given = predictions()
    value = score(given, bootstrap=200, seed=3).rows["chosen"].values["bleu"]
    assert value.low is not None and value.high is not None and value.low < value.value < value.high
    assert score(given, metrics=["bleu"], bootstrap=200, seed=3).rows["chosen"].values["bleu"] == value
    assert score(given, bootstrap=0).rows["chosen"].values["bleu"].low is None


def test_the_file_carries_meaning_beside_every_number(tmp_path: Path) -> None:
    scores = score(predictions(seconds=0.5, forwards=20), bootstrap=20)
    scores.write(tmp_path / "scores.json")
    read = json.loads((tmp_path / "scores.json").read_text())
    assert read["cost"] == {"forwards": 20.0, "seconds_per_source": 0.5}
    for row in read["rows"].values():
        for metric in row["scores"]:
            assert set(read["metrics"][metric]) == {
                "title",
                "definition",
                "settings",
                "source",
                "better",
                "signature",
            }
    assert read["metrics"]["sacrebleu"]["signature"].startswith("BLEU|nrefs:1|case:mixed|eff:no|tok:13a")


def test_a_signature_tells_whatever_changes_the_number() -> None:
    few, many = (score(predictions(candidates=count), bootstrap=0).signatures for count in (4, 8))
    assert {name for name in few if few[name] != many[name]} == {
        "self_bleu_all",
        "div4_all",
        "bleu_best_candidate",
    }
    several = score(predictions(references=3), task="simplification", case="keep", bootstrap=0).signatures
    assert all(several[name].endswith("|nrefs:3") for name in ("sari", "exact_match", "bleu_multi", "rougeL"))
    assert several["div4"] == "div4|tok:split|candidates:3"  # nothing is smoothed there


def test_unknown_names_and_missing_models_are_explained() -> None:
    with pytest.raises(InputError, match=r"Unknown metric 'rougel'.*Did you mean 'rougeL'"):
        score(predictions(), metrics=["rougel"])
    with pytest.raises(InputError, match="Unknown task 'qpq'"):
        score(predictions(), task="qpq")
    with pytest.raises(InputError, match="need a language model"):
        score(predictions(), metrics=["mauve"])
    with pytest.raises(InputError, match="bootstrap is -1"):
        score(predictions(), bootstrap=-1)


def test_every_column_of_every_task_is_a_metric() -> None:
    for task in TASKS.values():
        assert set(task.columns) | set(task.extra) <= set(METRICS)


CASED = Predictions("cased", (Prediction("Why me?", ("Why not me?",), ("why not me?",)),), (Path("none"),))


def test_the_published_tasks_are_compared_in_lower_case_and_say_so():
    scores = score(CASED, task="qqp", metrics=["exact_match", "bleu"], bootstrap=0)
    assert scores.value("chosen", "exact_match") == 1
    assert all(signature.endswith("|texts:lower-cased") for signature in scores.signatures.values())


@pytest.mark.parametrize("given", [{"task": "translation"}, {"task": None}, {"task": "qqp", "case": "keep"}])
def test_case_counts_in_translation_without_a_task_and_where_it_is_asked_for(given):
    scores = score(CASED, metrics=["exact_match"], bootstrap=0, **given)
    assert scores.value("chosen", "exact_match") == 0
    assert "lower" not in scores.signatures["exact_match"]


def test_one_candidate_has_no_diversity() -> None:
    assert score(predictions(candidates=1), bootstrap=0).value(CANDIDATES, "div4") is None
    assert score(predictions(candidates=2), bootstrap=0).value(CANDIDATES, "div4") is not None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        *(
            ({"bootstrap": value}, r"bootstrap is .*; give a whole number")
            for value in (10.0, True, "1", None)
        ),
        *(
            ({"bootstrap": 10, "seed": value}, "seed is .*; give a whole number")
            for value in (1.5, None, "a")
        ),
        ({"task": 3}, "Unknown task 3"),
        ({"metrics": 3}, "metrics is of the type int; give a list"),
    ],
)
def test_arguments_of_another_type_are_one_sentence(changes: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        score(predictions(4), **changes)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="type PosixPath; give what read_predictions"):
        score(Path("predictions.jsonl"))  # type: ignore[arg-type]
    assert score(predictions(4), bootstrap=np.int64(5), seed=np.int64(1)).bootstrap == 5  # type: ignore[arg-type]
