"""The numbers that a benchmark may be asked for, as types of argparse."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable


def whole(least: int) -> Callable[[str], int]:
    """The argparse type of a whole number from `least`."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not possible; give a whole number from {least}.")
        return value

    return read


count = whole(1)


def positive(text: str) -> float:
    """The argparse type of a number above 0, say of minutes."""
    return _number(text, lambda value: value > 0, " above 0")


def not_negative(text: str) -> float:
    """The argparse type of a number that may be 0."""
    return _number(text, lambda value: value >= 0, " of at least 0")


def number(text: str) -> float:
    """The argparse type of any number."""
    return _number(text, lambda value: True, "")


def _number(text: str, allowed: Callable[[float], bool], what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and allowed(value)):
        raise argparse.ArgumentTypeError(f"{text!r} is not possible; give a number{what}.")
    return value
