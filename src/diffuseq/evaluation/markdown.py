"""Names and texts, which may have any signs, inside markdown."""

from __future__ import annotations


def plain(text: str) -> str:
    """Text in one line that markdown will not read as anything else."""
    for sign in "\\|*_`<>[]~&$":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())
