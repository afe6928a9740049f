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
import inspect
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

import diffuseq
from diffuseq.checks import check_system
from diffuseq.config import Config
from diffuseq.devices import usable_device
from diffuseq.errors import InputError, first_line, unknown_name
from diffuseq.files import atomic_file, write_text
from diffuseq.model_card import model_card, write_card
from diffuseq.models import EXAMPLES, shipped_model
from diffuseq.names import as_path
from diffuseq.plain import to_dict
from diffuseq.precision import fp32_by_default
from diffuseq.registry import build, config_from_dict
from diffuseq.system import SpecialTokens, System
from diffuseq.weights import (
    WEIGHTS,
    Stored,
    check_shapes,
    fill,
    json_text,
    read_json,
    save_weights,
    stored_tensors,
)

if TYPE_CHECKING:
    from diffuseq.text.tokenizer import Tokenizer

FORMAT_VERSION = 1
CONFIG, GENERATION = "config.json", "generation_config.json"
ALWAYS_FINE = 1_000_000
"""Numbers in a config, and parameters, up to here are never too many."""
BUILT_OVER = 4
"""How many parameters a system may make for one that it stores: T5 makes three word tables and keeps one."""


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

    card: text of the model card, made from the config when None; a README.md of the user's own stays in its place
    (`diffuseq.model_card.has_own_card`). dtype: store the weights as this (float16, bfloat16, or int8, see
    `diffuseq.weights.save_weights`) instead of their own. max_shard_bytes: cut the weights into files of at most
    this size. weights: a state dict to store instead of the system's own (the averaged one, or one gathered from
    FSDP).
    Raises `InputError` when the folder cannot be written.
    """
    folder = as_path(folder, "The model's folder")
    save_weights(folder, system.state_dict() if weights is None else weights, dtype, max_shard_bytes)
    _save_tokenizer(folder, tokenizer)
    told = as_read(config, tokenizer)
    write_card(folder, model_card(told, system.num_parameters()) if card is None else card)
    write_text(folder / GENERATION, json_text(to_dict(config.generation)))
    versions = {"format_version": FORMAT_VERSION, "diffuseq_version": diffuseq.__version__}
    # The system's own config: one that loaded pretrained weights knows its sizes, and opens without them.
    built = dataclasses.replace(config, system=system.config)
    values = {key: value for key, value in to_dict(built).items() if key != "generation"}
    write_text(folder / CONFIG, json_text(versions | values))
    return folder


def as_read(config: Config, tokenizer: Tokenizer) -> Config:
    """The config with the case that the tokenizer keeps, as a model card is to tell it: the settings may name a
    tokenizer that does otherwise."""
    text = dataclasses.replace(config.text, lowercase=tokenizer.lowercases)
    return dataclasses.replace(config, text=text)


@fp32_by_default()
def load_model(
    name_or_folder: str | Path, device: str | torch.device = "cpu"
) -> tuple[System, Tokenizer, Config]:
    """Open a model folder, one that comes with the package (by its name), or one from the hub (owner/name); the
    system is in eval mode.

    Raises `InputError` when it is neither, when a file is missing or damaged, or when the weights are not
    those of the config (the first names that differ are given).
    """
    from diffuseq.text.tokenizer import Tokenizer

    device, folder = usable_device(device), find_model(name_or_folder)
    config = load_config(folder)
    tokenizer = Tokenizer.load(folder)
    stored = stored_model(folder, config, tokenizer)
    system = _build_to_size(folder, config, tokenizer.special, stored)
    fill(folder, system, stored)
    return system.to(device).eval(), tokenizer, dataclasses.replace(config, system=system.config)


def stored_model(folder: Path, config: Config, tokenizer: Tokenizer) -> dict[str, Stored]:
    """Where every tensor of the model in this folder is: there, or in the folders of an ensemble's models. Raises
    `InputError` where one of these is gone or has another vocabulary by now."""
    from diffuseq.text.tokenizer import Tokenizer

    models = getattr(config.system, "models", ())
    if not models:
        return stored_tensors(folder)
    check_system(config.system)
    stored: dict[str, Stored] = {}
    for number, name in enumerate(models):
        place = find_model(name)
        if Tokenizer.load(place).fingerprint != tokenizer.fingerprint:
            raise InputError(
                f"{folder} is an ensemble with {name}, which has another vocabulary by now; make it anew with "
                "`diffuseq ensemble`."
            )
        stored |= {f"members.{number}.{key}": entry for key, entry in stored_tensors(place).items()}
    return stored


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

    card: text of the model card, made from the config when None. private: whether a repository that is not there
    yet is made for its owner alone; options go to `HfApi.upload_folder`. Raises `InputError` for an option that it
    does not have, before a repository is made, and when the hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi

    known = set(inspect.signature(HfApi.upload_folder).parameters) - {"self", "repo_id", "folder_path"}
    for option in options.keys() - known:
        raise unknown_name("option", option, {*known, "private"})
    with tempfile.TemporaryDirectory() as folder:
        save_model(folder, system, config, tokenizer, card)
        try:
            hub = HfApi()
            address = str(hub.create_repo(name, private=private, exist_ok=True))
            hub.upload_folder(repo_id=name, folder_path=folder, **options)
        except Exception as error:
            raise InputError(
                f"Cannot push to {name!r} ({first_line(error)}); check the name, the network and your token."
            ) from error
    return address


def find_model(name_or_folder: str | Path) -> Path:
    """The folder itself, the model of this name that comes with the package, or a copy of the hub's (owner/name).
    Raises `InputError` when there is none."""
    possible = (
        f"give the --out of a training, a hub name (owner/name), or one that comes with the package "
        f"({', '.join(EXAMPLES)})"
    )
    folder = as_path(name_or_folder, "The name of the model", possible)
    if folder.is_dir():
        return folder
    name = str(name_or_folder)
    if name in EXAMPLES:
        return shipped_model(name)
    if folder.exists():
        raise InputError(f"{name} is a file; give the folder that holds {CONFIG} and {WEIGHTS}.")
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        raise InputError(f"There is no model folder {name!r}; {possible}.")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.md"]))
    except Exception as error:
        raise InputError(
            f"{name!r} is no folder, and the hub gives none ({first_line(error)}); check the name and "
            "the network, or give a local folder."
        ) from error


def load_config(folder: Path) -> Config:
    """The config of a model folder, generation settings included. Strict: unknown keys raise `InputError`."""
    values = read_json(folder / CONFIG)
    version = values.pop("format_version", None)
    values.pop("diffuseq_version", None)
    if version != FORMAT_VERSION:
        raise InputError(
            f"{folder / CONFIG} has format_version {version!r}, and this diffuseq reads {FORMAT_VERSION}; "
            "use the version that wrote it, or `diffuseq import` a published model."
        )
    values["generation"] = read_json(folder / GENERATION)
    return config_from_dict(values)


def _build_to_size(folder: Path, config: Config, special: SpecialTokens, stored: dict[str, Stored]) -> System:
    """The system of the config, refused before it takes memory if it does not fit the stored weights."""
    room = max(ALWAYS_FINE, sum(entry.numel for entry in stored.values()) * BUILT_OVER)
    _check_numbers(folder, config.system, room, layers=max(64, len(stored)))
    with torch.random.fork_rng(devices=[]):
        try:
            with _at_most(room), torch.device("meta"), _Unfilled():
                shapes = build(config.system, special).state_dict()
        except (NotImplementedError, RuntimeError):
            pass  # a system that computes while it is built has no meta twin; the limits below still hold
        except Exception as error:
            raise _not_buildable(folder, error) from error
        else:
            check_shapes(folder, {name: tuple(t.shape) for name, t in shapes.items()}, stored)
        try:
            with _at_most(room), _Unfilled():
                system = build(config.system, special)
        except Exception as error:
            raise _not_buildable(folder, error) from error
    return system


def _not_buildable(folder: Path, error: Exception) -> InputError:
    if isinstance(error, InputError):
        return error
    return InputError(f"{folder / CONFIG} describes a system that cannot be built: {first_line(error)}.")


def _check_numbers(folder: Path, values: Any, room: int, layers: int, where: str = "system") -> None:
    """No whole number of the config may be larger than anything that the weights can hold."""
    for field in dataclasses.fields(values):
        value, name = getattr(values, field.name), f"{where}.{field.name}"
        for number, part in enumerate(value if isinstance(value, tuple) else (value,)):
            if dataclasses.is_dataclass(part):
                _check_numbers(folder, part, room, layers, name if part is value else f"{name}[{number}]")
        if isinstance(value, bool) or not isinstance(value, int):
            continue
        most = layers if "layers" in field.name else room
        if abs(value) > most:
            raise InputError(
                f"{folder / CONFIG} asks for {name} = {value:.3g}, far more than its weights hold; copy "
                "the folder again, or correct the config."
            )


class _Unfilled(TorchFunctionMode):
    """Parameters are not initialised within the block: a moment later they are read from a file.

    Besides the time that drawing them takes, this spares, on the meta device, the import of torch's compiler, which
    has the rules for it: two seconds before the first answer.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        draws = function in (Tensor.normal_, Tensor.uniform_)
        if draws or getattr(function, "__module__", None) == nn.init.__name__:
            return args[0] if args else given["tensor"]
        return function(*args, **given)


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


def _save_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    with tempfile.TemporaryDirectory() as made:
        tokenizer.save(Path(made))
        for path in sorted(Path(made).iterdir()):
            with atomic_file(folder / path.name) as temporary:
                temporary.write_bytes(path.read_bytes())
