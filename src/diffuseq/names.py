"""Names that may mean a file, a folder, or something on the hub: which can only be paths, how they are shown."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from unicodedata import category

from diffuseq.errors import InputError

_TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Embeddings, overrides and isolates of the direction of writing, and their ends."""
WEIGHT_SUFFIXES = (".json", ".bin", ".pt", ".safetensors")
"""How the files of transformers' models end."""


def as_path(value: Any, what: str, instead: str = "give a path (a str or a Path)") -> Path:
    """A path that a user has given. Raises `InputError` for what is none, and for an empty text, which would be
    the working directory. what: its name, and instead: what to do, for the message."""
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        given = "empty" if isinstance(value, str) else f"of the type {type(value).__name__}"
        raise InputError(f"{what} is {given}; {instead}.")
    return Path(value)


def refuse_alone(values: Any, what: str) -> None:
    """Raise `InputError` for one text or path in the place of a list, whose letters would be taken one by one, and
    for what holds nothing one after the other."""
    if isinstance(values, str | os.PathLike):
        raise InputError(
            f"{what} is one text, {os.fspath(values)!r}; give a list, ({os.fspath(values)!r},) say."
        )
    if values is not None and not isinstance(values, Iterable):
        raise InputError(f"{what} is of the type {type(values).__name__}; give a list.")


def refuse_missing_path(name: str | Path, what: str, suffixes: tuple[str, ...] = ()) -> None:
    """Raise `InputError` if there is nothing at `name` and it can be no hub name (`owner/name`) either, so that
    nobody waits for a hub to say so.

    what: what is to be given, for the message. suffixes: how names of such files end.
    """
    if _can_only_be_a_path(str(name), suffixes) and not Path(name).exists():
        raise InputError(f"There is no {name}; give {what} that exists, or a hub name (owner/name).")


def unpacked(name: str | Path) -> Path:
    """A name as names are compared: in lower case, and without .gz."""
    return Path(str(name).lower().removesuffix(".gz"))


def ending(name: str | Path) -> str:
    """What a name's ending says of the format: of `TRAIN.CSV` and of `train.csv.gz` it is .csv."""
    return unpacked(name).suffix


def readable(name: str) -> str:
    """A name as text for files, figures and pages: what its bytes have that is not UTF-8 as escapes."""
    return name.encode(errors="backslashreplace").decode()


def visible(text: str) -> str:
    """The text with escapes for what a terminal would obey: control characters, and what turns the direction of
    writing round for all that stands behind it."""
    return "".join(
        c.encode("unicode_escape").decode() if category(c) == "Cc" or c in _TURNING else c for c in text
    )


def shown(name: str | Path) -> str:
    """A name or path as it stands in a sentence."""
    return visible(readable(str(name)))


def word(name: str | Path) -> str:
    """A name as one word of a command that is told to be repeated, quoted where a shell would read it otherwise."""
    text = str(name)
    if visible(text) == text:
        return shlex.quote(text)
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"$'{visible(escaped)}'"


def _can_only_be_a_path(name: str, suffixes: tuple[str, ...]) -> bool:
    parts = name.replace(os.sep, "/")
    return (
        parts[:1] in (".", "/", "~")
        or parts[-1:] == "/"
        or parts.count("/") > 1
        or name.lower().endswith(suffixes)
    )
