"""Read a published checkpoint folder (DiffuSeq, v1 and v2) as one of our systems.

Such a folder holds `ema_0.9999_STEP.pt` (a state dict), `training_args.json` and the vocabulary: a word list
(`vocab.json`, `words.txt`) or BERT's files. `bert_config.json`, where there is one, gives the sizes of the
network; without it they are BERT-base's, as for all released models.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffuseq.config import Config, DiffusionGeneration, PublishedConfig, TextConfig, TrainingConfig
from diffuseq.errors import InputError, first_line
from diffuseq.files import read_text
from diffuseq.model.bert_denoiser import BertDenoiser
from diffuseq.plain import from_dict
from diffuseq.precision import fp32_by_default
from diffuseq.systems.published import PublishedDiffuSeq, network_shape
from diffuseq.text.tokenizer import Tokenizer

TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "vocab.txt", "words.txt")
_REQUIRED = {
    "predict_xstart": (True, "a network that estimates x_0"),
    "learn_sigma": (False, "a reverse process of fixed variance"),
    "sigma_small": (False, "the large variance, β"),
    "use_kl": (False, "the simple loss"),
}
"""Arguments with a single value that the published network and sampler are read with."""


@dataclass(frozen=True)
class ImportedModel:
    """A published model as ours: the system with its weights, its tokenizer, and the whole config."""

    system: PublishedDiffuSeq
    tokenizer: Tokenizer
    config: Config


@fp32_by_default()
def import_official(folder: str | Path) -> ImportedModel:
    """Read a published checkpoint folder; of several checkpoints the averaged one of the latest step.

    Nothing in the folder is executed: weights are read with `torch.load(weights_only=True)`. Raises
    `InputError` for a file that is missing or unreadable, tensors of unexpected names or shapes, an unknown
    noise schedule, or a vocabulary that does not fit.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}; give the folder of a published checkpoint.")
    arguments = _read_json(folder / "training_args.json")
    bert = _read_json(folder / "bert_config.json") if (folder / "bert_config.json").exists() else {}
    checkpoint = _find_checkpoint(folder)
    weights = _read_weights(checkpoint)
    tokenizer = _read_tokenizer(folder, arguments)
    config = _config(folder / "training_args.json", arguments, bert, weights)
    vocab_size = _rows(weights, "word_embedding.weight", checkpoint)
    if tokenizer.vocab_size != vocab_size:
        raise InputError(
            f"The vocabulary in {folder} has {tokenizer.vocab_size} words, but {checkpoint.name} has "
            f"embeddings for {vocab_size}; put the vocabulary of this model into the folder."
        )
    try:
        with torch.device("meta"):  # sizes only, so that weights that do not fit are refused at once
            expected = BertDenoiser(network_shape(config.system, vocab_size)).state_dict()
    except Exception as error:
        raise InputError(
            f"The settings in {folder} describe a network that cannot be built ({first_line(error)}); copy "
            "training_args.json and bert_config.json again."
        ) from error
    _check(weights, expected, checkpoint)
    system = PublishedDiffuSeq(config.system, tokenizer.special)
    # An averaged checkpoint has the last raw embeddings under `lm_head.weight`, for only the tied
    # `word_embedding.weight` was averaged; loaded in this order the former stay, as in the released code.
    system.denoiser.load_state_dict(weights)
    return ImportedModel(system.eval(), tokenizer, config)


