"""Ablations on pairs of text, in small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import text_ablations

from diffuseq.data.grammar import build_corpus


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for split, rows in build_corpus(num_train=64, num_valid=8, num_test=0).items():
        lines = (json.dumps({"src": row["src"], "trg": row["trg"]}) for row in rows)
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_a_dry_run_measures_what_was_asked_for_and_once(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["--data", str(data), "--out", str(out), "--recipe", "tiny", "--dry-run"]
    assert text_ablations.main([*arguments, "--only", "as-it-is"]) == 0
    assert text_ablations.main([*arguments, "--only", "as-it-is,all-seen"]) == 0
    lines = json.loads((out / "results.json").read_text())
    assert [line["name"] for line in lines] == ["as-it-is", "all-seen"]
    assert lines[0]["nats"] > 0 and lines[1]["nats"] is None
    assert all(0 <= line["bleu_mbr"] <= 1 and line["pairs"] > 0 for line in lines)
    assert "| all-seen | 0 |" in capsys.readouterr().out


def test_other_settings_in_the_same_folder_and_unknown_names_are_one_sentence(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--data", str(data), "--out", str(tmp_path / "out"), "--recipe", "tiny"]
    assert text_ablations.main([*arguments, "--only", "no-pointr"]) == 2
    assert "Did you mean 'no-pointer'?" in capsys.readouterr().out
    text_ablations.note_asked(tmp_path / "out", {"seconds": 9.0})
    assert text_ablations.main([*arguments, "--only", "no-pointer"]) == 2
    assert "--seconds 9, not 300" in capsys.readouterr().out


def test_ibleu_is_what_it_is_elsewhere() -> None:
    line = text_ablations.Line("x", 0, 1, None, 0.1, 0.5, 0.25)
    assert line.ibleu == pytest.approx(0.8 * 0.5 - 0.2 * 0.25)
