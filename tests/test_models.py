"""The models that come with the package: each opens, is small enough to ship, says what it is, and writes."""

from __future__ import annotations

import pytest

from diffuseq.checkpoint import load_config, load_model
from diffuseq.models import EXAMPLES, SHIPPED, shipped_model
from diffuseq.pipeline import DiffuSeqPipeline
from diffuseq.text.tokenizer import Tokenizer

MOST_BYTES = 32 * 10**6


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_model_opens_says_what_it_is_and_writes(name: str) -> None:
    folder = shipped_model(name)
    assert all(file.stat().st_size <= MOST_BYTES for file in folder.iterdir())
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "## Training" in card and "## Limits" in card and "license: mit" in card
    question, *_ = EXAMPLES[name]
    answer = DiffuSeqPipeline.from_pretrained(name, "cpu")(question)
    assert answer.text and answer.text in answer.candidates
    assert answer.forwards <= 64


def test_every_folder_is_a_model_that_can_be_named() -> None:
    assert SHIPPED in EXAMPLES
    folders = {path.name for path in shipped_model().parent.iterdir() if (path / "config.json").exists()}
    assert folders == set(EXAMPLES)


def test_those_of_questions_share_a_vocabulary_so_that_they_can_write_together() -> None:
    names = [name for name in EXAMPLES if name.startswith("qqp")]
    assert len({Tokenizer.load(shipped_model(name)).fingerprint for name in names}) == 1
    question, pair = (
        "How can I learn to play the guitar?",
        DiffuSeqPipeline.from_pretrained("qqp-pair", "cpu"),
    )
    together = DiffuSeqPipeline.ensemble(["qqp-large", "qqp"], device="cpu")
    assert pair(question, candidates=2).candidates == together(question, candidates=2).candidates


def test_weights_in_eight_bits_are_those_that_come_back() -> None:
    system, _, config = load_model("qqp-large")
    assert system.num_parameters() == 29_028_098
    assert config.system == load_config(shipped_model("qqp-large")).system
