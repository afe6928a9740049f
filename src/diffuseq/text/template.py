"""Templates: answers of which some words are given, in text.

    What is [MASK] [MASK] way to learn Python?      one free token for each [MASK]
    What is [MASK]*3 to learn Python?               three free tokens
    What is [...] python [...]                      any number of free tokens, by the length of the answer

All other text is pinned: its tokens stand in the answer exactly. A slot is one token of the vocabulary, which
is a word or a piece of one.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diffuseq.errors import InputError

if TYPE_CHECKING:
    from diffuseq.text.tokenizer import Tokenizer

FREE = -1
"""The id of a free slot."""
SLOT, GAP = "[MASK]", "[...]"
_MARKS = re.compile(r"(\[MASK\](?:\*\d{1,6})?|\[\.\.\.\])")
_MOST_SLOTS = 10_000


@dataclass(frozen=True)
class Template:
    """Runs of ids (FREE for a slot) with a gap of open length between each two of them."""

    runs: list[list[int]]

    @property
    def num_gaps(self) -> int:
        return len(self.runs) - 1

    @property
    def least_length(self) -> int:
        """Tokens without those in the gaps."""
        return sum(map(len, self.runs))

    def at_length(self, length: int, seeds: Sequence[int]) -> list[list[int]]:
        """Ids with the gaps filled by free slots: one list if there is one way to do it, else one a seed.

        The first shares the free tokens out evenly over the gaps; the others at random, each by its seed, so
        that candidates have the given words in different places. All are as long as each other: `length`, or
        longer where the given words leave no token a gap.
        """
        free = max(length - self.least_length, self.num_gaps)
        if self.num_gaps == 0:
            return [self.runs[0]]
        if self.num_gaps == 1:
            return [self._filled([free])]
        even = [free * (i + 1) // self.num_gaps - free * i // self.num_gaps for i in range(self.num_gaps)]
        return [self._filled(even), *(self._filled(_shares(free, self.num_gaps, seed)) for seed in seeds[1:])]

    def _filled(self, sizes: Sequence[int]) -> list[int]:
        ids = list(self.runs[0])
        for size, run in zip(sizes, self.runs[1:], strict=True):
            ids += [FREE] * size + run
        return ids


def parse_template(text: str, tokenizer: Tokenizer) -> Template:
    """The template of a text. Raises `InputError` if it has no slot, or words the model cannot write."""
    runs: list[list[int]] = [[]]
    parts = _MARKS.split(text)
    for index, part in enumerate(parts):
        if part == GAP:
            runs.append([])
        elif index % 2:
            count = int(part.partition("*")[2] or 1)
            if not 1 <= count <= _MOST_SLOTS:
                raise InputError(f"The template has {part}; give from 1 to {_MOST_SLOTS} slots.")
            runs[-1] += [FREE] * count
        elif part.strip():
            runs[-1] += _given(part, tokenizer, is_glued=index > 0 and not part[0].isspace())
    template = Template(runs)
    if template.num_gaps == 0 and FREE not in runs[0]:
        raise InputError(
            f"The template {text!r} leaves nothing to write; put {SLOT} where a token is free, or {GAP} "
            "where any number of them is."
        )
    return template


def one_template(template: str | None, prefix: str = "", suffix: str = "") -> str | None:
    """The template itself, or that of a text that begins and ends as given. Raises `InputError` for both, and for
    what is no text."""
    for name, value in (("template", template), ("prefix", prefix), ("suffix", suffix)):
        if value is not None and not isinstance(value, str):
            raise InputError(f"The {name} is of the type {type(value).__name__}; give a text (str).")
    if not prefix and not suffix:
        return template
    if template is not None:
        raise InputError("A template and a prefix or suffix were given; put them into the template.")
    return around(prefix, suffix)


def around(prefix: str, suffix: str) -> str:
    """The template of a text that begins and ends as given. Raises `InputError` where either has slots itself."""
    for name, value in (("prefix", prefix), ("suffix", suffix)):
        if _MARKS.search(value):
            raise InputError(f"The {name} {value!r} has slots; give a template instead.")
    glue = "" if suffix and not suffix[0].isalnum() else " "
    return f"{prefix} {GAP}{glue}{suffix}".strip()


def _given(text: str, tokenizer: Tokenizer, is_glued: bool) -> list[int]:
    """Ids of given words; glued text goes on from the slot before it without a space."""
    ids = tokenizer.encode([text])[0]
    if is_glued:
        ids = _glued(text, tokenizer) or ids
    if tokenizer.special.unknown in ids or not ids:
        raise InputError(
            f"The template has {text.strip()!r}, which this model cannot spell; give other words."
        )
    return ids


def _glued(text: str, tokenizer: Tokenizer) -> list[int] | None:
    """Ids of text as it stands right behind another piece; None if it never starts a piece there."""
    for before in ("a", ","):
        encoding = tokenizer.backend.encode(before + text, add_special_tokens=False)
        starts = [start for start, _ in encoding.offsets]
        if 1 in starts:
            return list(encoding.ids[starts.index(1) :])
    return None


def _shares(total: int, parts: int, seed: int) -> list[int]:
    """`total` cut into `parts` whole numbers from 0, each way as likely."""
    cuts = sorted(random.Random(seed).sample(range(total + parts - 1), parts - 1))
    edges = [-1, *cuts, total + parts - 1]
    return [after - before - 1 for before, after in itertools.pairwise(edges)]
