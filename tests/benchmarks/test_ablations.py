"""Ablations: one thing changed at a time, on the grammar, in small."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import ablations
import grammar_systems
import pytest
from earlier import add_results, note_asked

from diffuseq.checks import check_generation
from diffuseq.recipes import recipe


def test_every_change_of_the_generation_is_one_and_is_allowed() -> None:
    settings = recipe("tiny").generation
    for changes in ablations.generations().values():
        changed = replace(settings, **changes)
        check_generation(changed)
        assert changed != settings


def test_a_dry_run_trains_what_was_asked_for_and_the_unchanged_recipe_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--only", "all-seen-one-level,mbr-alone,two-calls", "--dry-run", "--out", str(tmp_path)]
    assert ablations.main(arguments) == 0
    lines = json.loads((tmp_path / "results.json").read_text())
    assert [line["name"] for line in lines] == ["as-it-is", "mbr-alone", "two-calls", "all-seen-one-level"]
    assert len({line["pairs"] for line in lines[:3]}) == 1
    assert lines[2]["scores"]["forwards"] < lines[0]["scores"]["forwards"]
    assert "| all-seen-one-level |" in capsys.readouterr().out


def test_an_unknown_change_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        ablations.main(["--only", "muonn"])
    assert "Did you mean 'muon'?" in capsys.readouterr().err


def test_the_table_has_means_over_seeds_and_their_spread() -> None:
    scores = {"valid": 0.5, "valid_candidates": 0.25, "distinct_valid": 1.0, "bleu": 0.1, "forwards": 10.0}
    lines = [
        ablations.Line("adamw", 0, 1000, scores),
        ablations.Line("adamw", 1, 3000, {**scores, "valid": 0.7}),
    ]
    assert "| adamw | 2.0 k | 0.600 | 0.100 | 0.250 | 1.00 | 0.100 | 10 |" in ablations.table(lines)


@pytest.mark.parametrize("script", [ablations, grammar_systems])
def test_a_folder_of_other_settings_is_refused(
    script: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    note_asked(tmp_path, {"seconds": 1.0, "questions": 4})
    with pytest.raises(SystemExit):
        script.main(["--out", str(tmp_path), "--seconds", "5", "--questions", "4"])
    assert "is of --seconds 1, not 5; give another --out" in capsys.readouterr().err


def test_results_are_added_to_those_of_others_and_take_the_place_of_their_own(tmp_path: Path) -> None:
    def row(system: str, way: str, value: int) -> dict[str, Any]:
        return {"system": system, "way": way, "value": value}

    add_results(tmp_path, ("system", "way"), [row("gru", "greedy", 1), row("gru", "beam", 2)])
    add_results(tmp_path, ("system", "way"), [row("levt", "", 3), row("gru", "beam", 4)])
    kept = json.loads((tmp_path / "results.json").read_text())
    assert kept == [row("gru", "greedy", 1), row("levt", "", 3), row("gru", "beam", 4)]
