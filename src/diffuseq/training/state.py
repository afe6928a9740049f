"""Checkpoints to resume from: RUN/resume/step-N/, written whole or not at all, checked before they are used.

A checkpoint is a folder of safetensors and JSON, never a pickle. `state.json` is its marker: it names every
file with its size and checksum, so that a checkpoint that lost a byte is passed over for an older one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from diffuseq.errors import InputError
from diffuseq.files import atomic_folder, read_text, sweep, utf8_path, write_tensors

Tensors = dict[str, Tensor]
MARKER = "state.json"


def save_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Tensors], values: dict[str, Any], keep: int
) -> Path:
    """Write folder/step-N from named groups of tensors and plain values; keep the newest `keep` of them.

    Raises `InputError` when the disk does not take it; older checkpoints are then still whole.
    """
    final = folder / f"step-{step}"
    with atomic_folder(final) as temporary:
        for name, group in tensors.items():
            write_tensors(temporary / f"{name}.safetensors", group)
        marker = {"step": step, "files": _checksums(temporary), "values": values, "checksum": _sum(values)}
        (temporary / MARKER).write_text(json.dumps(marker), encoding="utf-8")
    for old in _steps(folder)[max(1, keep) :]:
        shutil.rmtree(folder / f"step-{old}", ignore_errors=True)
    return final


def load_newest(folder: Path) -> tuple[int, dict[str, Tensors], dict[str, Any], list[str]] | None:
    """The newest checkpoint that is whole: (step, tensors, values, what is wrong with the newer ones).

    None when there is none at all. Raises `InputError` when there are some, all damaged.
    """
    broken: list[str] = []
    for step in _steps(folder):
        path = folder / f"step-{step}"
        try:
            marker = json.loads(read_text(path / MARKER))
            if marker["files"] != _checksums(path) or marker["checksum"] != _sum(marker["values"]):
                raise ValueError("its files are not the ones that were written")
            tensors = {Path(name).stem: _tensors(path / name) for name in marker["files"]}
            return step, tensors, marker["values"], broken
        except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
            broken.append(f"{path} cannot be used: {error}")
    if broken:
        raise InputError(
            f"No checkpoint can be resumed from ({'; '.join(broken)}); start anew with --overwrite."
        )
    return None


def _tensors(path: Path) -> Tensors:
    with utf8_path(path) as readable:
        return load_file(readable)


def forget_newer(folder: Path, step: int) -> None:
    """Delete the checkpoints after `step`: they are damaged, or of a course that is run again."""
    for newer in _steps(folder):
        if newer > step:
            shutil.rmtree(folder / f"step-{newer}", ignore_errors=True)


def _steps(folder: Path) -> list[int]:
    """The steps of the finished checkpoints, newest first."""
    names = (re.fullmatch(r"step-(\d+)", path.name) for path in folder.glob("step-*"))
    return sorted((int(name[1]) for name in names if name), reverse=True)


def _sum(values: dict[str, Any]) -> int:
    """A checksum of plain values, the same before and after they were JSON."""
    return zlib.crc32(json.dumps(values).encode())


def _checksums(folder: Path) -> dict[str, list[int]]:
    return {path.name: [path.stat().st_size, _crc32(path)] for path in sorted(folder.glob("*.safetensors"))}


def _crc32(path: Path) -> int:
    """Of as many bytes as the file system says that there are: a device has none."""
    checksum, left = 0, path.stat().st_size
    with open(path, "rb") as stream:
        while left > 0 and (piece := stream.read(min(left, 1 << 24))):
            checksum, left = zlib.crc32(piece, checksum), left - len(piece)
    return checksum


def pack(state: Any, tensors: Tensors, path: str = "") -> Any:
    """A nested state as JSON, with its tensors and arrays moved into `tensors`; `unpack` is the inverse."""
    if isinstance(state, Tensor | np.ndarray):
        tensors[path] = torch.as_tensor(state).detach().cpu().clone()
        return {"$tensor": path, "$numpy": isinstance(state, np.ndarray)}
    if isinstance(state, Mapping):
        return {str(key): pack(value, tensors, f"{path}/{key}") for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [pack(value, tensors, f"{path}/{i}") for i, value in enumerate(state)]
    if state is None or isinstance(state, bool | int | float | str):
        return state
    raise TypeError(
        f"The state of a system holds a {type(state).__name__} at {path!r}; use tensors and plain values."
    )


def unpack(packed: Any, tensors: Tensors) -> Any:
    if isinstance(packed, dict):
        if "$tensor" in packed:
            tensor = tensors[packed["$tensor"]]
            return tensor.numpy() if packed["$numpy"] else tensor
        return {key: unpack(value, tensors) for key, value in packed.items()}
    if isinstance(packed, list):
        return [unpack(value, tensors) for value in packed]
    return packed


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process alone; what a killed process left behind is swept away.

    The lock is the operating system's and ends with its process, so that it cannot go stale; the file
    holds the owner only for the message. Raises `InputError` when another run has it.
    """
    import fcntl

    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise InputError(f"Cannot write into {folder}: {error.strerror}; choose another --out.") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(handle, 200).decode("utf-8", "replace") or "another process"
            raise InputError(
                f"Another run ({owner}) writes into {folder.parent}; stop it, or choose another --out."
            ) from None
        os.ftruncate(handle, 0)
        os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())
        sweep(folder)
        sweep(folder.parent)
        yield
    finally:
        os.close(handle)
