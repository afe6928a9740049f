"""Some of what a benchmark knows, by name."""

from __future__ import annotations

from collections.abc import Iterable

from diffuseq.errors import unknown_name


def chosen(names: str | None, known: Iterable[str], what: str) -> list[str]:
    """The names of a comma-separated list, all that are known for None.

    Raises `InputError` for an unknown one, which is called a `what`.
    """
    everything = list(known)
    if names is None:
        return everything
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    for name in wanted:
        if name not in everything:
            raise unknown_name(what, name, everything)
    return wanted
