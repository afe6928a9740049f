"""Equal budgets: every system goes through training, its curve, generation and the table, in small."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import earlier
import equal_budget
import grammar_systems
import pytest

from diffuseq.data.grammar import write_corpus
from diffuseq.errors import InputError
from diffuseq.recipes import RECIPES


def test_a_dry_run_leaves_models_curves_answers_and_a_report_and_goes_on(tmp_path: Path) -> None:
    data = write_corpus(tmp_path / "data", num_train=60, num_valid=8, num_test=4)
    arguments = ["--data", str(data), "--out", str(tmp_path / "out"), "--systems", "gru", "--dry-run"]
    assert equal_budget.main(arguments) == 0
    folder = tmp_path / "out" / "gru"
    spent = json.loads((folder / "training.json").read_text())
    assert spent["seconds"] >= 60 * 0.05 and spent["pairs_seen"] > 0
    curve = [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]
    assert curve[-1]["pairs"] == spent["pairs_seen"]
    for way in ("beam5", "sampled-mbr10"):
        rows = (folder / way / "predictions.jsonl").read_text().splitlines()
        assert [json.loads(row)["references"] for row in rows]
        assert len(rows) == 4
    assert (tmp_path / "out" / "report" / "report.md").is_file()
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert equal_budget.main(arguments) == 0
    assert (folder / "model.safetensors").stat().st_mtime_ns == before


def test_what_learned_other_data_is_not_taken_for_what_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "other"):
        write_corpus(tmp_path / name, num_train=30, num_valid=4, num_test=4)
    earlier.note_asked(tmp_path / "out", {"data": str(tmp_path / "one")})
    arguments = ["--data", str(tmp_path / "other"), "--out", str(tmp_path / "out"), "--dry-run"]
    assert equal_budget.main(arguments) == 2
    assert f"is of --data {tmp_path / 'one'}, not {tmp_path / 'other'}" in capsys.readouterr().out
    assert equal_budget.main([*arguments[:1], str(tmp_path / "nosuch"), *arguments[2:]]) == 2
    assert earlier.asked_before(tmp_path / "out") == {"data": str(tmp_path / "one")}


def test_an_unknown_system_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_corpus(tmp_path / "data", num_train=30, num_valid=4, num_test=4)
    options = ["--data", str(data), "--out", str(tmp_path), "--systems", "grue", "--dry-run"]
    assert equal_budget.main(options) == 2
    assert "Did you mean 'gru'?" in capsys.readouterr().out


def test_every_system_has_a_recipe_and_its_ways_of_generating_are_settings_of_it() -> None:
    for entry in equal_budget.SYSTEMS.values():
        settings = vars(RECIPES[entry.recipe]().generation)
        for changes in (entry.quick, *entry.ways.values()):
            assert changes.keys() <= settings.keys()


def test_the_grammar_judges_a_system_in_a_dry_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert grammar_systems.main(["--systems", "cmlm", "--dry-run", "--out", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "results.json").read_text())
    assert [(row["system"], row["way"]) for row in rows] == [
        ("copying", ""),
        ("cmlm", "5 lengths"),
        ("cmlm", "drawn"),
    ]
    assert rows[0]["scores"]["valid"] == 0
    assert "| cmlm | drawn |" in capsys.readouterr().out


def test_results_are_written_after_every_way_of_generating(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure, ways = grammar_systems.measure, []

    def stopped(*arguments: Any) -> dict[str, Any]:
        if ways:
            raise KeyboardInterrupt
        ways.append(arguments)
        return measure(*arguments)

    monkeypatch.setattr(grammar_systems, "measure", stopped)
    with pytest.raises(KeyboardInterrupt):
        grammar_systems.main(["--systems", "cmlm", "--dry-run", "--out", str(tmp_path)])
    rows = json.loads((tmp_path / "results.json").read_text())
    assert [row["system"] for row in rows] == ["copying", "cmlm"]


def test_what_a_dry_run_left_is_not_taken_for_a_real_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "gru"
    folder.mkdir()
    (folder / "training.json").write_text(json.dumps({"minutes": 0.05, "seed": 0}))
    data = write_corpus(tmp_path / "data", num_train=30, num_valid=4, num_test=4)
    arguments = ["--data", str(data), "--out", str(tmp_path), "--systems", "gru"]
    assert equal_budget.main([*arguments, "--minutes", "20"]) == 2
    assert "gru is of --minutes 0.05, not 20; give another --out" in capsys.readouterr().out
    assert equal_budget.main([*arguments, "--minutes", "0.05", "--seed", "3"]) == 2
    assert "--seed 0, not 3" in capsys.readouterr().out
    (folder / "predictions.jsonl").write_text("{}\n" * 4)
    equal_budget.check_answered(folder, 4)
    with pytest.raises(InputError, match="is of --rows 4, not 200"):
        equal_budget.check_answered(folder, 200)
