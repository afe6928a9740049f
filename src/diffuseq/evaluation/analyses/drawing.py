"""What the figures of the analyses share: colours by model, lines by family, labels at the lines' ends."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import Any

from diffuseq.evaluation.analyses.subjects import Family
from diffuseq.evaluation.plots import COLOURS, GRID, MARKERS, spread

LINES: dict[Family, Any] = {"diffusion": "-", "iterative": (0, (5, 2)), "autoregressive": (0, (1, 1.3))}
"""A family's line, so that it can be told without colour."""
LABEL_GAP = 0.07
"""Least distance of two labels, as a share of the axis."""


@dataclass(frozen=True)
class Look:
    """How a model is drawn, the same in every figure."""

    colour: str
    marker: str
    line: Any

    @classmethod
    def of(cls, index: int, family: Family) -> Look:
        return cls(COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)], LINES[family])


@dataclass(frozen=True)
class Label:
    """A name to stand beside a point."""

    text: str
    x: float
    y: float
    colour: str


def put_labels(axes: Any, labels: Sequence[Label], *, left: bool = False) -> None:
    """Names in their lines' colours, right (or left) of the ends, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    places = spread([label.y for label in labels], (high - low) * LABEL_GAP)
    for label, place in zip(labels, places, strict=True):
        axes.annotate(
            label.text,
            (label.x, place),
            xytext=(-7 if left else 7, 0),
            textcoords="offset points",
            ha="right" if left else "left",
            va="center",
            color=label.colour,
            fontsize=8,
            annotation_clip=False,
        )
        axes.annotate("", (label.x, label.y), (label.x, place), arrowprops=_LEADER | {"color": label.colour})


_LEADER = {"arrowstyle": "-", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 0}


def rule(axes: Any) -> None:
    """The quiet grid behind the data."""
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)


def file_names(names: Sequence[str]) -> list[str]:
    """The names of models as parts of files', no two alike, also where upper and lower case are one."""
    found: list[str] = []
    taken: set[str] = set()
    for name in names:
        plain = re.sub(r"[^\w.-]+", "-", name).strip("-") or "model"
        numbered = (f"{plain}-{number}" for number in count(2))
        found.append(next(each for each in chain([plain], numbered) if each.casefold() not in taken))
        taken.add(found[-1].casefold())
    return found
