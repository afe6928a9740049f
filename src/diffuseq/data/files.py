"""Files and folders that are whole or absent: written under a temporary name, then renamed."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diffuseq.errors import InputError

_MARK = ".building-"


@contextmanager
def atomic_folder(path: str | Path, what: str) -> Iterator[Path]:
    """A new folder to write into, which takes `path`'s place when the block ends without an error.

    A folder that stood at `path` is replaced. Folders that a killed process of this machine left half
    written are removed. what: the name of the thing, for the message of the `InputError` that is raised
    when it cannot be written (no space left, read-only).
    """
    path = Path(path)
    with _writing(path, what):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        building = path.parent / f".{path.name}{_MARK}{socket.gethostname()}-{os.getpid()}"
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir()
        try:
            yield building
            for file in building.iterdir():
                _sync(file)
            _replace_folder(building, path)
        finally:
            shutil.rmtree(building, ignore_errors=True)


def hash_file(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, as hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def _writing(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"The {what} cannot be written to {path} ({reason}); free space there or give another place."
        ) from error


def _replace_folder(new: Path, path: Path) -> None:
    old = new.with_name(new.name + "-old")
    if path.exists():
        path.rename(old)
    new.rename(path)
    _sync(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def _remove_abandoned(path: Path) -> None:
    prefix = f".{path.name}{_MARK}{socket.gethostname()}-"
    for folder in path.parent.glob(f"{prefix}*"):
        process = folder.name[len(prefix) :].removesuffix("-old")
        if process.isdigit() and not _is_alive(int(process)):
            shutil.rmtree(folder, ignore_errors=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
