"""A call of `gpu.py`: where it reads and writes, until when it goes on, and what it has found."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from gpu_jobs import TASKS

from diffuseq.data.pairs import Pair, find_split, read_pairs
from diffuseq.files import write_text

CURVE_ROWS = 500


@dataclass
class Call:
    """Where this call reads and writes, and until when it goes on. rows: validation rows, None for all."""

    data: Path
    work: Path
    out: Path
    deadline: float
    every_minutes: float
    rows: int | None = None
    final: bool = False
    dials: bool = True
    dry: bool = False

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self.deadline

    def folder(self, task: str) -> Path:
        """The data of a task."""
        return self.data / (TASKS[task] if (self.data / TASKS[task]).is_dir() else task)

    def pairs(self, task: str, split: str) -> list[Pair]:
        return list(islice(read_pairs(find_split(self.folder(task), split)), self.rows))

    def curve_pairs(self, task: str) -> list[Pair]:
        """What the points of the curve are measured on."""
        return self.pairs(task, "valid")[: CURVE_ROWS if self.rows is None else None]


@dataclass
class Results:
    """OUT/NAME.json, written after everything that is measured, so that no call measures it twice."""

    path: Path
    values: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path) -> Results:
        found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return cls(path, found)

    def put(self, *keys: str, value: Any) -> None:
        """Set values[key1][key2]… and write."""
        *outer, last = keys
        place = self.values
        for key in outer:
            place = place.setdefault(key, {})
        place[last] = value
        write_text(self.path, json.dumps(self.values, indent=1, ensure_ascii=False) + "\n")

    def has(self, *keys: str) -> bool:
        place: Any = self.values
        for key in keys:
            if not isinstance(place, dict) or key not in place:
                return False
            place = place[key]
        return True


def say(text: str) -> None:
    """A line with the time."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)
