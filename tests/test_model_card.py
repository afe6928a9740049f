"""The model card: made from the config, and from what `diffuseq evaluate` measured."""

from __future__ import annotations

import json
import os
from dataclasses import make_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from diffuseq.cli.evaluate import main as evaluate
from diffuseq.config import Config
from diffuseq.errors import InputError
from diffuseq.evaluation.predictions import Prediction, write_predictions
from diffuseq.model_card import (
    add_scores,
    current_card,
    has_own_card,
    model_card,
    own_card_note,
    write_card,
)
from diffuseq.pipeline import DiffuSeqPipeline
from diffuseq.recipes import recipe
from diffuseq.registry import SYSTEMS

ANSWERS = (
    Prediction("how do i draw", ("what is the way to draw a cat",), ("what is the way to draw",) * 2, None),
    Prediction("how do i sing", ("how can i learn to sing well",), ("how can i sing",) * 2, None),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "README.md").write_text(model_card(recipe("tiny"), 1234))
    write_predictions(tmp_path / "predictions.jsonl", ANSWERS)
    return tmp_path


def headings(card: str) -> list[str]:
    return [line for line in card.splitlines() if line.startswith("## ")]


def score(folder: Path, *options: str) -> dict[str, Any]:
    json_file = folder / "scores.json"
    common = ["--metrics", "bleu", "rougeL", "div4", "--bootstrap", "20", "--json", str(json_file)]
    assert evaluate([str(folder / "predictions.jsonl"), *common, *options]) == 0
    scores: dict[str, Any] = json.loads(json_file.read_text())
    return scores


def test_a_config_without_a_docstring_is_described_by_nothing() -> None:
    plain = make_dataclass("Plain", [("kind", str)], frozen=True)("toy")
    card = model_card(replace(recipe("tiny"), system=plain), 1234)
    assert "which rewrites a source text into a target text.\n\n" in card and "Plain(" not in card


def test_a_card_has_front_matter_validation_limits_and_citation() -> None:
    card = model_card(recipe("tiny"), 1234, {"valid_bleu": 0.25, "note": "no number"}, "qqp")
    assert card.startswith("---\nlibrary_name: diffuseq\n")
    assert "1,234 parameters" in card and "| valid_bleu | 0.25 |" in card and "data: qqp" in card
    assert "no number" not in card
    assert headings(card) == ["## Training", "## On the validation set", "## Limits", "## Citation"]


def test_data_whose_name_is_not_utf_8_leave_a_card_that_is_ours(tmp_path: Path) -> None:
    write_card(tmp_path, model_card(recipe("tiny"), 1234, data=os.fsdecode(b"caf\xe9")))
    assert r"- data: caf\udce9" in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert not has_own_card(tmp_path)


def test_a_card_names_the_recipe_and_what_was_changed_in_it() -> None:
    tiny = recipe("tiny")
    assert "- recipe: `tiny`\n" in model_card(tiny, 1)
    changed = replace(tiny, training=replace(tiny.training, batch_size=7))
    assert "- recipe: `tiny` with `training.batch_size = 7`\n" in model_card(changed, 1)
    assert "- recipe: none by name\n" in model_card(replace(tiny, text=replace(tiny.text, max_source=3)), 1)


def test_a_card_names_the_models_that_a_training_began_with_and_learned_from() -> None:
    tiny = recipe("tiny")
    other = replace(tiny.training, start_from="runs/a", teachers=("runs/b", "qqp"))
    card = model_card(replace(tiny, training=other, text=replace(tiny.text, max_source=3)), 1)
    assert "- recipe: none by name\n- begun with the weights of `runs/a`\n" in card
    assert "- learned what these expect of every word: `runs/b`, `qqp`\n" in card
    assert "- recipe: `tiny`\n- begun" in model_card(replace(tiny, training=other), 1)


@pytest.mark.parametrize("kind", SYSTEMS)
def test_a_card_says_in_a_sentence_what_its_system_is(kind: str) -> None:
    entry = SYSTEMS[kind]
    card = model_card(Config(system=entry.config(), generation=entry.generation()), 1)
    sentence = card.split("into a target text. ")[1].split("\n\n")[0]
    assert 30 < len(sentence) < 200 and sentence.endswith(".") and "  " not in sentence


