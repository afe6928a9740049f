"""Before a verb writes a model folder: what it may not replace, and what it leaves as it is."""

from __future__ import annotations

import sys
from pathlib import Path

from diffuseq.errors import InputError
from diffuseq.files import check_folder
from diffuseq.names import visible


def check_out(out: Path, overwrite: bool = False, instead: str = "--overwrite") -> None:
    """Raise `InputError` where `out` is a file, or holds a model that is not to be overwritten; tell of a README.md
    that stays. instead: what else than another --out the user may give."""
    from diffuseq.model_card import own_card_note

    check_folder(out)
    if (out / "config.json").exists() and not overwrite:
        raise InputError(f"{out} already holds a model; give another --out, or {instead}.")
    if note := own_card_note(out):
        print(f"diffuseq: {visible(note)}", file=sys.stderr)
