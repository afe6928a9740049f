"""`diffuseq import`: a checkpoint folder of the published code becomes a model folder of ours."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from diffuseq.cli.saving import check_out
from diffuseq.names import shown, word

_DESCRIPTION = """Read a checkpoint folder of DiffuSeq or DiffuSeq-v2 (ema_0.9999_STEP.pt, training_args.json)
into a model folder that every command here opens.

example: diffuseq import diffusion_models/diffuseq_qqp --out models/published-qqp"""


@dataclasses.dataclass(frozen=True)
class Import:
    """Where the published checkpoint is and where ours goes."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Folder with ema_*.pt and training_args.json, as the published code leaves it."""
    out: Path
    """Model folder to write."""
    overwrite: bool = False
    """Replace a model that is already in --out."""


def main(argv: Sequence[str]) -> int:
    options = tyro.cli(Import, args=list(argv), prog="diffuseq import", description=_DESCRIPTION)
    from diffuseq.checkpoint import save_model
    from diffuseq.model.import_official import import_official

    check_out(options.out, options.overwrite)
    model = import_official(options.folder)
    save_model(options.out, model.system, model.config, model.tokenizer)
    print(
        f"{model.system.num_parameters():,} parameters are in {shown(options.out)}; "
        f"`diffuseq generate {word(options.out)}` writes with them."
    )
    return 0
