"""What a training makes of its data."""

import json
from collections import Counter
from pathlib import Path

from diffuseq.config import TextConfig, TrainingConfig
from diffuseq.training.corpus import prepare_corpus
from diffuseq.training.tracking import ignore


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
