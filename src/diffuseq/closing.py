"""Generators that are closed before the interpreter ends, while what their ends need is still there.

One that nobody has exhausted ends when it is thrown away. At the very end of a program that is too late: torch has
been taken apart by then, and `torch.no_grad` around a generator fails in its cleaning up, which the terminal shows.
"""

from __future__ import annotations

import atexit
from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import Any, TypeVar
from weakref import WeakSet

T = TypeVar("T")
_OPEN: WeakSet[Generator[Any, Any, Any]] = WeakSet()


def closed_at_exit(items: Iterator[T]) -> Iterator[T]:
    """The iterator itself. A generator that is still alive at the end of the program is closed then."""
    if isinstance(items, Generator):
        _OPEN.add(items)
    return items


@atexit.register
def _close_all() -> None:
    for generator in list(_OPEN):
        with suppress(ValueError):  # another thread is in it
            generator.close()
