"""The models that come with the package, each a model folder beside this file."""

from __future__ import annotations

from pathlib import Path

SHIPPED = "qqp"
"""The paraphraser that `diffuseq generate` uses when no model is named."""


def shipped_model(name: str = SHIPPED) -> Path:
    """The folder of a model that comes with the package; it may not exist in a development tree."""
    return Path(__file__).parent / name
