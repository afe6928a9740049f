"""What a training makes of its data."""

import json
from collections import Counter
from pathlib import Path

import pytest

from diffuseq.config import TextConfig, TrainingConfig
from diffuseq.training.corpus import prepare_corpus
from diffuseq.training.tracking import Event, ignore


def test_a_validation_set_a_little_longer_than_a_batch_counts_hardly_any_pair_twice(tmp_path: Path) -> None:
    for split, pairs in (("train", 20), ("valid", 65)):
        rows = [
            json.dumps({"src": f"what is {split} {i}?", "trg": f"tell me {split} {i}."}) for i in range(pairs)
        ]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(rows))
    corpus = prepare_corpus(tmp_path, tmp_path / "cache", TextConfig(vocab_size=200), 0, ignore)

    plan = corpus.validation_data(TrainingConfig(batch_size=64)).plan

    counted = Counter(int(row) for batch in plan.batches(0) for row in batch)
    assert sorted(counted) == list(range(65))
    assert sum(counted.values()) == 66


@pytest.mark.parametrize(("again", "warnings"), [(0, 0), (1, 1)])
def test_pairs_held_out_of_one_file_that_stand_in_the_rest_are_told_once(
    tmp_path: Path, again: int, warnings: int
) -> None:
    rows = [{"src": f"what is {i}?", "trg": f"tell me {i}."} for i in range(40)]
    rows += [{"src": rows[19]["trg"], "trg": rows[19]["src"]}] * again
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    told: list[str] = []

    def listen(event: Event) -> None:
        told.extend([event.text] if event.kind == "warning" else [])

    for _ in range(2):
        prepare_corpus(tmp_path / "pairs.jsonl", tmp_path / "cache", TextConfig(vocab_size=200), 0, listen)
    assert len(told) == warnings
    assert not told or "1 of 2 valid pairs (50.0%) stand in the training set (1 of them turned" in told[0]
