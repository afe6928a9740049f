"""What an earlier call of a benchmark left, and what it was asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffuseq.errors import InputError
from diffuseq.files import write_text


def check_same(place: Path, option: str, before: Any, now: Any) -> None:
    """Raise `InputError` where a folder or file came of another value of an option, say in a dry run, than is
    asked for now: what is there would be taken for what was asked for."""
    if before != now:
        raise InputError(
            f"{place} is of --{option} {_shown(before)}, not {_shown(now)}; give another --out, or delete it."
        )


def check_asked(out: Path, asked: dict[str, Any]) -> None:
    """Raise `InputError` where a folder is of other values of these options, by its note (`note_asked`)."""
    before = asked_before(out)
    for name, value in asked.items():
        check_same(out, name, before.get(name, value), value)


def note_asked(out: Path, asked: dict[str, Any]) -> None:
    """Note what is about to be made in a folder."""
    write_text(out / "asked.json", json.dumps(asked_before(out) | asked) + "\n")


def add_results(out: Path, key: Sequence[str], results: Sequence[dict[str, Any]]) -> None:
    """Write results.json: what an earlier call left of others (by the fields of `key`), and these results."""
    path = out / "results.json"
    earlier = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    now = [[each[name] for name in key] for each in results]
    kept = [each for each in earlier if [each[name] for name in key] not in now]
    write_text(path, json.dumps([*kept, *results], indent=2) + "\n")


def asked_before(out: Path) -> dict[str, Any]:
    """What was noted of a folder."""
    note = out / "asked.json"
    found: dict[str, Any] = json.loads(note.read_text(encoding="utf-8")) if note.exists() else {}
    return found


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
