"""Ctrl-C, SIGTERM and a closed terminal (SIGHUP) as a wish to stop: the current step is finished and saved before
the process leaves."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TypeVar

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


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
        self._caught: list[signal.Signals] = []

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Within the block signals are remembered. Only the main thread can; elsewhere they act as before."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        # nohup ignores SIGHUP, for what is to outlive its terminal
        ignored = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else set()
        before = {number: signal.signal(number, self._handle) for number in SIGNALS if number not in ignored}
        self._caught = list(before)
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
        if number == signal.SIGHUP:
            _drop_lost_terminals()
        for each in self._caught:
            signal.signal(each, signal.default_int_handler if each == signal.SIGINT else signal.SIG_DFL)
        if self._at_once:
            raise Asked


def _drop_lost_terminals() -> None:
    """Let nothing be told to a terminal that has gone: the error would come before the step is saved."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # a stand-in for a stream has no number
            try:
                os.write(stream.fileno(), b"")
            except OSError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
