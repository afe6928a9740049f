"""From a data folder to what the loop trains on: tokenizer and token stores, made once and kept in a cache.

Everything cached carries the hashes of what it was made from, so that it is made anew when the data, the
tokenizer or the lengths change, and opened at once when they do not.
"""

from __future__ import annotations

import itertools
import json
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np

from diffuseq.config import TextConfig, TrainingConfig
from diffuseq.data.batching import BatchPlan, StoredPairs
from diffuseq.data.grammar import write_corpus
from diffuseq.data.leaks import Leaks, find_leaks, leaks_into
from diffuseq.data.pairs import BadRows, Pair, find_split, read_pairs
from diffuseq.data.store import TokenStore, build_store
from diffuseq.errors import InputError
from diffuseq.files import atomic_folder, remembered_hash
from diffuseq.text.tokenizer import Tokenizer
from diffuseq.training.graphs import MULTIPLE
from diffuseq.training.tracking import Event, OnEvent

GRAMMAR = "grammar"
"""As the name of the data: the corpus that the project makes itself."""
HASHES = "hashes.json"
HOLD_OUT_EVERY = 20
"""Of a single file without splits, every so many rows are kept for validation."""
VALIDATION_BATCH = 64
"""Pairs in a validation batch at most: it is not cut, and must fit where a share of a training batch fits."""

Pairs = Callable[[BadRows], Iterator[Pair]]
"""Reads a split from its beginning. It is read more than once, and each pass has a report of its own, so that
no bad row is counted twice."""


@dataclass(frozen=True)
class Corpus:
    """A tokenizer with the tokenised training and validation pairs, and the first validation texts."""

    tokenizer: Tokenizer
    train: TokenStore
    valid: TokenStore
    valid_pairs: list[Pair]
    fingerprint: str

    def training_data(self, settings: TrainingConfig) -> StoredPairs:
        # also where nothing can be recorded: noise is drawn by shape, and a run is the same however it is started
        multiple = MULTIPLE if settings.cuda_graphs else 1
        return self._batches(
            self.train, settings.batch_size, settings.seed, settings.both_directions, multiple
        )

    def longest_pairs(self, settings: TrainingConfig) -> list[tuple[int, int]]:
        """Lengths of source and target of those pairs that have the longest source, the longest target, or most
        tokens together: what a system takes of these it takes of all."""
        pairs = []
        for store, turned in ((self.train, settings.both_directions), (self.valid, False)):
            sources, targets = store.source_lengths, store.target_lengths
            for measure in (sources, targets, np.add(sources, targets, dtype=np.int64)):
                row = measure.argmax()
                source, target = int(sources[row]), int(targets[row])
                pairs += [(source, target), (target, source)] if turned else [(source, target)]
        return pairs

    def beyond(self, longest_answer: Callable[[int], int | None], both_directions: bool) -> int:
        """How many training targets are longer than the answer that a source of their source's length may have."""
        sources, targets = self.train.source_lengths, self.train.target_lengths
        count = 0
        for given, wanted in ((sources, targets), (targets, sources))[: 1 + both_directions]:
            lengths, where = np.unique(given, return_inverse=True)
            limits = [longest_answer(int(length)) for length in lengths]
            most = np.array([np.inf if limit is None else limit for limit in limits])
            count += int((wanted > most[where]).sum())
        return count

    def counted(self, settings: TrainingConfig) -> TrainingConfig:
        """The settings with `steps` for their `epochs`, if they have any."""
        if settings.epochs is None:
            return settings
        pairs = settings.epochs * self.training_data(settings).plan.num_examples
        return replace(settings, steps=max(1, math.ceil(pairs / settings.batch_size)))

    def validation_data(self, settings: TrainingConfig) -> StoredPairs:
        """Batches as alike as they can be, for the last one is filled up with pairs that count twice then."""
        pairs = len(self.valid)
        batches = math.ceil(pairs / min(settings.batch_size, VALIDATION_BATCH))
        return self._batches(self.valid, math.ceil(pairs / batches), 0, False)

    def _batches(self, store: TokenStore, size: int, seed: int, both: bool, multiple: int = 1) -> StoredPairs:
        plan = BatchPlan(store.source_lengths, store.target_lengths, size, seed, both)
        return StoredPairs(store, plan, self.tokenizer.special.pad, multiple)


def prepare_corpus(
    data: str | Path, cache: Path, text: TextConfig, texts: int, report: OnEvent, skip_bad_rows: bool = False
) -> Corpus:
    """Read, tokenise and cache the data.

    data: a folder with train.jsonl and valid.jsonl, one jsonl file (every 20th row is then held out), or
    "grammar" for the built-in corpus. texts: validation pairs to keep as text, whose sources are to be answered.
    Raises `InputError` for data that cannot be used.
    """
    bad_rows = BadRows()
    sources, hashes = _splits(data, cache, report, skip_bad_rows)
    tokenizer = _tokenizer(text, sources["train"], hashes["train"], cache / "tokenizer", report)
    if tokenizer.lowercases and not text.lowercase:
        name = f"the tokenizer {text.tokenizer} lower-cases all text, whatever text.lowercase says"
        report(Event("warning", f"{name}; for answers with capitals name another."))
    stores = {}
    fresh = not (cache / "train").is_dir()
    for split in ("train", "valid"):
        identity = {
            "data": hashes[split],
            "tokenizer": tokenizer.fingerprint,
            "lengths": f"{text.max_source} {text.max_target} {text.overlong} {text.published_layout}",
        }
        stores[split] = _store(sources[split], tokenizer, text, cache / split, identity, report, bad_rows)
        for warning in stores[split].report.warnings():
            report(Event("warning", f"{split}: {warning}."))
    for line in bad_rows.lines():
        report(Event("warning", line))
    if fresh:  # a cache was warned of before
        found = _leaks(data, sources, stores, skip_bad_rows)
        for warning in filter(None, (leaks.warning() for leaks in found)):
            report(Event("warning", f"{warning}."))
    fingerprint = sha256(json.dumps([store.identity for store in stores.values()]).encode()).hexdigest()
    readable = (pair for pair in sources["valid"](BadRows()) if tokenizer.encode([pair.source])[0])
    valid_pairs = list(itertools.islice(readable, texts))
    return Corpus(tokenizer, stores["train"], stores["valid"], valid_pairs, fingerprint)


