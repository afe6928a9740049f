"""The models that come with the package, each a model folder beside this file."""

from __future__ import annotations

from pathlib import Path

SHIPPED = "grammar"
"""The model that `diffuseq generate` and `serve` use when none is named."""


def shipped_model(name: str = SHIPPED) -> Path:
    """The folder of a model that comes with the package."""
    return Path(__file__).parent / name
