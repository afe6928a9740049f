"""How much memory and time a token store takes, from a jsonl file to batches, with a real tokenizer.

    python benchmarks/store_memory.py [PAIRS] [--compare]

Writes PAIRS (3.4 million by default) synthetic pairs as jsonl into a temporary folder, trains a WordPiece
tokenizer on the first ones, builds the store, and reads batches from the middle of an epoch. Prints pairs a
second and the peak resident memory of every stage. `--compare` tokenises 200,000 pairs at most with
`datasets.map` (batched) as well, for the ratio. Set RAYON_NUM_THREADS=1 for one core.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from diffuseq.data.batching import BatchPlan, collate
from diffuseq.data.pairs import read_pairs
from diffuseq.data.store import TokenStore, build_store

BATCH_SIZE = 256
COMPARED_PAIRS = 200_000
LIMITS: Any = {"max_source": 64, "max_target": 64, "vocab_size": 8192, "unknown_id": 1}


def synthetic_rows(pairs: int, seed: int = 0) -> Iterator[str]:
    """Lines of jsonl: sentences of 4 to 20 words from 30,000 made-up words with natural frequencies."""
    random = np.random.default_rng(seed)
    letters = np.array(list("eeeettaaooiinnsshhrrddlucmfwygpbvk"))
    words = ["".join(random.choice(letters, length)) for length in random.integers(2, 11, 30_000)]
    for start in range(0, pairs, 10_000):
        rows = min(10_000, pairs - start)
        lengths = random.integers(4, 21, 2 * rows)
        ranks = np.minimum(random.zipf(1.2, lengths.sum()), len(words)) - 1
        text = (words[rank] for rank in ranks.tolist())
        sides = (" ".join(islice(text, length)) for length in lengths.tolist())
        for source, target in zip(sides, sides, strict=True):
            yield json.dumps({"src": source, "trg": target}) + "\n"


def train_tokenizer(path: Path, pairs: int = 20_000) -> Tokenizer:
    """A lower-casing WordPiece tokenizer with 8,192 tokens, trained on the first pairs."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=8192, special_tokens=["[PAD]", "[UNK]"], show_progress=False
    )
    texts = (text for pair in islice(read_pairs(path), pairs) for text in (pair.source, pair.target))
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def encoder(tokenizer: Tokenizer) -> Callable[[list[str]], list[list[int]]]:
    return lambda texts: [e.ids for e in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


def peak_megabytes() -> float:
    """The most resident memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        1024 if sys.platform != "darwin" else 1 << 20
    )


def report(stage: str, seconds: float, pairs: int) -> None:
    print(f"{stage:<34} {seconds:8.1f} s {pairs / seconds:12,.0f} pairs/s   peak {peak_megabytes():7,.0f} MB")


def compare_with_datasets(path: Path, tokenizer: Tokenizer, folder: Path) -> None:
    """Tokenise the first pairs with both, one after the other, and compare their processor time."""
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    encode = encoder(tokenizer)
    first = list(islice(read_pairs(path), COMPARED_PAIRS))
    data = Dataset.from_dict({"src": [p.source for p in first], "trg": [p.target for p in first]})
    start = time.process_time()
    data.map(lambda rows: {"source": encode(rows["src"]), "target": encode(rows["trg"])}, batched=True)
    theirs = time.process_time() - start
    start = time.process_time()
    build_store(first, encode, folder / "compared", **LIMITS)
    ours = time.process_time() - start
    for name, seconds in (("datasets.map", theirs), ("build_store", ours)):
        print(f"{name:<14} {len(first) / seconds:10,.0f} pairs per second of processor time")
    print(f"build_store does {theirs / ours:.2f} times the pairs of datasets.map")


def main(pairs: int, compare: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "train.jsonl"
        start = time.perf_counter()
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(synthetic_rows(pairs))
        report(f"write {path.stat().st_size >> 20:,} MB of jsonl", time.perf_counter() - start, pairs)
        tokenizer = train_tokenizer(path)
        start = time.perf_counter()
        store = build_store(read_pairs(path), encoder(tokenizer), folder / "store", **LIMITS)
        tokens = f"{store.report.tokens / 1e6:.0f} M tokens"
        report(f"build the store ({tokens})", time.perf_counter() - start, pairs)
        start = time.perf_counter()
        store = TokenStore.open(folder / "store")
        plan = BatchPlan(store.source_lengths, store.target_lengths, BATCH_SIZE, seed=0)
        collate(store, plan.rows(plan.batches_per_epoch // 2), pad_id=0)
        print(f"open, and the first batch in the middle of an epoch: {time.perf_counter() - start:.2f} s")
        start = time.perf_counter()
        for batch in range(200):
            collate(store, plan.rows(batch), pad_id=0)
        report("read 200 batches", time.perf_counter() - start, 200 * BATCH_SIZE)
        if compare:
            compare_with_datasets(path, tokenizer, folder)


if __name__ == "__main__":
    numbers = [int(argument.replace("_", "")) for argument in sys.argv[1:] if argument != "--compare"]
    main(numbers[0] if numbers else 3_400_000, "--compare" in sys.argv)