def test_evaluating_puts_every_score_into_the_card_with_its_signature(folder: Path) -> None:
    before = (folder / "README.md").read_text()
    scores = score(folder, "--card", str(folder))
    card = (folder / "README.md").read_text()
    assert headings(card) == ["## Training", "## Evaluation", "## Limits", "## Citation"]
    for name, metric in scores["metrics"].items():
        assert f"`{metric['signature']}`" in card and metric["settings"] in card
        measured = [row["scores"][name]["value"] for row in scores["rows"].values() if name in row["scores"]]
        assert measured and all(f"| {value:.4g}" in card for value in measured)
    assert "2 sources with 2 candidates each" in card and "seed 0" in card
    assert model_card(recipe("tiny"), 1234, scores=scores) == card
    start, end = card.index("## Evaluation"), card.index("## Limits")
    seal = before.rindex("<!--")
    assert (card[:start] + card[end:])[:seal] == before[:seal]


def test_a_name_with_signs_breaks_no_table_of_a_card(folder: Path) -> None:
    (folder / "predictions.jsonl").rename(folder / "a|b.jsonl")
    assert evaluate([str(folder / "a|b.jsonl"), "--metrics", "bleu", "--card", str(folder)]) == 0
    table = [line for line in (folder / "README.md").read_text().splitlines() if line.startswith("| metric")]
    assert len(table) == 1 and r"a\|b (" in table[0]


def test_evaluating_again_replaces_the_section_and_keeps_what_a_person_wrote(folder: Path) -> None:
    add_scores(folder, score(folder))
    card = folder / "README.md"
    card.write_text(card.read_text().replace("## Limits\n", "## Limits\n\nMy own sentence.\n"))
    text = card.read_text()
    add_scores(folder, {**score(folder), "sources": 98765})
    assert card.read_text() == text.replace("2 sources with", "98,765 sources with")


def test_what_is_shared_has_the_scores_beside_the_card_unless_they_are_older(folder: Path) -> None:
    text = (folder / "README.md").read_text()
    assert current_card(folder) == text
    scores = score(folder)
    shared = current_card(folder)
    assert shared is not None and "## Evaluation" in shared
    assert (folder / "README.md").read_text() == text
    os.utime(folder / "scores.json", (0, 0))
    assert current_card(folder) == text
    (folder / "scores.json").write_text("[]")  # of a comparison, whose report is in this folder
    assert current_card(folder) == text
    add_scores(folder, scores)
    assert current_card(folder) == shared


def test_a_card_is_ours_until_anything_in_it_is_changed(folder: Path) -> None:
    card = folder / "README.md"
    add_scores(folder, score(folder))
    text = card.read_text()
    assert not has_own_card(folder) and own_card_note(folder) is None
    assert not has_own_card(folder / "elsewhere")
    for changed in (
        f"{text}More.\n",
        text.replace("Limits", "limits"),
        text[: text.rindex("<!--")],
        "",
        "mine",
    ):
        card.write_text(changed)
        assert has_own_card(folder)
        write_card(folder, text)
        assert card.read_text() == changed
        assert "README.md is not as diffuseq wrote it" in str(own_card_note(folder))
    card.write_bytes(b"\xff")  # whatever this is, it is not ours
    assert has_own_card(folder)
    card.unlink()
    write_card(folder, text)
    assert card.read_text() == text


def test_scores_of_weights_before_the_present_ones_are_not_shared(folder: Path) -> None:
    (folder / "README.md").write_text("mine")  # which a training leaves alone, as old as it is
    score(folder)
    os.utime(folder / "README.md", (0, 0))
    assert "## Evaluation" in str(current_card(folder))
    (folder / "config.json").write_text("{}")
    os.utime(folder / "scores.json", (1, 1))
    assert current_card(folder) == "mine"


def test_a_model_that_is_opened_and_saved_keeps_its_card(tmp_path: Path, tiny_pipe: DiffuSeqPipeline) -> None:
    tiny_pipe.save_pretrained(tmp_path / "made")
    card = tmp_path / "made" / "README.md"
    card.write_text(card.read_text() + "\nBy hand.\n")
    DiffuSeqPipeline.from_pretrained(tmp_path / "made", "cpu").save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "README.md").read_text() == card.read_text()


def test_scores_that_are_not_of_one_system_are_refused_in_one_sentence(folder: Path) -> None:
    for wrong in ("[]", "{}", '{"rows": 1}', "no json"):
        (folder / "wrong.json").write_text(wrong)
        with pytest.raises(InputError, match="diffuseq evaluate"):
            add_scores(folder, folder / "wrong.json")
    with pytest.raises(InputError, match="no model card"):
        add_scores(folder / "elsewhere", score(folder))
    write_predictions(folder / "other.jsonl", ANSWERS)
    with pytest.raises(InputError, match="--card is for one system"):
        evaluate([str(folder / "predictions.jsonl"), str(folder / "other.jsonl"), "--card", str(folder)])
