"""Sources that are ready to be answered: read by the tokenizer, with a seed and, where asked for, a template."""

from __future__ import annotations

import dataclasses
import numbers
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from diffuseq.config import Generation, TextConfig
from diffuseq.errors import InputError
from diffuseq.sampling.noise import mix_seed
from diffuseq.text.template import parse_template

if TYPE_CHECKING:
    from diffuseq.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Prompt:
    """A source that is ready to be answered: its ids, its seed, and the ids of its template.

    templates: none, one for all candidates, or one for each (all of one length; −1 where free). unread: how many
    tokens at the end of the source are left out, for the model reads no longer ones.
    """

    source: str
    ids: list[int]
    seed: int
    templates: list[list[int]] = field(default_factory=list)
    unread: int = 0

    @property
    def shape(self) -> tuple[int, int]:
        """Prompts can be answered together if their shapes are the same."""
        return len(self.templates), len(self.templates[0]) if self.templates else 0

    def pinned(self, candidate: int, places: Sequence[int]) -> list[bool]:
        """Which of these places of a candidate are given."""
        ids = self.templates[candidate % len(self.templates)]
        return [place < len(ids) and ids[place] >= 0 for place in places]


def read_sources(
    sources: Sequence[Any], seeds: Sequence[int], tokenizer: Tokenizer, settings: TextConfig
) -> list[Prompt]:
    """A prompt for each source, as much of it as the model reads.

    Raises `InputError` for a source that is no text, is empty or has nothing that the tokenizer can read, and,
    where `overlong` is refused, for one that is longer than the model reads; and for seeds that are not one each.
    """
    texts, longest = _checked_texts(sources), settings.max_source
    _check_seeds(seeds, len(texts))
    prompts = [
        Prompt(text, ids[:longest], seed, unread=max(0, len(ids) - longest))
        for text, ids, seed in zip(texts, tokenizer.encode(texts), seeds, strict=True)
    ]
    for row, prompt in enumerate(prompts, start=1):
        if prompt.unread and settings.overlong == "refuse":
            raise InputError(
                f"Source {row} has {longest + prompt.unread} tokens; this model reads up to {longest}: shorten it."
            )
        if not prompt.ids:
            raise InputError(
                f"Source {row} ({prompt.source[:40]!r}) has nothing this model's tokenizer can read."
            )
    return prompts


def with_template(
    prompt: Prompt,
    text: str,
    tokenizer: Tokenizer,
    settings: Generation,
    longest: int,
    likely_length: Callable[[Prompt], int],
) -> Prompt:
    """The prompt with a template at the length of its answer: its own, the one asked for, or the likely one.

    longest: how many tokens the model writes at most. Raises `InputError` where these do not fit together.
    """
    template = parse_template(text, tokenizer)
    asked = getattr(settings, "length", None)
    if template.num_gaps == 0:
        length = template.least_length
        if asked not in (None, length):
            raise InputError(
                f"The template has {length} tokens, but length is {asked}; leave it out, or use [...]."
            )
    elif asked is not None:
        length, least = asked, template.least_length + template.num_gaps
        if asked < least:
            raise InputError(
                f"length is {asked}, but the template has {template.least_length} tokens already, and each [...] "
                f"is one at least; ask for {least} or more."
            )
    else:
        length = min(likely_length(prompt), longest)
    seeds = [mix_seed(prompt.seed, text, candidate) for candidate in range(settings.candidates)]
    templates = template.at_length(length, seeds)
    if len(templates[0]) > longest:
        raise InputError(
            f"The template has {len(templates[0])} tokens; this model writes up to {longest}: shorten it."
        )
    return dataclasses.replace(prompt, templates=templates)


def batches(prompts: Sequence[Prompt], size: int) -> Iterator[list[int]]:
    """Rows that can be answered together, of about one length: at most `size` at a time."""
    by_shape = defaultdict(list)
    for row in sorted(range(len(prompts)), key=lambda row: len(prompts[row].ids)):
        by_shape[prompts[row].shape].append(row)
    for rows in by_shape.values():
        for start in range(0, len(rows), size):
            yield rows[start : start + size]


def _check_seeds(seeds: Any, count: int) -> None:
    """Raise `InputError` for what are not as many whole numbers as there are sources."""
    if not isinstance(seeds, Sequence | np.ndarray) or isinstance(seeds, str) or len(seeds) != count:
        raise InputError(
            f"seeds is {seeds!r} for {count} sources; give a list with a number for each, or none."
        )
    for seed in seeds:
        if isinstance(seed, bool) or not isinstance(seed, numbers.Integral):
            raise InputError(f"seeds has {seed!r}; give whole numbers.")


def _checked_texts(sources: Sequence[Any]) -> list[str]:
    """The sources as plain texts. Raises `InputError` for one that is none, or empty, and for a text alone, whose
    letters would be taken for sources."""
    if isinstance(sources, str):
        raise InputError(f"The sources are one text, {sources[:40]!r}; give a list of texts.")
    for row, source in enumerate(sources, start=1):
        if not isinstance(source, str):
            raise InputError(
                f"Source {row} is of the type {type(source).__name__}; give a text (str), or leave it out."
            )
        if not source.strip():
            raise InputError(f"Source {row} is empty; give it some text, or leave it out.")
    return [str(source) for source in sources]  # numpy's as well
