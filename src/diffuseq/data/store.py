"""A memory-mapped folder of tokenised pairs: built as a stream, opened at once, the memory stays flat.

    tokens.bin   the ids of source 0, target 0, source 1, target 1, … (uint16 or uint32)
    offsets.bin  int64 [2n + 1]: source i starts at offsets[2i], target i at offsets[2i + 1]
    store.json   format version, dtype, counts, and the identity of what it was built from

Legend: n pairs. The ids hold no special tokens; each system adds the ones that it needs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from diffuseq.data.layout import NUM_SEPARATORS, fit_lengths
from diffuseq.data.pairs import Pair
from diffuseq.errors import InputError
from diffuseq.files import atomic_folder, read_text

FORMAT_VERSION = 2
UNKNOWN_SHARE_TO_WARN = 0.01
UNKNOWN_EXAMPLES = 10
UNKNOWN_SEARCHES = 1000
"""Texts that are searched for examples of unknown words, so that one frequent word does not cost an hour."""
CHUNK_PAIRS = 4096
TOKENS, OFFSETS, DESCRIPTION = "tokens.bin", "offsets.bin", "store.json"
CHUNK_CHARACTERS = 4_000_000

EncodeBatch = Callable[[list[str]], list[list[int]]]


@dataclass(frozen=True)
class StoreReport:
    """What building found: pairs, tokens, rows that were cut, rows with an empty side, targets in which a token
    stands twice in a row, unknown tokens.
    """

    pairs: int
    tokens: int
    cut_sources: int
    cut_targets: int
    cut_pairs: int
    empty_sides: int
    doubled_targets: int
    unknown_tokens: int
    unknown_examples: tuple[str, ...]

    @property
    def unknown_share(self) -> float:
        return self.unknown_tokens / max(1, self.tokens)

    def warnings(self) -> list[str]:
        """Sentences for the terminal: rows cut, texts without tokens, and more than 1 % unknown tokens."""
        found = []
        if self.cut_pairs:
            found.append(
                f"cut {self.cut_pairs:,} of {self.pairs:,} pairs to the longest length allowed "
                f"({self.cut_sources:,} sources, {self.cut_targets:,} targets)"
            )
        if self.empty_sides:
            found.append(f"{self.empty_sides:,} texts have no token at all under this tokenizer")
        if self.unknown_share > UNKNOWN_SHARE_TO_WARN:
            found.append(
                f"{self.unknown_share:.1%} of the tokens are unknown to the tokenizer, for example "
                f"{', '.join(map(repr, self.unknown_examples))}; train a tokenizer on this data instead "
                "(leave `text.tokenizer` unset)"
            )
        return found


def build_store(
    pairs: Iterable[Pair],
    encode_batch: EncodeBatch,
    path: str | Path,
    *,
    max_source: int,
    max_target: int,
    vocab_size: int,
    unknown_id: int | None,
    overlong: Literal["cut", "refuse"] = "cut",
    published_layout: bool = False,
    identity: Mapping[str, str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> TokenStore:
    """Tokenise pairs as a stream into a store at `path`, which exists only once it is complete.

    encode_batch: texts → ids without special tokens; a tokenizer that runs its batches in parallel uses all
    cores. max_source, max_target: longest sides in tokens; with `published_layout` instead, `max_source` is
    the published sequence length, special tokens included, for both sides together.
    identity: what the store was built from (hashes of tokenizer and data), for `open` to compare.
    progress: called after every chunk with the pairs so far. An older store at `path` is replaced.
    Raises `InputError` for no pairs, an overlong pair under "refuse", an id outside the vocabulary, or a
    place that cannot be written.
    """
    limits = _Limits(max_source, max_target, overlong, published_layout)
    tally = _Tally()
    dtype = np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)
    path = Path(path)
    _check_replaceable(path)
    with atomic_folder(path) as folder:
        with open(folder / TOKENS, "wb") as tokens, open(folder / OFFSETS, "wb") as offsets:
            offsets.write(np.zeros(1, np.int64).tobytes())
            for chunk, encoded in _encoded(_chunks(pairs), encode_batch):
                rows = _cut(encoded, limits, tally)
                _append(rows, tokens, offsets, dtype, vocab_size, tally)
                tally.count_unknown(chunk, rows, encode_batch, unknown_id)
                if progress is not None:
                    progress(tally.pairs)
        if tally.pairs == 0:
            raise InputError("There are no pairs to tokenise; give data with at least one pair.")
        meta = {
            "format_version": FORMAT_VERSION,
            "dtype": dtype.name,
            "vocab_size": vocab_size,
            "identity": dict(identity or {}),
            "report": asdict(tally.report()),
        }
        (folder / DESCRIPTION).write_text(json.dumps(meta, indent=2, ensure_ascii=False), "utf-8")
    return TokenStore.open(path)


class TokenStore:
    """A finished store: `store[i]` is (source ids, target ids) of pair i, views into the mapped files."""

    def __init__(self, path: Path, tokens: NDArray[Any], offsets: NDArray[np.int64], meta: dict[str, Any]):
        self.path = path
        self.tokens = tokens
        self.offsets = offsets
        self.vocab_size: int = meta["vocab_size"]
        self.identity: dict[str, str] = meta["identity"]
        self.report: StoreReport = _report(meta["report"])

    @staticmethod
    def open(path: str | Path, identity: Mapping[str, str] | None = None) -> TokenStore:
        """Map a store. Raises `InputError` if it is incomplete, damaged, or of another `identity`."""
        path = Path(path)
        meta = _read_meta(path)
        if identity is not None and meta["identity"] != dict(identity):
            raise InputError(
                f"{path} was built from other data, another tokenizer or other lengths; delete it, so that "
                "it is built again."
            )
        tokens = _map(path / TOKENS, np.dtype(meta["dtype"]))
        offsets = _map(path / OFFSETS, np.dtype(np.int64))
        pairs = meta["report"]["pairs"]
        if len(offsets) != 2 * pairs + 1 or offsets[0] != 0 or offsets[-1] != len(tokens):
            raise _damaged(path, "its files do not have the sizes that it states")
        if any((np.diff(offsets[i : i + (1 << 20) + 1]) < 0).any() for i in range(0, 2 * pairs, 1 << 20)):
            raise _damaged(path, "its offsets are not in order")
        return TokenStore(path, tokens, offsets, meta)

    def __len__(self) -> int:
        return (len(self.offsets) - 1) // 2

    def __getitem__(self, index: int) -> tuple[NDArray[Any], NDArray[Any]]:
        if not 0 <= index < len(self):
            raise IndexError(f"pair {index} of a store of {len(self)} pairs")
        start, middle, end = self.offsets[2 * index : 2 * index + 3].tolist()
        return self.tokens[start:middle], self.tokens[middle:end]

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process maps the files again instead of copying them."""
        return TokenStore.open, (self.path,)

    @property
    def source_lengths(self) -> NDArray[np.int32]:
        """int32 [n], tokens of each source."""
        return (self.offsets[1::2] - self.offsets[:-1:2]).astype(np.int32)

    @property
    def target_lengths(self) -> NDArray[np.int32]:
        """int32 [n], tokens of each target."""
        return (self.offsets[2::2] - self.offsets[1::2]).astype(np.int32)


