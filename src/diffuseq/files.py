"""Files that are never half-written: everything is made under another name, flushed to disk, then renamed."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diffuseq.errors import InputError

PARTIAL = ".partial-"


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well it becomes `path`, else nothing changes.

    Raises `InputError` when the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f"{PARTIAL}{os.getpid()}-{path.name}")
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            flush(temporary)
            os.replace(temporary, path)
            flush(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """The same for a whole folder, which must not exist yet under its final name."""
    temporary = path.with_name(f"{PARTIAL}{os.getpid()}-{path.name}")
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            yield temporary
            for file in temporary.rglob("*"):
                flush(file)
            flush(temporary)
            os.replace(temporary, path)
            flush(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a small text file in one piece."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sweep(folder: Path) -> None:
    """Remove what killed processes left behind. Call it only while nobody else writes into `folder`."""
    for left in folder.glob(f"{PARTIAL}*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Make sure that a file or a folder is on the disk, not only in the page cache."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what the disk says into one sentence; safetensors reports a full disk as its own kind of error."""
    try:
        yield
    except OSError as error:
        raise _cannot_write(path, error.strerror or str(error), error.errno) from error
    except Exception as error:
        if "I/O error" in str(error) or "os error" in str(error) or "No space left" in str(error):
            full = errno.ENOSPC if "No space left" in str(error) else None
            raise _cannot_write(path, str(error), full) from error
        raise


def _cannot_write(path: Path, why: str, code: int | None) -> InputError:
    todo = "free some space" if code == errno.ENOSPC else "choose a folder that can be written"
    return InputError(f"Cannot write {path}: {why}; {todo} and start again (nothing was left half-written).")
