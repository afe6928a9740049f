"""Model folders that become one: an ensemble (`diffuseq.systems.ensemble`) of models that were trained apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from diffuseq.checkpoint import find_model, load_model, save_model
from diffuseq.config import Config, TextConfig, TrainingConfig
from diffuseq.errors import InputError
from diffuseq.files import same_place
from diffuseq.names import refuse_alone
from diffuseq.systems.ensemble import Ensemble
from diffuseq.weights import read_weights

if TYPE_CHECKING:
    from diffuseq.text.tokenizer import Tokenizer


def load_ensemble(
    models: Sequence[str | Path], weights: Sequence[float] = (), device: str | torch.device = "cpu"
) -> tuple[Ensemble, Tokenizer, Config]:
    """The models of these folders or names as one system in eval mode, with the vocabulary that they share. It
    generates as the first of them does, by fixed-point.

    weights: what each counts for in the mixture; none: all the same. Raises `InputError` for models that cannot be
    opened or mixed, and for those of different vocabularies.
    """
    if isinstance(models, str | Path):
        raise InputError(f"The models of an ensemble are one, {str(models)!r}; give a list of models.")
    if not isinstance(models, Iterable):
        raise InputError(
            f"The models of an ensemble are of the type {type(models).__name__}; give a list of models."
        )
    refuse_alone(weights, "weights")
    weights = () if weights is None else weights
    opened = [load_model(name, device) for name in models]
    if not opened:
        raise InputError("An ensemble of no models was asked for; name at least one.")
    systems, tokenizers, configs = zip(*opened, strict=True)
    for name, tokenizer in zip(models[1:], tokenizers[1:], strict=True):
        if tokenizer.fingerprint != tokenizers[0].fingerprint:
            raise InputError(
                f"{name} has another vocabulary than {models[0]}; members are trained on the same one, as with "
                f"--text.tokenizer {find_model(models[0])}."
            )
    system = Ensemble.of(systems, weights).eval()
    config = Config(
        system=system.config,
        text=_text_of([config.text for config in configs]),
        training=TrainingConfig(precision=configs[0].training.precision),  # the whole was never trained
        generation=replace(configs[0].generation, sampler="fixed-point"),
    )
    return system, tokenizers[0], config


def save_ensemble(
    models: Sequence[str | Path], folder: str | Path, weights: Sequence[float] = (), by_name: bool = False
) -> Path:
    """Write the model folder of an ensemble, its weights as the members store them. Raises as `load_ensemble`, and
    where `folder` is one of the models, which would be lost.

    by_name: no weights but the names of the models, which are opened wherever they then are.
    """
    for model in models:
        if same_place(find_model(model), folder):
            raise InputError(
                f"{folder} is one of the members, whose weights would be lost; choose another folder."
            )
    system, tokenizer, config = load_ensemble(models, weights)
    if by_name:
        system.config = replace(system.config, models=tuple(map(_lasting, models)))
        return save_model(folder, system, config, tokenizer, weights={})
    stored = {
        f"members.{number}.{name}": tensor
        for number, model in enumerate(models)
        for name, tensor in read_weights(find_model(model)).items()
    }
    return save_model(folder, system, config, tokenizer, weights=stored)


def _lasting(model: str | Path) -> str:
    """A name that is the same from every working directory."""
    return str(Path(model).resolve()) if Path(model).is_dir() else str(model)


def _text_of(texts: Sequence[TextConfig]) -> TextConfig:
    """What all members read: no more than each of them takes."""
    return replace(
        texts[0],
        max_source=min(text.max_source for text in texts),
        max_target=min(text.max_target for text in texts),
    )
