"""What a run tells: events for whoever watches, metrics.jsonl always, TensorBoard if asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from diffuseq.errors import InputError
from diffuseq.files import write_text


@dataclass(frozen=True)
class Event:
    """One thing that a run tells.

    kind: "message" and "warning" carry `text`; "progress" counts the `pairs` of what `text` names; "start"
    has the size of the run; "step" comes after every optimiser step (keep it cheap), "log" every
    `log_every` with the metrics of metrics.jsonl; "evaluation" has the validation metrics and `samples`;
    "save" the folder; "end" what training.json says.
    """

    kind: Literal["message", "warning", "progress", "start", "step", "log", "evaluation", "save", "end"]
    text: str = ""
    values: dict[str, Any] = field(default_factory=dict)


OnEvent = Callable[[Event], None]


def ignore(event: Event) -> None:
    """The reporter of a run that nobody watches."""


def duration(seconds: float) -> str:
    """A time as people say it: "1 h 5 min", "3 min 20 s", "12 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


class Metrics:
    """metrics.jsonl, one object a line, each with its "step"; a resumed run continues at its own step."""

    def __init__(self, folder: Path, step: int, tensorboard: bool) -> None:
        self.path = folder / "metrics.jsonl"
        self._keep_until(step)
        self._board = (
            tensorboard_writer()(str(folder / "tensorboard"), purge_step=step + 1) if tensorboard else None
        )

    def add(self, values: dict[str, Any]) -> None:
        """Append a line; it is complete on return, so that a kill loses at most the line being written."""
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(values, ensure_ascii=False) + "\n")
        except OSError as error:
            raise InputError(
                f"Cannot write {self.path}: {error.strerror}; free some space and go on with --resume."
            ) from error
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, int | float) and name != "step":
                    self._board.add_scalar(name, value, values["step"])
            for i, sample in enumerate(values.get("samples", [])):
                text = "\n".join(f"    {side}: {value}" for side, value in sample.items())
                self._board.add_text(f"sample {i}", text, values["step"])

    def close(self) -> None:
        if self._board is not None:
            self._board.close()

    def _keep_until(self, step: int) -> None:
        """Drop the lines of steps that will be done again, and a line that was cut by a kill."""
        if not self.path.exists():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
            except (ValueError, KeyError, TypeError):
                continue
        write_text(self.path, "".join(kept))


def tensorboard_writer() -> Any:
    """The class that writes TensorBoard's events. Raises `InputError` where tensorboard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError(
            "training.tensorboard is on, but tensorboard is not installed; pip install 'diffuseq[tracking]'."
        ) from None
    return SummaryWriter
