"""The weights of a model folder: safetensors files, of which only the headers are read until they are needed.

model.safetensors        the weights, or shards with model.safetensors.index.json
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from diffuseq.errors import InputError, first_line
from diffuseq.files import atomic_file, hash_file, read_text, utf8_path, write_tensors, write_text

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_NAMES = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json")
LARGEST_JSON = 16 * 2**20
SCALE = ".scale_of_rows"
"""Ends the name of what a matrix of whole numbers is multiplied by, row by row."""
WORTH_ROUNDING = 16
"""Rows and columns from which on a matrix is stored as whole numbers; all else is too little to matter."""


def save_weights(
    folder: Path,
    state: Mapping[str, Tensor],
    dtype: torch.dtype | None = None,
    max_shard_bytes: int | None = None,
) -> None:
    """Write a state dict; of tensors that share their memory (tied weights) the first name is kept, and where there
    are none no file is written.

    dtype: instead of their own. int8: matrices as whole numbers from −127 to 127 times a scale for every row, which
    halves what bfloat16 takes, and the rest in that.
    """
    tensors: dict[str, Tensor] = {}
    for name, tensor in _without_aliases(state).items():
        tensors |= _as_stored(name, tensor, dtype)
    if not tensors:
        _remove_other_weights(folder, set())
        return
    shards = _shards(tensors, max_shard_bytes)
    if len(shards) == 1:
        with atomic_file(folder / WEIGHTS) as temporary:
            write_tensors(temporary, tensors)
        _remove_other_weights(folder, {WEIGHTS})
        return
    names = [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards, strict=True):
        with atomic_file(folder / name) as temporary:
            write_tensors(temporary, shard)
    where = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
    size = sum(_bytes(tensor) for tensor in tensors.values())
    write_text(folder / INDEX, json_text({"metadata": {"total_size": size}, "weight_map": where}))
    _remove_other_weights(folder, {*names, INDEX})


def _as_stored(name: str, tensor: Tensor, dtype: torch.dtype | None) -> dict[str, Tensor]:
    if dtype is None or not tensor.is_floating_point():
        return {name: tensor}
    if dtype != torch.int8:
        return {name: tensor.to(dtype)}
    if tensor.ndim != 2 or min(tensor.shape) < WORTH_ROUNDING:
        return {name: tensor.to(torch.bfloat16)}
    scale = tensor.float().abs().amax(1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny) / 127
    return {name: (tensor.float() / scale).round().to(torch.int8), name + SCALE: scale}


def _as_used(file: Path, opened: Any) -> Iterator[tuple[str, Tensor]]:
    """The tensors of an open file, whole numbers times their scales."""
    names = set(opened.keys())
    for name in sorted(names):
        if _is_scale(name, names):
            continue
        tensor = opened.get_tensor(name)
        if tensor.dtype != torch.int8:
            yield name, tensor
            continue
        scale = opened.get_tensor(name + SCALE) if name + SCALE in names else None
        if scale is None or scale.shape != (len(tensor), 1):
            raise InputError(
                f"{file} has no scale for every row of {name}, whose weights are whole numbers; copy it again."
            )
        yield name, tensor * scale


def _is_scale(name: str, names: Collection[str]) -> bool:
    return name.endswith(SCALE) and name.removesuffix(SCALE) in names


def _without_aliases(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    seen: set[tuple[Any, ...]] = set()
    kept = {}
    for name, tensor in state.items():
        place = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride())
        if tensor.numel() == 0 or place not in seen:
            kept[name] = tensor
        seen.add(place)
    return kept


def _shards(tensors: dict[str, Tensor], max_bytes: int | None) -> list[dict[str, Tensor]]:
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        is_full = max_bytes is not None and shards[-1] and size + _bytes(tensor) > max_bytes
        if is_full and not name.endswith(SCALE):  # which stays with what it scales
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += _bytes(tensor)
    return shards


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def own_weights(folder: Path) -> list[Path]:
    """The files of weights in a model folder by the names that `save_weights` gives; others are not ours."""
    return [path for path in folder.glob("model*.safetensors*") if _NAMES.fullmatch(path.name)]


def _remove_other_weights(folder: Path, current: set[str]) -> None:
    for path in own_weights(folder):
        if path.name not in current:
            path.unlink()


@dataclass(frozen=True)
class Stored:
    """Where a tensor is stored, under which name, and its shape."""

    file: Path
    name: str
    shape: tuple[int, ...]

    @property
    def numel(self) -> int:
        return math.prod(self.shape)


def stored_tensors(folder: Path) -> dict[str, Stored]:
    """Where every tensor of the folder is, and its shape; only headers are read. Raises `InputError` when a file is
    missing or damaged."""
    stored: dict[str, Stored] = {}
    for file in _weight_files(folder):
        if not file.is_file():
            raise InputError(f"{folder} lacks {file.name}; copy the whole folder again.")
        with _opened(file) as opened:
            names = set(opened.keys())
            for name in opened.keys():  # noqa: SIM118
                if not _is_scale(name, names):
                    stored[name] = Stored(file, name, tuple(opened.get_slice(name).get_shape()))
    return stored


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Every tensor of the folder, as it is stored, scales included. Raises `InputError` when one cannot be read."""
    tensors: dict[str, Tensor] = {}
    for file in sorted({entry.file for entry in stored_tensors(folder).values()}):
        with _opened(file) as opened:
            tensors |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    return tensors


