"""Training that begins with a model instead of random weights: fine-tuning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from diffuseq.checkpoint import CONFIG, find_model, load_config, stored_model
from diffuseq.config import Config, TextConfig
from diffuseq.errors import InputError
from diffuseq.system import System
from diffuseq.text.tokenizer import Tokenizer
from diffuseq.weights import fill


def starting_from(config: Config, name: str, run: Path | None = None) -> Config:
    """The config of a training that goes on from the model of this name or folder: its system, text and
    generation with the training settings of `config`. run: the folder of such a training that is resumed, which
    needs the model no more.

    Raises `InputError` where there is no such model.
    """
    model = load_config(find_model(name) if run is None else run)
    return replace(model, training=replace(config.training, start_from=name))


def text_of_start(text: TextConfig, start_from: str | None, run: Path | None = None) -> TextConfig:
    """The text settings with the tokenizer of the model that is begun with, where they name none. run: the folder
    of a training that is resumed, which has that tokenizer itself."""
    if start_from is None or text.tokenizer is not None:
        return text
    return replace(text, tokenizer=str(find_model(start_from) if run is None else run))


def begun(out: Path, resume: bool) -> Path | None:
    """The folder of a training that is to be resumed, if there is a model in it already."""
    return out if resume and (out / CONFIG).is_file() else None


def begin_as(system: System, name: str, tokenizer: Tokenizer) -> None:
    """Give a system the weights of the model of this name or folder.

    Raises `InputError` where there is no such model, or one of other sizes or another vocabulary.
    """
    folder = find_model(name)
    own = Tokenizer.load(folder)
    if own.fingerprint != tokenizer.fingerprint:
        raise InputError(
            f"training.start_from is {name}, which has another vocabulary than text.tokenizer names; leave "
            "text.tokenizer at none, to take the model's own."
        )
    stored = stored_model(folder, load_config(folder), own)
    try:
        fill(folder, system, stored)
    except InputError as error:
        raise InputError(
            f"training.start_from is {name}, but the system has other sizes; take that model's settings, as "
            f"`diffuseq train {name} --training.start-from {name}` does ({error})"
        ) from error
