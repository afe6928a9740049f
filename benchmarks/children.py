"""Processes that a benchmark starts, and that end with it."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from diffuseq.training.signals import SIGNALS

_started: list[subprocess.Popen[Any]] = []
_stopped_by: list[int] = []
_starting: set[threading.Thread] = set()
"""Who is about to start a process, which would be lost if it were interrupted."""


def start(command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
    """Start a process that ends with this one; its other arguments are those of `Popen`. Raises `SystemExit` where
    this one is about to end."""
    # in a group of its own: a terminal's Ctrl-C would reach it twice, and the second signal kills it as it saves
    _starting.add(threading.current_thread())
    try:
        process = subprocess.Popen(command, process_group=0, **options)
        _started.append(process)
    finally:
        _starting.discard(threading.current_thread())
    if _stopped_by:
        process.terminate()
        raise SystemExit(128 + _stopped_by[0])
    return process


def call(command: Sequence[str], **options: Any) -> int:
    """The exit status of a process that ends with this one."""
    return start(command, **options).wait()


@contextmanager
def ended_together() -> Iterator[None]:
    """At SIGINT, SIGTERM and SIGHUP, and where the block ends by itself, what was started in it is asked to stop,
    which saves what it has, and is waited for. A second signal kills."""

    def stop(number: int, frame: FrameType | None) -> None:
        _stopped_by.append(number)
        _ask_all()
        if threading.main_thread() not in _starting:  # which otherwise sees it then
            raise SystemExit(128 + number)

    # nohup ignores some
    heeded = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in heeded}
    try:
        yield
    finally:
        if not _stopped_by:  # else they are asked already
            _ask_all()
        for process in _started:
            process.wait()
        for number, handler in before.items():
            signal.signal(number, handler)
        _started.clear()
        _stopped_by.clear()


def _ask_all() -> None:
    for process in _started:
        process.terminate()
