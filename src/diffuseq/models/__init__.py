"""The models that come with the package, each a model folder beside this file."""

from __future__ import annotations

from pathlib import Path

SHIPPED = "grammar"
"""The model that `diffuseq generate` and `serve` use when none is named."""
EXAMPLES = (
    "how do i learn to play the guitar in nine weeks?",
    "my garden is full of tiny wasps, what can i do?",
    "where can i find a good hotel in berlin?",
)
"""Questions that this model knows how to ask otherwise; its language is a small grammar."""


def shipped_model(name: str = SHIPPED) -> Path:
    """The folder of a model that comes with the package."""
    return Path(__file__).parent / name