def hash_weights(folder: Path) -> str:
    """One sha256 of all files with weights in a model folder."""
    return sha256("".join(map(hash_file, _weight_files(folder))).encode()).hexdigest()


def _weight_files(folder: Path) -> list[Path]:
    if not (folder / INDEX).exists() or (folder / WEIGHTS).exists():
        if not (folder / WEIGHTS).exists() and list(folder.glob("ema_*.pt")):
            raise InputError(
                f"{folder} is a published checkpoint; turn it into a model folder with `diffuseq import`."
            )
        return [folder / WEIGHTS]
    where = read_json(folder / INDEX).get("weight_map")
    if not isinstance(where, dict) or not where:
        raise InputError(f"{folder / INDEX} has no weight_map; copy the whole folder again.")
    names = sorted({str(name) for name in where.values()})
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise InputError(
                f"{folder / INDEX} names the file {name!r}; only .safetensors files beside it are read."
            )
    return [folder / name for name in names]


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """A safetensors file, of which what is asked for is read. Raises `InputError` when it is damaged."""
    try:
        with utf8_path(file) as path, safe_open(path, "pt") as opened:
            yield opened
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{file} cannot be read as safetensors ({first_line(error)}); it is damaged: copy it again."
        ) from error


def check_shapes(folder: Path, expected: dict[str, tuple[int, ...]], stored: dict[str, Stored]) -> None:
    """Raise `InputError` for a stored tensor of another shape than expected, or of an unknown name."""
    wrong = [
        f"{name} is {list(stored[name].shape)} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in stored and stored[name].shape != shape
    ]
    if wrong:
        raise InputError(f"The weights in {folder} are not those of its config: {_first_few(wrong)}.")
    unknown = sorted(set(stored) - set(expected))
    if unknown:
        raise InputError(
            f"The weights in {folder} have tensors that its config knows nothing of: {_first_few(unknown)}."
        )


@torch.no_grad()
def fill(folder: Path, system: nn.Module, stored: dict[str, Stored]) -> None:
    """Copy the stored tensors into the system, file by file; tied weights come with their first name.

    Raises `InputError` when they are not those of the system.
    """
    own = system.state_dict()
    check_shapes(folder, {name: tuple(t.shape) for name, t in own.items()}, stored)
    present = {own[name].data_ptr() for name in stored}
    missing = [
        name for name, t in own.items() if name not in stored and t.data_ptr() not in present and t.numel()
    ]
    if missing:
        raise InputError(f"The weights in {folder} lack {_first_few(missing)}; copy the whole folder again.")
    taken: dict[Path, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name, entry in stored.items():
        taken[entry.file][entry.name].append(name)
    for file, names in sorted(taken.items()):
        with _opened(file) as opened:
            for name_there, tensor in _as_used(file, opened):
                for name in names[name_there]:
                    own[name].copy_(tensor)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of a model folder. Raises `InputError` when it is none."""
    try:
        values = json.loads(read_text(path, LARGEST_JSON))
    except FileNotFoundError:
        raise InputError(
            f"{path.parent} lacks {path.name}; give a model folder (the --out of a training)."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is not readable JSON ({first_line(error)}); copy the folder again."
        ) from None
    if not isinstance(values, dict):
        raise InputError(f"{path} must hold an object with keys; copy the folder again.")
    return values


def json_text(values: Any) -> str:
    """What `read_json` reads."""
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def _first_few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
