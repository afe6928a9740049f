"""The model folder: what is saved, loaded and pushed.

    config.json              the system, the text and the training, with the versions that wrote it
    generation_config.json   how it generates, kept apart so that it can be edited alone
    model.safetensors        the (averaged) weights, or shards with model.safetensors.index.json
    tokenizer files          that `AutoTokenizer` opens
    README.md                the model card (`diffuseq.model_card`)

Nothing in here is executed on loading, and nothing large is allocated before the sizes that the config asks
for have been held against the sizes of the weights.
"""

from __future__ import annotations

import dataclasses
import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

import diffuseq
from diffuseq.config import Config, to_dict
from diffuseq.devices import usable_device
from diffuseq.errors import InputError
from diffuseq.files import atomic_file, write_tensors, write_text
from diffuseq.model_card import CARD, model_card
from diffuseq.registry import build, config_from_dict
from diffuseq.system import SpecialTokens, System

if TYPE_CHECKING:
    from diffuseq.text.tokenizer import Tokenizer

FORMAT_VERSION = 1
CONFIG, GENERATION = "config.json", "generation_config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
LARGEST_JSON = 16 * 2**20
ALWAYS_FINE = 1_000_000
"""Numbers in a config, and parameters, up to here are never too many."""


def save_model(
    folder: str | Path,
    system: System,
    config: Config,
    tokenizer: Tokenizer,
    card: str | None = None,
    *,
    dtype: torch.dtype | None = None,
    max_shard_bytes: int | None = None,
    weights: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write the model folder; every file is whole or not there, and config.json comes last.

    card: text of the model card, made from the config when None. dtype: store the weights as this (float16,
    bfloat16) instead of their own. max_shard_bytes: cut the weights into files of at most this size.
    weights: a state dict to store instead of the system's own (the averaged one, or one gathered from FSDP).
    Raises `InputError` when the folder cannot be written.
    """
    folder = Path(folder)
    save_weights(folder, system.state_dict() if weights is None else weights, dtype, max_shard_bytes)
    _save_tokenizer(folder, tokenizer)
    write_text(folder / CARD, model_card(config, system.num_parameters()) if card is None else card)
    write_text(folder / GENERATION, _json(to_dict(config.generation)))
    versions = {"format_version": FORMAT_VERSION, "diffuseq_version": diffuseq.__version__}
    # The system's own config: one that loaded pretrained weights knows its sizes, and opens without them.
    built = dataclasses.replace(config, system=system.config)
    values = {key: value for key, value in to_dict(built).items() if key != "generation"}
    write_text(folder / CONFIG, _json(versions | values))
    return folder


def load_model(
    name_or_folder: str | Path, device: str | torch.device = "cpu"
) -> tuple[System, Tokenizer, Config]:
    """Open a model folder, or download one from the hub (owner/name); the system is in eval mode.

    Raises `InputError` when it is neither, when a file is missing or damaged, or when the weights are not
    those of the config (the first names that differ are given).
    """
    from diffuseq.text.tokenizer import Tokenizer

    device, folder = usable_device(device), find_model(name_or_folder)
    config = load_config(folder)
    stored = _stored_tensors(folder)
    tokenizer = Tokenizer.load(folder)
    system = _build_to_size(folder, config, tokenizer.special, stored)
    _fill(folder, system, stored)
    return system.to(device).eval(), tokenizer, config


def push_model(
    name: str,
    system: System,
    config: Config,
    tokenizer: Tokenizer,
    card: str | None = None,
    *,
    private: bool = False,
    **options: Any,
) -> str:
    """Upload the model folder to the hub as `name` (owner/name). Returns its address.

    card: text of the model card, made from the config when None.
    """
    from huggingface_hub import HfApi

    with tempfile.TemporaryDirectory() as folder:
        save_model(folder, system, config, tokenizer, card)
        try:
            hub = HfApi()
            address = str(hub.create_repo(name, private=private, exist_ok=True))
            hub.upload_folder(repo_id=name, folder_path=folder, **options)
        except Exception as error:
            raise InputError(
                f"Cannot push to {name!r} ({_first_line(error)}); check the name, the network and your token."
            ) from error
    return address


def find_model(name_or_folder: str | Path) -> Path:
    """The folder itself, or the downloaded copy of the hub's model of this name."""
    folder = Path(name_or_folder)
    if folder.is_dir():
        return folder
    name = str(name_or_folder)
    if folder.exists():
        raise InputError(f"{name} is a file; give the folder that holds {CONFIG} and {WEIGHTS}.")
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        raise InputError(
            f"There is no model folder {name!r}; give the --out of a training, or a hub name (owner/name)."
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.md"]))
    except Exception as error:
        raise InputError(
            f"{name!r} is no folder, and the hub gives none ({_first_line(error)}); check the name and "
            "the network, or give a local folder."
        ) from error


def load_config(folder: Path) -> Config:
    """The config of a model folder, generation settings included. Strict: unknown keys raise `InputError`."""
    values = _read_json(folder / CONFIG)
    version = values.pop("format_version", None)
    values.pop("diffuseq_version", None)
    if version != FORMAT_VERSION:
        raise InputError(
            f"{folder / CONFIG} has format_version {version!r}, and this diffuseq reads {FORMAT_VERSION}; "
            "use the version that wrote it, or `diffuseq import` a published model."
        )
    if (folder / GENERATION).exists():
        values["generation"] = _read_json(folder / GENERATION)
    return config_from_dict(values)


# Weights


def save_weights(
    folder: Path,
    state: Mapping[str, Tensor],
    dtype: torch.dtype | None = None,
    max_shard_bytes: int | None = None,
) -> None:
    """Write a state dict; of tensors that share their memory (tied weights) the first name is kept."""
    tensors = {
        name: tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor
        for name, tensor in _without_aliases(state).items()
    }
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
    write_text(folder / INDEX, _json({"metadata": {"total_size": size}, "weight_map": where}))
    _remove_other_weights(folder, {*names, INDEX})


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
        if max_bytes is not None and shards[-1] and size + _bytes(tensor) > max_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += _bytes(tensor)
    return shards


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _remove_other_weights(folder: Path, current: set[str]) -> None:
    for path in folder.glob("model*.safetensors*"):
        if path.name not in current:
            path.unlink()


@dataclass(frozen=True)
class _Stored:
    file: Path
    shape: tuple[int, ...]


def _stored_tensors(folder: Path) -> dict[str, _Stored]:
    """Where every tensor of the folder is, and its shape; only headers are read."""
    stored: dict[str, _Stored] = {}
    for file in _weight_files(folder):
        if not file.is_file():
            raise InputError(f"{folder} lacks {file.name}; copy the whole folder again.")
        with _readable(file), safe_open(file, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118
                stored[name] = _Stored(file, tuple(opened.get_slice(name).get_shape()))
    return stored


def _weight_files(folder: Path) -> list[Path]:
    if not (folder / INDEX).exists() or (folder / WEIGHTS).exists():
        if not (folder / WEIGHTS).exists() and list(folder.glob("ema_*.pt")):
            raise InputError(
                f"{folder} is a published checkpoint; turn it into a model folder with `diffuseq import`."
            )
        return [folder / WEIGHTS]
    where = _read_json(folder / INDEX).get("weight_map")
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
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{file} cannot be read as safetensors ({_first_line(error)}); it is damaged: copy it again."
        ) from error


def _build_to_size(
    folder: Path, config: Config, special: SpecialTokens, stored: dict[str, _Stored]
) -> System:
    """The system of the config, refused before it takes memory if it does not fit the stored weights."""
    room = max(ALWAYS_FINE, sum(_numel(entry.shape) for entry in stored.values()) * 2)
    _check_numbers(folder, config.system, room, layers=max(64, len(stored)))
    with torch.random.fork_rng(devices=[]):
        try:
            with _at_most(room), torch.device("meta"):
                shapes = build(config.system, special).state_dict()
        except (NotImplementedError, RuntimeError):
            pass  # a system that computes while it is built has no meta twin; the limits below still hold
        except Exception as error:
            raise _not_buildable(folder, error) from error
        else:
            _check_shapes(folder, {name: tuple(t.shape) for name, t in shapes.items()}, stored)
        try:
            with _at_most(room):
                system = build(config.system, special)
        except Exception as error:
            raise _not_buildable(folder, error) from error
    return system


def _not_buildable(folder: Path, error: Exception) -> InputError:
    if isinstance(error, InputError):
        return error
    return InputError(f"{folder / CONFIG} describes a system that cannot be built: {_first_line(error)}.")


def _check_numbers(folder: Path, values: Any, room: int, layers: int, where: str = "system") -> None:
    """No whole number of the config may be larger than anything that the weights can hold."""
    for field in dataclasses.fields(values):
        value, name = getattr(values, field.name), f"{where}.{field.name}"
        if dataclasses.is_dataclass(value):
            _check_numbers(folder, value, room, layers, name)
        if isinstance(value, bool) or not isinstance(value, int):
            continue
        most = layers if "layers" in field.name else room
        if abs(value) > most:
            raise InputError(
                f"{folder / CONFIG} asks for {name} = {value:.3g}, far more than its weights hold; copy "
                "the folder again, or correct the config."
            )


@contextmanager
def _at_most(room: int) -> Iterator[None]:
    """Refuse, within the block, to build modules with more than `room` parameters together."""
    total = 0

    def count(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        nonlocal total
        total += 0 if parameter is None else parameter.numel()
        if total > room:
            raise InputError(
                "The config asks for a system with far more parameters than its weights file holds; copy the "
                "folder again, or correct the config."
            )

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def _check_shapes(folder: Path, expected: dict[str, tuple[int, ...]], stored: dict[str, _Stored]) -> None:
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
def _fill(folder: Path, system: System, stored: dict[str, _Stored]) -> None:
    """Copy the stored tensors into the system, file by file; tied weights come with their first name."""
    own = system.state_dict()
    _check_shapes(folder, {name: tuple(t.shape) for name, t in own.items()}, stored)
    present = {own[name].data_ptr() for name in stored}
    missing = [
        name for name, t in own.items() if name not in stored and t.data_ptr() not in present and t.numel()
    ]
    if missing:
        raise InputError(f"The weights in {folder} lack {_first_few(missing)}; copy the whole folder again.")
    for file in sorted({entry.file for entry in stored.values()}):
        with _readable(file), safe_open(file, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118
                own[name].copy_(opened.get_tensor(name))


def _numel(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


# Texts


def _save_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    with tempfile.TemporaryDirectory() as made:
        tokenizer.save(Path(made))
        for path in sorted(Path(made).iterdir()):
            with atomic_file(folder / path.name) as temporary:
                temporary.write_bytes(path.read_bytes())


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise InputError(
                f"{path} is larger than {LARGEST_JSON // 2**20} MiB; that is no file of a model folder."
            )
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{path.parent} lacks {path.name}; give a model folder (the --out of a training)."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path} is not readable JSON ({_first_line(error)}); copy the folder again."
        ) from None
    if not isinstance(values, dict):
        raise InputError(f"{path} must hold an object with keys; copy the folder again.")
    return values


def _json(values: Any) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:300]


def _first_few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
