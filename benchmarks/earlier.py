"""What an earlier call of a benchmark left, and what it was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffuseq.errors import InputError


def check_same(place: Path, option: str, before: Any, now: Any) -> None:
    """Raise `InputError` where a folder or file came of another value of an option, say in a dry run, than is
    asked for now: what is there would be taken for what was asked for."""
    if before != now:
        raise InputError(
            f"{place} is of --{option} {_shown(before)}, not {_shown(now)}; give another --out, or delete it."
        )


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
