"""`diffuseq generate` on several processes, as torchrun or `accelerate launch` start them.

Every process forms the same batches and answers those whose turn is its own, so that each answer is the one
that a single process gives, bit for bit. The first process joins them in the order of the input. What each
has answered is on the disk at once (`evaluation.unfinished`); after a kill, the same command on any number of
processes goes on from all of it.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from diffuseq.errors import InputError
from diffuseq.evaluation.unfinished import Unfinished, unfinished

T = TypeVar("T")


class Team:
    """The processes of this command; one alone unless a launcher started more."""

    def __init__(self, device: str | None) -> None:
        """device: what the user asked for; with several processes on GPUs each takes its own."""
        self.device: str | None = device
        self.rank, self.count = 0, int(os.environ.get("WORLD_SIZE", "1"))
        if self.count == 1:
            return
        import torch
        from accelerate import PartialState

        from diffuseq.training.engine import PATIENCE

        on_cpu = device == "cpu" or not torch.accelerator.is_available()
        self._state = PartialState(cpu=on_cpu, timeout=PATIENCE)
        self.rank, self.count = self._state.process_index, self._state.num_processes
        if device is None or ":" not in device:
            self.device = str(self._state.device)

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def check(self, reads: str, shows: bool) -> None:
        """Raise `InputError` for what only one process can do."""
        if self.count > 1 and reads == "-":
            raise InputError("Several processes cannot share standard input; give --input with a file.")
        if self.count > 1 and shows:
            raise InputError(
                "--watch and --trace follow one process; leave them out, or start it without torchrun."
            )

    def first(self, action: Callable[[], T]) -> T | None:
        """What `action` gives in the first process, None in the others, which wait; its errors end all."""
        if self.count == 1:
            return action()
        from diffuseq.training.engine import on_main

        return on_main(self._state, action)

    def told(self, value: T) -> T:
        """The first process's value, in all."""
        if self.count == 1:
            return value
        from accelerate.utils import broadcast_object_list

        values: list[T] = broadcast_object_list([value])
        return values[0]

    def joined(self, rows: dict[int, T]) -> dict[int, T]:
        """The rows of all processes, in all; the first process's count where there are several."""
        if self.count == 1:
            return rows
        from accelerate.utils import gather_object

        everything: dict[int, T] = {}
        for part in reversed(gather_object([rows])):
            everything |= part
        return everything

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            self._state.wait_for_everyone()

    @contextmanager
    def unfinished(self, output: Path, identity: str) -> Iterator[Unfinished]:
        """Where this process keeps its answers; the first one takes in what an earlier call's others left."""
        with ExitStack() as held:

            def begin() -> Unfinished:
                kept = held.enter_context(unfinished(output, identity))
                for path in sorted(output.parent.glob(f"{glob.escape(output.name)}.part-*.unfinished")):
                    with unfinished(path.with_suffix(""), identity) as part:
                        kept.add(part.done)
                return kept

            kept = self.first(begin)
            if kept is None:
                part = output.with_name(f"{output.name}.part-{self.rank}")
                kept = held.enter_context(unfinished(part, identity))
            yield kept
            self.wait()  # what the others keep is deleted only now that the first has joined it
