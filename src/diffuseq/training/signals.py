"""Ctrl-C and SIGTERM as a wish to stop: the current step is finished and saved before the process leaves."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class TrainingStopped(Exception):  # noqa: N818
    """A training that was asked to stop, and did: everything is saved. `code` is the exit status, `what` the
    message without the advice, for who has no --resume."""

    def __init__(self, number: int, step: int) -> None:
        self.what = f"Stopped by {signal.Signals(number).name} after step {step}"
        super().__init__(f"{self.what}; go on with --resume.")
        self.step = step
        self.code = 128 + number


class Asked(Exception):  # noqa: N818
    """Raised by `StopSignal.heeded_in` to leave something long."""


T = TypeVar("T")


class StopSignal:
    """Remembers the first signal; a second one kills as usual."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._at_once = False

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Within the block signals are remembered. Only the main thread can; elsewhere they act as before."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def heeded_in(self, action: Callable[[], T]) -> T | None:
        """What `action` gives; None where a signal, also one that came before, put an end to it at once."""
        try:
            self._at_once = True
            return action() if self.number is None else None
        except Asked:
            return None
        finally:
            self._at_once = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        for each in SIGNALS:
            signal.signal(each, signal.default_int_handler if each == signal.SIGINT else signal.SIG_DFL)
        if self._at_once:
            raise Asked