@dataclass(frozen=True)
class _Limits:
    max_source: int
    max_target: int
    overlong: Literal["cut", "refuse"]
    published_layout: bool

    def keep(self, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many tokens of each side stay: [n 2], of lengths [n 2] without special tokens."""
        if self.published_layout:
            room = max(0, self.max_source - NUM_SEPARATORS)
            source, target = torch.from_numpy(lengths).unbind(1)
            return torch.stack(fit_lengths(source, target, room), dim=1).numpy()
        return np.minimum(lengths, [self.max_source, self.max_target])

    def refusal(self, number: int, source: int, target: int) -> InputError:
        allowed = (
            f"{self.max_source - NUM_SEPARATORS} together"
            if self.published_layout
            else f"{self.max_source} and {self.max_target}"
        )
        return InputError(
            f"Pair {number} has {source} source and {target} target tokens, of which {allowed} are allowed; "
            'raise text.max_source and text.max_target, or cut with text.overlong "cut".'
        )


class _Tally:
    """The counts of a store while it is built."""

    def __init__(self) -> None:
        self.pairs = self.tokens = self.cut_sources = self.cut_targets = self.cut_pairs = 0
        self.empty_sides = self.doubled_targets = self.unknown_tokens = 0
        self.unknown_examples: dict[str, None] = {}
        self.searches_left = UNKNOWN_SEARCHES

    def count_unknown(
        self, chunk: list[Pair], rows: list[list[int]], encode_batch: EncodeBatch, unknown_id: int | None
    ) -> None:
        """Count unknown tokens and, until there are enough, find words that became one."""
        if unknown_id is None:
            return
        for index, row in enumerate(rows):
            unknown = row.count(unknown_id)
            self.unknown_tokens += unknown
            if unknown and len(self.unknown_examples) < UNKNOWN_EXAMPLES and self.searches_left:
                self.searches_left -= 1
                pair = chunk[index // 2]
                words = (pair.target if index % 2 else pair.source)[:10_000].split()
                for word, ids in zip(words, encode_batch(words), strict=True):
                    if unknown_id in ids and len(self.unknown_examples) < UNKNOWN_EXAMPLES:
                        self.unknown_examples[word[:40]] = None

    def report(self) -> StoreReport:
        values = {f.name: getattr(self, f.name) for f in fields(StoreReport)}
        return StoreReport(**{**values, "unknown_examples": tuple(self.unknown_examples)})


def _check_replaceable(path: Path) -> None:
    """Only an older store may be in the way; anything else of the user's is left alone."""
    is_store = path.is_dir() and {p.name for p in path.iterdir()} <= {TOKENS, OFFSETS, DESCRIPTION}
    if path.exists() and not is_store:
        raise InputError(f"{path} exists and is no token store; move it away or give another place.")


def _chunks(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    """Lists of pairs, bounded in number and in characters, so that one long text cannot multiply."""
    chunk: list[Pair] = []
    characters = 0
    for pair in pairs:
        chunk.append(pair)
        characters += len(pair.source) + len(pair.target)
        if len(chunk) == CHUNK_PAIRS or characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _encoded(
    chunks: Iterator[list[Pair]], encode_batch: EncodeBatch
) -> Iterator[tuple[list[Pair], list[list[int]]]]:
    """Each chunk with the ids of source 0, target 0, source 1, …

    The next chunk is read and encoded meanwhile: a tokenizer that works outside of Python leaves that to the
    reader and to the writer of the last one, so that no core waits for another.
    """

    def encode(chunk: list[Pair]) -> tuple[list[Pair], list[list[int]]]:
        return chunk, encode_batch(list(chain.from_iterable((pair.source, pair.target) for pair in chunk)))

    with ThreadPoolExecutor(1, "encode") as worker:
        ahead: Future[tuple[list[Pair], list[list[int]]]] | None = None
        for chunk in chunks:
            done, ahead = ahead, worker.submit(encode, chunk)
            if done is not None:
                yield done.result()
        if ahead is not None:
            yield ahead.result()


def _cut(rows: list[list[int]], limits: _Limits, tally: _Tally) -> list[list[int]]:
    """The ids of a chunk, cut to their limits."""
    lengths = np.fromiter(map(len, rows), np.int64, len(rows)).reshape(-1, 2)
    kept = limits.keep(lengths)
    cut = kept < lengths
    for i in np.flatnonzero(cut.any(axis=1)).tolist():
        if limits.overlong == "refuse":
            raise limits.refusal(tally.pairs + i + 1, *lengths[i].tolist())
        rows[2 * i], rows[2 * i + 1] = rows[2 * i][: kept[i, 0]], rows[2 * i + 1][: kept[i, 1]]
    tally.cut_pairs += int(cut.any(axis=1).sum())
    tally.cut_sources += int(cut[:, 0].sum())
    tally.cut_targets += int(cut[:, 1].sum())
    return rows


def _append(
    rows: list[list[int]],
    tokens: BinaryIO,
    offsets: BinaryIO,
    dtype: np.dtype[Any],
    vocab_size: int,
    tally: _Tally,
) -> None:
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    ids = np.fromiter(chain.from_iterable(rows), np.int64, int(lengths.sum()))
    if ids.size and (ids.min() < 0 or ids.max() >= vocab_size):
        raise InputError(
            f"The tokenizer gives the id {int(ids.max())}, outside its vocabulary of {vocab_size}; its files "
            "are not consistent, use another tokenizer."
        )
    tokens.write(ids.astype(dtype).tobytes())
    offsets.write((np.cumsum(lengths) + tally.tokens).tobytes())
    tally.tokens += ids.size
    tally.pairs += len(rows) // 2
    tally.empty_sides += int((lengths == 0).sum())
    row = np.repeat(np.arange(len(rows)), lengths)
    doubled = row[1:][(ids[1:] == ids[:-1]) & (row[1:] == row[:-1])]
    tally.doubled_targets += int((np.unique(doubled) % 2).sum())  # sources are even


def _read_meta(path: Path) -> dict[str, Any]:
    """store.json with its keys and types checked."""
    try:
        meta = json.loads(read_text(path / DESCRIPTION))
    except OSError as error:
        raise InputError(f"There is no token store at {path} ({error.strerror}); it is built anew.") from None
    except (ValueError, RecursionError):
        raise _damaged(path, "store.json is not JSON") from None
    if not isinstance(meta, dict) or meta.get("format_version") != FORMAT_VERSION:
        raise _damaged(path, f"it is not of format version {FORMAT_VERSION}")
    well_formed = (
        meta.get("dtype") in ("uint16", "uint32")
        and isinstance(meta.get("vocab_size"), int)
        and 0 < meta["vocab_size"] <= 1 << 32
        and isinstance(meta.get("identity"), dict)
        and isinstance(meta.get("report"), dict)
        and set(meta["report"]) == {f.name for f in fields(StoreReport)}
        and all(isinstance(v, list if k == "unknown_examples" else int) for k, v in meta["report"].items())
    )
    if not well_formed:
        raise _damaged(path, "store.json lacks a key or has one of the wrong kind")
    return meta


def _report(values: dict[str, Any]) -> StoreReport:
    return StoreReport(**{**values, "unknown_examples": tuple(values["unknown_examples"])})


def _map(path: Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    try:
        size = path.stat().st_size
        if size % dtype.itemsize:
            raise _damaged(path.parent, f"{path.name} is cut short")
        if size == 0:  # the operating system maps no empty file
            return np.zeros(0, dtype)
        return np.asarray(np.memmap(path, dtype, mode="r"))
    except OSError as error:
        raise _damaged(path.parent, f"{path.name} cannot be read ({error.strerror})") from None


def _damaged(path: Path, reason: str) -> InputError:
    return InputError(
        f"The token store {path} cannot be used: {reason}; delete it, so that it is built again."
    )
