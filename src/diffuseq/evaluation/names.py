"""What systems are called: the name that the user gives before a path, else one made of the path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from diffuseq.errors import InputError
from diffuseq.names import shown


def split_name(text: str) -> tuple[str | None, str]:
    """The name and the path of `NAME=PATH`, where PATH may have more of the sign; None and the text for a path
    alone, which may have it too if it is there. Raises `InputError` for an empty name."""
    name, equals, path = text.partition("=")
    if not equals or Path(text).exists():
        return None, text
    if not name.strip():
        raise InputError(f"What is in {text!r} has no name; write NAME=PATH.")
    return shown(name), path


def names_of_places(places: Sequence[Path]) -> list[str]:
    """For every path its last part, with as many of the folders above as tell it apart from the others. The same
    path twice has one name."""
    whole = [place.resolve().parts for place in places]

    def shortest(own: tuple[str, ...]) -> str:
        others = [parts for parts in whole if parts != own]
        ends = (own[-count:] for count in range(1, len(own) + 1))
        return shown(
            str(Path(*next(end for end in ends if all(other[-len(end) :] != end for other in others))))
        )

    return [shortest(parts) for parts in whole]
