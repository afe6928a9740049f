"""Sequence-to-sequence text generation with diffusion.

The public names are loaded when they are first used, so that `import diffuseq` costs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors and type checkers, which do not see what `__getattr__` gives
    from diffuseq.config import Config as Config
    from diffuseq.errors import InputError as InputError
    from diffuseq.pipeline import DiffuSeqPipeline as DiffuSeqPipeline
    from diffuseq.recipes import recipe as recipe
    from diffuseq.training.run import train as train

__version__ = "0.1.0"

_HOMES = {
    "DiffuSeqPipeline": "diffuseq.pipeline",
    "InputError": "diffuseq.errors",
    "Config": "diffuseq.config",
    "recipe": "diffuseq.recipes",
    "train": "diffuseq.training.run",
}
__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'diffuseq' has no attribute {name!r}; it has: {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)