def _config(
    path: Path, arguments: Mapping[str, Any], bert: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> Config:
    """Our config of a published run; `path` is that of training_args.json, for the messages."""
    for name, (value, meaning) in _REQUIRED.items():
        if arguments.get(name, value) != value:
            raise InputError(
                f"{path} has {name} = {arguments[name]}; only models with {value} ({meaning}) can be "
                "imported."
            )
    steps, length = (_required(arguments, name, path) for name in ("diffusion_steps", "seq_len"))
    version = 2 if "mean_embed" in weights else 1
    dropout = arguments.get("dropout", 0.1)
    system = from_dict(
        PublishedConfig,
        {
            "version": version,
            "layers": bert.get("num_hidden_layers", 12),
            "heads": bert.get("num_attention_heads", 12),
            "width": bert.get("hidden_size", 768),
            "feed_forward": bert.get("intermediate_size", 3072),
            "embedding_width": _required(arguments, "hidden_dim", path),
            "time_width": _required(arguments, "hidden_t_dim", path),
            "sequence_length": length,
            "max_positions": bert.get("max_position_embeddings", 512),
            "dropout": dropout,
            "noise_schedule": _required(arguments, "noise_schedule", path),
            "diffusion_steps": steps,
            "rescale_time": arguments.get("rescale_timesteps", True),
            "time_sampling": "loss-aware" if arguments.get("schedule_sampler") == "lossaware" else "uniform",
            "absorb_rate": arguments.get("denoise_rate", 0.5)
            if arguments.get("denoise", version == 2)
            else 0.0,
            "regularize": arguments.get("reg_rate", 0.01),
        },
        f"the import of {path}",
    )
    return Config(
        system=system,
        text=TextConfig(max_source=length, max_target=length, published_layout=True),
        training=_training(path, arguments),
        generation=(
            DiffusionGeneration(steps=steps, sampler="ancestral", clamp_from=0.0)
            if version == 1
            else DiffusionGeneration(steps=10, sampler="dpm-solver")
        ),
    )


def _training(path: Path, arguments: Mapping[str, Any]) -> TrainingConfig:
    """How the model was trained, as far as its arguments tell; the batch is that of one process."""
    standard = TrainingConfig()
    clip = arguments.get("gradient_clipping", -1.0)
    values = {
        "batch_size": arguments.get("batch_size", standard.batch_size),
        "steps": arguments.get("learning_steps", standard.steps),
        "learning_rate": arguments.get("lr", 1e-4),
        "schedule": "linear",
        "warmup": 0.0,
        "betas": [0.9, 0.999],
        "weight_decay": arguments.get("weight_decay", 0.0),
        "clip": None if isinstance(clip, int | float) and clip <= 0 else clip,
        "ema": _first_number(arguments.get("ema_rate", "0.9999"), path),
        "precision": "fp32",
        "seed": arguments.get("seed", 0),
    }
    return from_dict(TrainingConfig, values, f"the import of {path}")


def _first_number(rates: Any, path: Path) -> float:
    """The first of rates like "0.9999,0.99"."""
    try:
        return float(str(rates).split(",")[0])
    except ValueError:
        raise InputError(f"{path} has ema_rate = {rates!r}; give a number, like 0.9999.") from None


def _find_checkpoint(folder: Path) -> Path:
    """ema_RATE_STEP.pt of the latest step, or else modelSTEP.pt."""
    for pattern in (r"ema_[\d.]+_(\d+)\.pt", r"model(\d+)\.pt"):
        steps = {path: re.fullmatch(pattern, path.name) for path in folder.glob("*.pt")}
        found = {path: int(match[1]) for path, match in steps.items() if match}
        if found:
            return max(found, key=lambda path: (found[path], path.name))
    raise InputError(
        f"{folder} has no ema_RATE_STEP.pt and no modelSTEP.pt; copy the published checkpoint into it."
    )


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise InputError(
            f"{path} holds more than tensors, and opening it could run foreign code, so it is refused; save "
            "the state dict alone with torch.save and try again."
        ) from None
    except Exception as error:  # damaged bytes let the reader fail in whatever way
        raise InputError(f"{path} cannot be read ({error}); copy the checkpoint again.") from None
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise InputError(
            f"{path} is no state dict; give a published checkpoint, which maps names to tensors."
        )
    # Saved from inside DistributedDataParallel, every name has a prefix.
    return {name.removeprefix("module."): value for name, value in weights.items()}


def _read_tokenizer(folder: Path, arguments: Mapping[str, Any]) -> Tokenizer:
    """The folder's vocabulary; without one, BERT's by its hub name where the model was trained with it."""
    if any((folder / name).is_file() for name in TOKENIZER_FILES):
        return Tokenizer.load(folder)
    vocabulary = str(arguments.get("vocab", "bert"))
    named = folder / Path(vocabulary).name
    if vocabulary != "bert" and named.is_file():
        return Tokenizer.load(named)
    if vocabulary != "bert":
        raise InputError(
            f"{folder} has no vocabulary; copy {named.name} (the word list) or vocab.json into it."
        )
    try:
        return Tokenizer.load(str(arguments.get("config_name", "bert-base-uncased")))
    except InputError as error:
        raise InputError(f"{folder} has no vocabulary; copy BERT's vocab.txt into it. ({error})") from None


def _check(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: Path) -> None:
    """Raise `InputError` where the weights have other names or shapes than the network."""
    missing, unknown = sorted(set(wanted) - set(weights)), sorted(set(weights) - set(wanted))
    if missing or unknown:
        raise InputError(
            f"{path} does not hold the published network:{_few('missing', missing)}"
            f"{_few('unknown', unknown)}; if the model is not of BERT-base's depth, put its bert_config.json "
            "into the folder."
        )
    for name, tensor in wanted.items():
        if weights[name].shape != tensor.shape:
            raise InputError(
                f"{path} has {name} of shape {list(weights[name].shape)}, but its settings say "
                f"{list(tensor.shape)}; put this model's training_args.json and bert_config.json beside it."
            )


def _few(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f" {what} {', '.join(names[:3])}{more}"


def _rows(weights: Mapping[str, Tensor], name: str, path: Path) -> int:
    if name not in weights:
        raise InputError(f"{path} has no {name}; give a published DiffuSeq checkpoint.")
    return weights[name].shape[0]


def _required(arguments: Mapping[str, Any], name: str, path: Path) -> Any:
    if name not in arguments:
        raise InputError(f"{path} has no {name}; give the file that the published code wrote.")
    return arguments[name]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_text(path))
    except FileNotFoundError:
        raise InputError(f"{path} is missing; copy it from the published checkpoint's folder.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}); copy it again.") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a JSON object; copy it again.")
    return content
