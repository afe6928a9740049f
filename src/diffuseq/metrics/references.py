"""What every metric against references asks of them."""

from __future__ import annotations

from collections.abc import Sequence

from diffuseq.errors import InputError


def check_references(texts: Sequence[str], references: Sequence[str | Sequence[str]]) -> None:
    """Raise `InputError` where texts and references do not belong together one by one, or a text has none."""
    if len(texts) != len(references):
        raise InputError(
            f"There are {len(texts):,} texts and references for {len(references):,}; give as many of either."
        )
    for row, given in enumerate(references, start=1):
        if not isinstance(given, str) and not len(given):
            raise InputError(f"Text {row} has no reference; give it one, or leave it out.")
