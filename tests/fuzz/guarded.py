"""A case under guard: it runs nothing, writes nothing outside, ends in time, raises only `InputError`."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from diffuseq.errors import InputError

Outcome = Literal["accepted", "refused", "finding"]
RUNS_SOMETHING = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "subprocess.Popen",
    "pty.spawn",
)
OUTSIDE = " outside of its folder: "
REACHES_OUT = ("socket.connect", "socket.sendto", "urllib.Request")
CHANGES_FILES = (
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
    "shutil.rmtree",
)


class CaseTimeoutError(BaseException):
    """The case took too long; no reader catches it."""


@dataclass(frozen=True)
class Result:
    """What became of a case; signature: the same for findings with the same cause; detail: where and how."""

    outcome: Outcome
    signature: str = ""
    detail: str = ""


class Guard:
    """Watches what Python does while a case runs (by an audit hook, which a process keeps for good)."""

    _installed: Guard | None = None

    def __init__(self) -> None:
        self.folder: str | None = None
        self.violations: list[str] = []

    @classmethod
    def install(cls) -> Guard:
        if cls._installed is None:
            cls._installed = cls()
            sys.addaudithook(cls._installed._hear)
        return cls._installed

    @contextmanager
    def watching(self, folder: Path) -> Iterator[list[str]]:
        self.folder, self.violations = os.path.realpath(folder), []
        try:
            yield self.violations
        finally:
            self.folder = None

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        if event in RUNS_SOMETHING or event in REACHES_OUT:
            self._stop(f"{event} {arguments!r:.200}")
        elif (
            event == "open" and isinstance(arguments[0], str | bytes | os.PathLike) and _writes(arguments[2])
        ):
            self._check_place(event, arguments[0])
        elif event in CHANGES_FILES:
            new_name_last = event in ("os.symlink", "os.link")
            self._check_place(event, arguments[1 if new_name_last else 0], arguments[-1])

    def _check_place(self, event: str, path: Any, parent: Any = -1) -> None:
        """parent: the descriptor of an open folder that the path starts from, where it is one."""
        if isinstance(path, int):
            return
        name = os.fsdecode(path)
        if isinstance(parent, int) and parent > 0 and event in ("os.remove", "os.rmdir"):
            name = os.path.join(os.readlink(f"/proc/self/fd/{parent}"), name)
        place = os.path.join(os.path.realpath(os.path.dirname(name) or "."), os.path.basename(name))
        if "/.hypothesis" in place:  # it keeps notes of its own while a case draws
            return
        if not place.startswith((f"{self.folder}/", "/dev/null")) and place != self.folder:
            self._stop(f"{event}{OUTSIDE}{place}")

    def _stop(self, what: str) -> None:
        self.violations.append(what)
        raise PermissionError(13, f"stopped by the fuzzer: {what}")


def _writes(flags: Any) -> bool:
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))


def run_case(
    case: Callable[[random.Random, Path], None],
    draw: random.Random,
    folder: Path,
    seconds: float,
    names_outputs: bool = False,
) -> Result:
    """Run one case in an empty folder and judge it.

    names_outputs: the case itself asks for files to be written anywhere, so that trying it is no finding.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tempfile.tempdir = str(folder)
    error: BaseException | None = None
    with Guard.install().watching(folder) as violations, time_limit(seconds):
        try:
            case(draw, folder)
        except KeyboardInterrupt:
            raise
        except BaseException as raised:  # a panic of a Rust library is no Exception
            error = raised
    violations = [what for what in violations if not (names_outputs and OUTSIDE in what)]
    if violations:
        return Result("finding", f"forbidden: {violations[0][:60]}", "\n".join(violations))
    if error is None:
        return Result("accepted")
    if isinstance(error, InputError) and str(error).strip():
        return Result("refused")
    detail = "".join(traceback.format_exception(error))
    return Result("finding", f"{type(error).__name__} at {_place(error)}", detail[-4000:])


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise CaseTimeoutError(f"longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def limit_memory(more_bytes: int) -> None:
    """Let this process take so much more address space than it has, so that what is unbounded fails."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * resource.getpagesize() + more_bytes
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


def _place(error: BaseException) -> str:
    """The last line of our own code that the error went through."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/diffuseq/" in frame.filename] or frames
    return f"{Path(own[-1].filename).name}:{own[-1].lineno} {own[-1].name}" if own else "?"
