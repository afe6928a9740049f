"""A table of measurements: what is printed, and the same numbers by name for the json file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Table:
    """columns: headings; rows: texts; numbers: what was measured, by name; notes: how, in sentences."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: dict[str, float]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def rounded(value: float) -> str:
    """A number to three digits, as a table shows it: 12,300, 45.6, 0.00123."""
    if value >= 100:
        digits = len(str(int(value))) - 3
        return f"{round(value, -digits):,.0f}"
    return f"{value:.3g}"


def times(value: float) -> str:
    """A ratio: 12.3×."""
    return f"{rounded(value)}×"
