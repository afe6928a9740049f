"""Some of what a benchmark knows, by name."""

from __future__ import annotations

from collections.abc import Iterable

from diffuseq.errors import InputError, unknown_name


def chosen(names: str | None, known: Iterable[str], what: str) -> list[str]:
    """The names of a comma-separated list, each once; all that are known for None.

    Raises `InputError` for an unknown one, which is called a `what`, and where there is none.
    """
    everything = list(known)
    if names is None:
        return everything
    wanted = list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    if not wanted:
        raise InputError(f"{names!r} names no {what}; choose some of: {', '.join(everything)}.")
    for name in wanted:
        if name not in everything:
            raise unknown_name(what, name, everything)
    return wanted
