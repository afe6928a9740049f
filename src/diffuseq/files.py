"""Single files that are never half-written: made under another name, flushed to disk, then renamed."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from diffuseq.errors import InputError

PARTIAL = ".partial-"


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well it becomes `path`, else nothing changes.

    Raises `InputError` when the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f"{PARTIAL}{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            _flush(temporary)
            os.replace(temporary, path)
            _flush(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        todo = "free some space" if error.errno == errno.ENOSPC else "choose a folder that can be written"
        raise InputError(
            f"Cannot write {path}: {error.strerror or error}; {todo} and start again."
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a small text file in one piece."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file; what the disk refuses is an `OSError`, as for every other file."""
    alone = {name: _own_memory(tensor) for name, tensor in tensors.items()}
    try:
        save_file(alone, path, metadata={"format": "pt"})
    except SafetensorError as error:
        code = errno.ENOSPC if "No space left" in str(error) else errno.EIO
        raise OSError(code, str(error)) from error


def _own_memory(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    is_view = tensor.untyped_storage().nbytes() != tensor.numel() * tensor.element_size()
    return tensor.clone() if is_view else tensor


def _flush(path: Path) -> None:
    """Make sure that a file or a folder is on the disk, not only in the page cache."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
