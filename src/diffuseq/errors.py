"""The one exception for what a user can get wrong.

Every message says in one sentence what was given, what is allowed and what to do. The command line prints
the message without a traceback and leaves with status 2; Python users catch `InputError` (a `ValueError`).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something the user gave cannot be used; the message says what, what is allowed and what to do."""


def unknown_name(what: str, given: str, allowed: Iterable[str]) -> InputError:
    """An `InputError` for a name that is none of the allowed ones, with the nearest of them suggested."""
    names = sorted(allowed)
    near = difflib.get_close_matches(str(given), names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return InputError(f"Unknown {what} {given!r}; choose one of: {', '.join(names)}.{hint}")


def first_line(error: BaseException) -> str:
    """What another library's error says, short enough to stand inside a sentence."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:300]
