"""Predictions on their way: a batch of answers is on the disk before the next one is begun.

`predictions.jsonl` appears when it is complete. Until then `predictions.jsonl.unfinished` has a line with
the identity of what is being answered, and then a line for every answer. After a kill the same command goes
on from there, so that nothing is generated twice and nothing is lost; any other command is refused.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from io import FileIO
from pathlib import Path

from diffuseq.errors import InputError
from diffuseq.evaluation.predictions import Prediction
from diffuseq.files import check_file


class Unfinished:
    """What there is of a predictions file: `done`, the answers so far by their rows."""

    def __init__(self, path: Path, file: FileIO, identity: str) -> None:
        self.path, self._file = path, file
        self.done: dict[int, Prediction] = {}
        self._read(json.dumps({"identity": identity}).encode() + b"\n")

    def add(self, answers: Mapping[int, Prediction]) -> None:
        """Keep more answers, which are on the disk on return. Rows that are there already stay as they are.

        Raises `InputError` when the disk refuses; what was there before is not lost.
        """
        new = {row: answer for row, answer in answers.items() if row not in self.done}
        lines = (
            json.dumps({"row": row, **asdict(answer)}, ensure_ascii=False) for row, answer in new.items()
        )
        self._write("".join(f"{line}\n" for line in lines).encode())
        self.done |= new

    def _read(self, first: bytes) -> None:
        """Take in what an earlier call left, and cut off a last line that a kill left incomplete."""
        content = self._file.read()
        whole = content[: content.rfind(b"\n") + 1]
        if not content.startswith(first) and not first.startswith(content):
            raise InputError(
                f"{self.path} holds answers of another model, input or settings; repeat the command that "
                "they are of, delete that file, or choose another --output."
            )
        for line in whole.splitlines()[1:]:
            try:
                row, answer = _parse(line)
            except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
                raise InputError(f"{self.path} is damaged; delete it, and generate again.") from None
            self.done[row] = answer
        self._file.truncate(len(whole))
        if not whole:
            self._write(first)

    def _write(self, content: bytes) -> None:
        try:
            left = memoryview(content)
            while left:
                left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            raise InputError(
                f"Cannot write {self.path}: {error.strerror}; free some space and repeat the command, which "
                f"goes on after the {len(self.done)} answers that are there."
            ) from error


@contextmanager
def unfinished(output: Path, identity: str) -> Iterator[Unfinished]:
    """Hold what there is of `output` for this process alone; it is deleted when the block ends well.

    identity: of everything that the answers depend on. Raises `InputError` when the folder cannot be written,
    another process is at work on it, or it holds answers of another identity, and where `output` is there and is
    no plain file.
    """
    check_file(output, "choose another --output")
    path = output.with_name(f"{output.name}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+b", buffering=0)  # noqa: SIM115  (closed below; unbuffered: closing writes nothing)
    except OSError as error:
        raise InputError(f"Cannot write {path}: {error.strerror}; choose another --output.") from error
    with file:
        if not path.is_file():
            raise InputError(f"{path} is no plain file; delete it, or choose another --output.")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"Another process is generating {output}; wait for it, or choose another --output."
            ) from None
        file.seek(0)
        yield Unfinished(path, file, identity)
        path.unlink(missing_ok=True)


def _parse(line: bytes) -> tuple[int, Prediction]:
    values = json.loads(line)
    values |= {key: tuple(values[key]) for key in ("references", "candidates", "log_p")}
    return int(values.pop("row")), Prediction(**values)
