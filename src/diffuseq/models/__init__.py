"""The models that come with the package, each a model folder beside this file, opened by its name."""

from __future__ import annotations

from pathlib import Path

SHIPPED = "qqp"
"""The model that `diffuseq generate` and `serve` use when none is named."""
_QUESTIONS = (
    "How can I learn to play the guitar?",
    "What is the best way to lose weight?",
    "Why do people like music so much?",
)
EXAMPLES = {
    "qqp": _QUESTIONS,
    "qqp-large": _QUESTIONS,
    "qqp-pair": _QUESTIONS,
    "qqp-three": _QUESTIONS,
    "qqp-transformer": _QUESTIONS,
    "grammar": (
        "how do i learn to play the guitar in nine weeks?",
        "my garden is full of tiny wasps, what can i do?",
        "where can i find a good hotel in berlin?",
    ),
}
"""For each model questions that it can ask otherwise. The language of `grammar` is a small one."""


def shipped_model(name: str = SHIPPED) -> Path:
    """The folder of a model that comes with the package."""
    return Path(__file__).parent / name


def shipped_name(folder: Path) -> str | None:
    """The name of the model in this folder, if it is one that comes with the package."""
    known = folder.name in EXAMPLES and folder.resolve() == shipped_model(folder.name).resolve()
    return folder.name if known else None
