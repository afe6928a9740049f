"""`diffuseq ensemble`: models that were trained apart become one that draws every word from all of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from diffuseq.cli.saving import check_out
from diffuseq.errors import InputError
from diffuseq.names import shown, word

EXAMPLES = """examples:
  diffuseq train qqp --data data/qqp --out runs/a
  diffuseq train qqp --data data/qqp --out runs/b --training.seed 1 --text.tokenizer runs/a
  diffuseq ensemble runs/a runs/b --out runs/both
  diffuseq generate runs/both --input questions.txt"""


@dataclass(frozen=True)
class EnsembleOptions:
    """Make one model of several: every word is drawn from the mixture of what they expect. The first is a diffuseq,
    the others diffuseqs or autoregressive models of the same vocabulary."""

    models: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Model folders, hub names, or models that come with the package."""
    out: Path
    """Model folder to write; it holds the weights of all, but with --by-name."""
    weights: tuple[float, ...] = ()
    """What each model counts for in the mixture; all the same by default."""
    by_name: bool = False
    """Write no weights but the names of the models, which stay where they are."""
    overwrite: bool = False
    """Replace a model that is already in --out; never one of the members."""


def main(argv: list[str]) -> int:
    """Parse the options, open the models, write the ensemble."""
    description = f"{' '.join((EnsembleOptions.__doc__ or '').split())}\n\n{EXAMPLES}"
    options = tyro.cli(EnsembleOptions, args=argv, prog="diffuseq ensemble", description=description)
    if len(options.models) < 2:
        raise InputError("An ensemble has two or more models; name them all.")
    check_out(options.out, options.overwrite)
    from diffuseq.ensembles import save_ensemble

    save_ensemble(options.models, options.out, options.weights, options.by_name)
    size = sum(path.stat().st_size for path in options.out.glob("*.safetensors")) / 1e6
    what = (
        f"The names of {len(options.models)} models"
        if options.by_name
        else f"{len(options.models)} models, {size:,.0f} MB,"
    )
    print(
        f"{what} are in {shown(options.out)}; `diffuseq generate {word(options.out)}` writes with all of them."
    )
    return 0
