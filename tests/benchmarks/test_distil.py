"""Minimum Bayes risk distillation: two models answer, agree, and one goes on, by real commands."""

from __future__ import annotations

import json
from pathlib import Path

import distil
import pytest

from diffuseq.data.grammar import write_corpus
from diffuseq.data.pairs import read_pairs
from diffuseq.errors import InputError


def test_models_answer_agree_and_the_first_goes_on(tiny_folder: Path, tmp_path: Path) -> None:
    data = write_corpus(tmp_path / "data", num_train=40, num_valid=4, num_test=4)
    arguments = [
        "--models", str(tiny_folder), str(tiny_folder), "--data", str(data), "--out", str(tmp_path / "out"),
        "--recipe", "tiny", "--sources", "6", "--candidates", "2", "--best", "1", "--epochs", "0.5",
        "--batch-size", "2",
    ]  # fmt: skip
    assert distil.main(arguments) == 0
    answered = (tmp_path / "out" / f"2-{tiny_folder.name}" / "predictions.jsonl").read_text().splitlines()
    assert [len(json.loads(row)["candidates"]) for row in answered] == [2] * 6
    asked = {json.loads(row)["source"] for row in answered}
    assert asked <= {pair.source for pair in read_pairs(data / "train.jsonl")}
    pairs = list(read_pairs(tmp_path / "out" / "pairs" / "train.jsonl"))
    assert 0 < len(pairs) <= 6 and {pair.source for pair in pairs} <= asked
    spent = json.loads((tmp_path / "out" / "model" / "training.json").read_text())
    assert spent["steps"] == -(-len(pairs) // 4)  # half an epoch, two pairs a step
    assert distil.main(arguments) == 0  # all is there


def test_one_model_has_nobody_to_agree_with(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two or more"):
        distil.main(["--models", "qqp", "--data", str(tmp_path), "--out", str(tmp_path / "out")])


def test_answers_of_an_earlier_call_are_not_taken_for_others(tmp_path: Path) -> None:
    data = write_corpus(tmp_path / "data", num_train=40, num_valid=4, num_test=4)
    other = write_corpus(tmp_path / "other", num_train=40, num_valid=4, num_test=4)
    (tmp_path / "asked.json").write_text(
        json.dumps({"models": ["grammar", "qqp"], "sources": 6, "data": str(data)})
    )
    arguments = ["--out", str(tmp_path), "--models", "grammar"]
    with pytest.raises(InputError, match="is of --sources 6, not 20000; give another --out"):
        distil.main([*arguments, "qqp", "--data", str(data)])
    with pytest.raises(InputError, match=r"--models .'grammar', 'qqp'., not .'grammar', 'qqp-large'."):
        distil.main([*arguments, "qqp-large", "--data", str(data), "--sources", "6"])
    with pytest.raises(InputError, match=r"is of --data .*data, not .*other; give another --out"):
        distil.main([*arguments, "qqp", "--data", str(other), "--sources", "6"])


def test_models_that_cannot_do_it_are_refused_before_the_others_answer(tmp_path: Path) -> None:
    data = write_corpus(tmp_path / "data", num_train=40, num_valid=4, num_test=4)
    arguments = ["--data", str(data), "--out", str(tmp_path / "out"), "--models"]
    with pytest.raises(InputError, match="There is no model folder 'grammr'"):
        distil.main([*arguments, "grammar", "grammr"])
    with pytest.raises(InputError, match="qqp-pair is an ensemble, and one network is to learn"):
        distil.main([*arguments, "qqp-pair", "grammar"])
    assert not (tmp_path / "out").exists()
