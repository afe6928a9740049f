"""Pretrained networks from the hub or a local folder, as parts of our systems."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from diffuseq.errors import InputError
from diffuseq.names import WEIGHT_SUFFIXES, refuse_missing_path
from diffuseq.system import SpecialTokens

ADDED = 128
"""How far a tokenizer's vocabulary may be from the network's: special tokens are added to some, and some
networks have spare rows. A vocabulary that differs by more is another tokenizer's."""


def transformers() -> Any:
    """The transformers package, which is an extra. Raises `InputError` where it is not installed."""
    try:
        return import_module("transformers")
    except ImportError:
        raise InputError(
            "GPT-2, T5 and pretrained encoders need the transformers package, which is not installed; "
            "install it with: pip install 'diffuseq[baselines]'."
        ) from None


def load(kind: str, name: str, special: SpecialTokens, **settings: Any) -> Any:
    """The network `name` of transformers' class `kind`, its vocabulary made to fit the tokenizer's.

    `settings` replace those of the network's own config, say its dropout.

    Raises `InputError` where it cannot be read, or where its vocabulary is another tokenizer's.
    """
    refuse_missing_path(name, "a folder for transformers", WEIGHT_SUFFIXES)
    network = getattr(transformers(), kind)
    try:
        model = network.from_pretrained(name, dtype="float32", **settings)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"Cannot load the pretrained weights {name!r} ({reason}); give a hub name or a local folder that "
            "transformers can open, or weights 'random'."
        ) from None
    rows = model.get_input_embeddings().num_embeddings
    if abs(rows - special.vocab_size) > ADDED:
        raise InputError(
            f"The tokenizer has {special.vocab_size} tokens, but {name!r} was trained with {rows}; "
            f"use its own tokenizer: set text.tokenizer to {name!r}."
        )
    if rows != special.vocab_size:
        model.resize_token_embeddings(special.vocab_size, mean_resizing=False)
    return model
