from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from diffuseq.cli import main
from diffuseq.data.pairs import read_pairs
from diffuseq.decoding.mbr import choose
from diffuseq.errors import InputError
from diffuseq.evaluation.combine import combine
from diffuseq.evaluation.predictions import Prediction, Predictions, read_predictions, write_predictions

SOURCES = ("how do i learn to sing?", "what is it?")
GOOD = (("how can i learn singing?", "how do i learn to sing?"), ("What is it?", "what is  it?"))
OTHER = (("how can i learn singing ?", "how can i learn singing?"), ("what is it?", "WHAT IS IT?"))


def system(
    name: str, groups: tuple[tuple[str, ...], ...], seconds: float | None, forwards: float
) -> Predictions:
    rows = (
        Prediction(source, (f"right {source}",), group, group[0], seconds, forwards)
        for source, group in zip(SOURCES, groups, strict=True)
    )
    return Predictions(name, tuple(rows), (Path(name),))


def run(*words: str | Path) -> int:
    with pytest.raises(SystemExit) as left:
        main(["combine", *map(str, words)])
    return int(left.value.code or 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, groups in (("good", GOOD), ("other", OTHER)):
        write_predictions(tmp_path / name / "predictions.jsonl", system(name, groups, 0.5, 10).rows)
    return tmp_path


def test_the_candidates_of_all_are_judged_together_and_cost_what_all_cost() -> None:
    rows = [row.prediction for row in combine([system("a", GOOD, 0.5, 10), system("b", OTHER, 0.25, 20)])]
    assert [row.candidates for row in rows] == [GOOD[0] + OTHER[0], GOOD[1] + OTHER[1]]
    picked = choose([row.candidates for row in rows])
    assert [row.chosen for row in rows] == [row.candidates[i] for row, i in zip(rows, picked, strict=True)]
    assert rows[0].chosen == "how can i learn singing?"  # the only text of both systems
    assert (rows[0].seconds, rows[0].forwards) == (0.75, 15)
    assert rows[0].references == ("right how do i learn to sing?",)
    unknown = next(combine([system("a", GOOD, 0.5, 10), system("b", OTHER, None, 20)]))
    assert unknown.prediction.seconds is None


def test_copies_and_nearness_to_the_source_can_be_held_against_a_candidate() -> None:
    copying = (("how do i learn to sing?",) * 2 + ("who sings?",), ("x",) * 3)
    both = [system("a", copying, 1, 1)] * 2
    assert next(combine(both)).prediction.chosen == SOURCES[0]
    assert next(combine(both, copies=False)).prediction.chosen == "who sings?"
    assert next(combine(both, source_weight=2.0)).prediction.chosen == "who sings?"


def test_the_best_are_different_texts_and_never_the_source() -> None:
    first, second = combine([system("a", GOOD, 1, 1), system("b", OTHER, 1, 1)])
    assert first.best(3) == ["how can i learn singing?"]  # the other spelling of it counts as the same
    assert second.best(3) == []  # all are the source, but for case and spaces
    varied = system("c", (("a b c d", "a b c e", "x y"), ("p", "q", "q")), 1, 1)
    assert [row.best(2) for row in combine([varied, varied])] == [["a b c d", "a b c e"], ["q", "p"]]


def test_systems_that_answered_other_questions_are_refused() -> None:
    one = system("a", GOOD, 1, 1)
    turned = Predictions("b", one.rows[::-1], (Path("b"),))
    with pytest.raises(InputError, match=r"Row 1 of a and b answers two sources, .*same order"):
        list(combine([one, turned]))
    with pytest.raises(InputError, match="2 and 1 sources"):
        list(combine([one, Predictions("b", one.rows[:1], (Path("b"),))]))


def test_the_command_writes_predictions_and_pairs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, pairs = folder / "all of them" / "predictions.jsonl", folder / "both" / "train.jsonl"
    assert run(folder / "good", folder / "other", "--output", output, "--pairs", pairs) == 0
    assert [len(row.candidates) for row in read_predictions(output).rows] == [4, 4]
    assert [(pair.source, pair.target) for pair in read_pairs(pairs)] == [
        (SOURCES[0], "how can i learn singing?")
    ]
    shown = capsys.readouterr()
    assert f"`diffuseq evaluate '{output}'` scores them" in shown.out
    assert (
        "1 pairs of 2 sources" in shown.out
        and "1 sources have none: their candidates are empty or copies" in shown.err
    )
    assert set(json.loads(pairs.read_text())) == {"src", "trg"}


def test_other_references_than_the_first_systems_are_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, other = folder / "good" / "predictions.jsonl", folder / "other" / "predictions.jsonl"
    first, second = read_predictions(other).rows
    spelled = replace(first, references=(first.references[0].upper(),))
    write_predictions(other, [spelled, replace(second, references=("something else",))])
    assert run(good, other, "--output", folder / "both.jsonl") == 0
    told = f"{other} has other references than {good} in 1 of 2 rows; those of {good} are written."
    assert told in capsys.readouterr().err
    assert run(good, other, "--pairs", folder / "train.jsonl") == 0
    assert "references" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("good", "--output", "x.jsonl"), "give two or more runs"),
        (("good", "other"), "give --output, --pairs, or both"),
        (("good", "other", "--pairs", "x.jsonl", "--best", "0"), "--best is 0"),
        (("good", "other", "--output", "x.jsonl", "--best", "2"), "--best does nothing without --pairs"),
        *(
            (("good", "other", "--output", "x.jsonl", "--source-weight", weight), "source_weight is")
            for weight in ("nan", "inf", "-1e9")
        ),
        (("good", "nowhere", "--output", "x.jsonl"), "no file or folder"),
        (("good", "other", "--output", "x.jsonl", "--pairs", "./x.jsonl"), "--output and --pairs are both"),
        (
            ("good", "other", "--pairs", "other/predictions.jsonl"),
            "is what is read; give --pairs another name",
        ),
    ],
)
def test_mistakes_end_with_one_sentence_and_nothing_written(
    folder: Path,
    words: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    assert run(*words) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "x.jsonl").exists()


def test_nothing_that_is_read_is_written_over(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*.jsonl")}
    for option in ("--output", "--pairs"):
        assert run("good", "other", option, folder / "other" / "predictions.jsonl") == 2
        assert f"is what is read; give {option} another name" in capsys.readouterr().err
    assert run("good", "other", "--output", "new.jsonl", "--pairs", "new.jsonl") == 2
    assert "--output and --pairs are both new.jsonl" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["evaluate", "good", "--json", "good/predictions.jsonl"])
    assert "is what is read; give --json another name" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.rglob("*.jsonl")} == before


def test_what_are_no_predictions_is_told(folder: Path) -> None:
    with pytest.raises(InputError, match="type PosixPath; give what read_predictions"):
        list(combine([folder, folder]))  # type: ignore[list-item]
    with pytest.raises(InputError, match="systems is of the type Predictions; give a list"):
        list(combine(system("a", GOOD, 0.5, 10)))  # type: ignore[arg-type]
