"""Sources of which a model reads only the beginning: told once a call, by a warning that has a name."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence


class CutWarning(UserWarning):
    """Sources are longer than the model reads."""


# Python shows a warning of a line once; every call has sources of its own. What users have set goes before.
warnings.simplefilter("always", CutWarning, append=True)


def warn_of_cuts(lengths: Sequence[int], longest: int) -> None:
    """Warn if sources of these lengths in tokens have more than the `longest` that a model reads."""
    cut = [row for row, length in enumerate(lengths) if length > longest]
    if not cut:
        return
    count = "The source" if len(lengths) == 1 else f"{len(cut):,} of {len(lengths):,} sources"
    first = (
        "it"
        if len(lengths) == 1
        else f"source {cut[0] + 1:,}"
        if len(cut) == 1
        else f"source {cut[0] + 1:,}, the first of them,"
    )
    message = (
        f"{count} {'was' if len(cut) == 1 else 'were'} cut to {longest:,} tokens, the most that this model reads; "
        f"{first} has {lengths[cut[0]]:,}."
    )
    warnings.warn(message, CutWarning, stacklevel=_level_of_caller())


def _level_of_caller() -> int:
    """How far up, seen from who asks, the code begins that is not ours; the warning is to name its line."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("diffuseq."):
        frame, level = frame.f_back, level + 1
    return level
