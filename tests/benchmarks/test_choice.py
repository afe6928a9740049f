"""The table of choices: the first, every weight, the best, and copying."""

from __future__ import annotations

from pathlib import Path

import choice
import pytest

from diffuseq.evaluation.predictions import Prediction, write_predictions

SOURCE, REFERENCE = "what is the price of a new laptop in kenya?", "how expensive is a new laptop in kenya?"
CANDIDATES = (SOURCE, SOURCE, REFERENCE)


def test_likelihood_takes_the_answer_that_agreement_leaves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = Prediction(SOURCE, (REFERENCE,), CANDIDATES, None, None, None, (-9.0, -9.0, -1.0))
    write_predictions(tmp_path / "predictions.jsonl", [row])
    assert choice.main([str(tmp_path), "--grammar", "--weights", "0", "1"]) == 0
    lines = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()]
    valid = {name: float(cells[-1]) for name, *cells in lines[2:]}
    assert valid == {"first": 0, "weight 0": 0, "weight 1": 1, "best": 1, "copying": 0}
    assert choice.main([str(tmp_path), "--grammar", "--weights", "0", "--no-copies"]) == 0
    assert "| weight 0 | 1.0000 |" in capsys.readouterr().out
    assert {name: cells[0] for name, *cells in lines[2:]}["best"] == "1.0000"
    assert choice.main([str(tmp_path), "--weights", "0", "--source-weights", "0", "2"]) == 0
    assert "| weight 0, source 2 | 1.0000 |" in capsys.readouterr().out
    assert choice.main([str(tmp_path), "--weights", "0", "--source-weights", "-0.3"]) == 0
    assert "| weight 0, source -0.3 |" in capsys.readouterr().out


def test_predictions_without_log_probabilities_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_predictions(tmp_path / "predictions.jsonl", [Prediction(SOURCE, (REFERENCE,), CANDIDATES)])
    assert choice.main([str(tmp_path)]) == 2
    assert "rows without log_p" in capsys.readouterr().out


def test_the_figure_shows_what_no_other_choice_beats(tmp_path: Path) -> None:
    assert choice.front([(0.5, 0.2), (0.3, 0.1), (0.4, 0.3), (0.3, 0.2), (0.6, 0.25)]) == [
        (0.3, 0.2),
        (0.4, 0.3),
    ]
    row = Prediction(SOURCE, (REFERENCE,), CANDIDATES, None, None, None, (-9.0, -9.0, -1.0))
    for name in ("a", "b"):
        write_predictions(tmp_path / name / "predictions.jsonl", [row])
    runs = [f"first={tmp_path / 'a'}", str(tmp_path / "b")]
    drawn = tmp_path / "choice.svg"
    assert choice.main([*runs, "--weights", "0", "1", "--figure", str(drawn)]) == 0
    assert ">first<" in drawn.read_text(encoding="utf-8") and ">b<" in drawn.read_text(encoding="utf-8")
    assert drawn.with_suffix(".png").stat().st_size > 1000


def test_runs_in_folders_of_one_name_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = Prediction(SOURCE, (REFERENCE,), CANDIDATES, None, None, None, (-9.0, -9.0, -1.0))
    for name in ("a", "b"):
        write_predictions(tmp_path / name / "valid" / "predictions.jsonl", [row])
    runs = [str(tmp_path / name / "valid") for name in ("a", "b")]
    assert choice.main([*runs, "--weights", "0", "--figure", str(tmp_path / "choice.svg")]) == 0
    drawn = (tmp_path / "choice.svg").read_text(encoding="utf-8")
    assert ">a/valid<" in drawn and ">b/valid<" in drawn
    assert choice.main([f"run={path}" for path in runs]) == 2
    assert "2 runs are called run; give each a name of its own" in capsys.readouterr().out


def test_several_runs_are_tables_with_their_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = Prediction(SOURCE, (REFERENCE,), CANDIDATES, None, None, None, (-9.0, -9.0, -1.0))
    for name in ("a", "b"):
        write_predictions(tmp_path / name / "predictions.jsonl", [row])
    assert choice.main([f"ours={tmp_path / 'a'}", str(tmp_path / "b"), "--weights", "0"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in printed if line and not line.startswith("|")] == ["ours", "b"]