def _leaks(
    data: str | Path, sources: dict[str, Pairs], stores: dict[str, TokenStore], skip: bool
) -> list[Leaks]:
    """What the held-out pairs share with the training pairs; the built-in corpus holds nothing twice."""
    if Path(data).is_dir():
        return find_leaks(data, skip)
    # a file that is too small holds nothing out, which was told
    holds_out = len(stores["valid"]) < len(stores["train"])
    if not Path(data).is_file() or not holds_out:
        return []
    return leaks_into({"valid": list(sources["valid"](BadRows()))}, sources["train"](BadRows()))


def _splits(
    data: str | Path, cache: Path, report: OnEvent, skip: bool
) -> tuple[dict[str, Pairs], dict[str, str]]:
    """A fresh reader of each split, and a hash of what it reads."""
    if str(data) == GRAMMAR and not Path(data).exists():
        data = cache / GRAMMAR
        if not (data / "train.jsonl").is_file():
            report(Event("message", "making the built-in corpus"))
            with atomic_folder(data) as folder:
                write_corpus(folder)
    if Path(data).is_file():
        _refuse_empty(Path(data), skip)
        return _split_file(Path(data), cache, report, skip)
    paths = {split: find_split(data, split) for split in ("train", "valid")}
    for path in paths.values():
        _refuse_empty(path, skip)

    def reader(path: Path) -> Pairs:
        return lambda bad_rows: read_pairs(path, skip, bad_rows)

    hashes = {split: remembered_hash(path, cache / HASHES) for split, path in paths.items()}
    return {split: reader(path) for split, path in paths.items()}, hashes


def _refuse_empty(path: Path, skip: bool) -> None:
    """Raise `InputError` for a file without a pair, before a tokenizer is trained on another."""
    bad_rows = BadRows()
    if next(read_pairs(path, skip, bad_rows), None) is None:
        why = "; ".join(bad_rows.lines()) or "it has no row"
        raise InputError(f"{path} gives no pair ({why}); give data with at least one.")


def _split_file(
    path: Path, cache: Path, report: OnEvent, skip: bool
) -> tuple[dict[str, Pairs], dict[str, str]]:
    enough = (
        sum(1 for _ in itertools.islice(read_pairs(path, skip, BadRows()), HOLD_OUT_EVERY)) == HOLD_OUT_EVERY
    )
    every = HOLD_OUT_EVERY if enough else 1
    if not enough:
        report(
            Event(
                "warning", f"{path} has fewer than {HOLD_OUT_EVERY} rows; validation uses the training rows."
            )
        )

    def train(bad_rows: BadRows) -> Iterator[Pair]:
        rows = enumerate(read_pairs(path, skip, bad_rows), start=1)
        return (pair for i, pair in rows if i % every or not enough)

    def valid(_: BadRows) -> Iterator[Pair]:  # the same file: `train` has counted
        return itertools.islice(read_pairs(path, skip, BadRows()), every - 1, None, every)

    digest = remembered_hash(path, cache / HASHES)
    return {"train": train, "valid": valid}, {"train": f"{digest} train", "valid": f"{digest} valid"}


def _tokenizer(text: TextConfig, pairs: Pairs, data_hash: str, folder: Path, report: OnEvent) -> Tokenizer:
    """The tokenizer that the settings name, or one trained on the training texts and kept in `folder`."""
    if text.tokenizer is not None:
        return Tokenizer.load(text.tokenizer)
    identity = f"{data_hash} {text.algorithm} {text.vocab_size} {text.lowercase}"
    mark = folder / "made-from.txt"
    if mark.is_file() and mark.read_text(encoding="utf-8") == identity:
        return Tokenizer.load(folder)
    report(Event("message", f"training a tokenizer of up to {text.vocab_size:,} tokens"))
    texts = itertools.chain.from_iterable((pair.source, pair.target) for pair in pairs(BadRows()))
    tokenizer = Tokenizer.train(texts, text.vocab_size, text.algorithm, text.lowercase)
    with atomic_folder(folder) as temporary:
        tokenizer.save(temporary)
        (temporary / mark.name).write_text(identity, encoding="utf-8")
    return tokenizer


def _store(
    pairs: Pairs,
    tokenizer: Tokenizer,
    text: TextConfig,
    path: Path,
    identity: dict[str, str],
    report: OnEvent,
    bad_rows: BadRows,
) -> TokenStore:
    try:
        return TokenStore.open(path, identity)
    except InputError:
        shutil.rmtree(path, ignore_errors=True)
    name = path.name
    report(Event("message", f"tokenising {name}"))
    return build_store(
        pairs(bad_rows),
        tokenizer.encode,
        path,
        max_source=text.max_source,
        max_target=text.max_target,
        vocab_size=tokenizer.special.vocab_size,
        unknown_id=tokenizer.special.unknown,
        overlong=text.overlong,
        published_layout=text.published_layout,
        identity=identity,
        progress=lambda count: report(Event("progress", f"tokenising {name}", {"pairs": count})),
    )
