"""The standard streams, which may be closed, full, broken, or unable to spell what is written to them."""

from __future__ import annotations

import contextlib
import io
import os
import sys


def prepare() -> None:
    """Let what a stream's encoding lacks be written as escapes, and open the streams that are closed to nothing: a
    file that is opened later would get their number, and what is told would stand in it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  (for the whole process)
        elif mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def flush() -> None:
    """Write what is held back, so that what the streams refuse is raised here and not as Python leaves."""
    sys.stdout.flush()
    sys.stderr.flush()


def flush_or_drop() -> None:
    """The same where nothing more can be told: what a stream refuses is dropped."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):  # a stand-in for a stream has no number
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
