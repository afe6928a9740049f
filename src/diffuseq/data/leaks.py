"""Which validation and test pairs also stand in the training set: scores on them measure memory.

Texts are compared without regard to case and blanks. Memory grows with the held-out splits, not with the
training set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from diffuseq.data.pairs import BadRows, Pair, find_split, read_pairs
from diffuseq.errors import InputError

EXAMPLES = 3


@dataclass(frozen=True)
class Leaks:
    """What one held-out split shares with the training set."""

    split: str
    pairs: int
    """Pairs of the split."""
    leaked: int
    """Those whose source and target stand together in the training set, in either direction."""
    turned: int
    """Those of them that stand there from target to source only."""
    known_sources: int
    """Pairs whose source stands in the training set at all, as a source or as a target."""
    examples: tuple[Pair, ...]
    """Some of the leaked pairs."""

    def warning(self) -> str | None:
        """One sentence for the terminal if any pair leaked."""
        if not self.leaked:
            return None
        example = self.examples[0]
        return (
            f"{self.leaked:,} of {self.pairs:,} {self.split} pairs ({self.leaked / self.pairs:.1%}) stand "
            f"in the training set ({self.turned:,} of them turned around), for example {example.source!r} → "
            f"{example.target!r}; scores on them measure memory"
        )


def find_leaks(folder: str | Path, skip_bad_rows: bool = False) -> list[Leaks]:
    """Compare the validation and test split of a data folder, where it has them, with its training split.

    Raises `InputError` as `read_pairs` does, and when there is no training split.
    """
    train = find_split(folder, "train")
    held_out = {split: list(read_pairs(path, skip_bad_rows, BadRows())) for split, path in _held_out(folder)}
    return leaks_into(held_out, read_pairs(train, skip_bad_rows, BadRows()))


def leaks_into(held_out: Mapping[str, list[Pair]], training: Iterable[Pair]) -> list[Leaks]:
    """Compare held-out splits, each by its name, with the training pairs, which are read as a stream and only where
    something is held out."""
    wanted_pairs = {_pair_key(p.source, p.target) for pairs in held_out.values() for p in pairs}
    wanted_pairs |= {_pair_key(p.target, p.source) for pairs in held_out.values() for p in pairs}
    wanted_texts = {_key(p.source) for pairs in held_out.values() for p in pairs}
    seen_pairs: set[bytes] = set()
    seen_texts: set[bytes] = set()
    for pair in training if held_out else ():
        source, target = _key(pair.source), _key(pair.target)
        seen_pairs.update({source + target} & wanted_pairs)
        seen_texts.update({source, target} & wanted_texts)
    return [_compare(split, pairs, seen_pairs, seen_texts) for split, pairs in held_out.items()]


def _held_out(folder: str | Path) -> Iterator[tuple[str, Path]]:
    for split in ("valid", "test"):
        try:
            yield split, find_split(folder, split)
        except InputError:
            continue  # a data folder need not have it


def _compare(split: str, pairs: list[Pair], seen_pairs: set[bytes], seen_texts: set[bytes]) -> Leaks:
    straight = [_pair_key(pair.source, pair.target) in seen_pairs for pair in pairs]
    turned = [_pair_key(pair.target, pair.source) in seen_pairs for pair in pairs]
    leaked = [pair for pair, a, b in zip(pairs, straight, turned, strict=True) if a or b]
    return Leaks(
        split=split,
        pairs=len(pairs),
        leaked=len(leaked),
        turned=sum(b and not a for a, b in zip(straight, turned, strict=True)),
        known_sources=sum(_key(pair.source) in seen_texts for pair in pairs),
        examples=tuple(leaked[:EXAMPLES]),
    )


def _pair_key(source: str, target: str) -> bytes:
    return _key(source) + _key(target)


def _key(text: str) -> bytes:
    return hashlib.blake2b(" ".join(text.casefold().split()).encode(), digest_size=16).digest()
