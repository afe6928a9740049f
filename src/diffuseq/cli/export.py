"""`diffuseq export`: our denoiser as ONNX graphs, for answers on a CPU in less time."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from diffuseq.cli.saving import check_out
from diffuseq.errors import InputError
from diffuseq.names import shown, word

_DESCRIPTION = """Write the denoiser of a model for ONNX Runtime, into the folder onnx of its model folder.

examples:
  diffuseq export runs/mine
  diffuseq export qqp --out models/qqp
  diffuseq generate models/qqp --runtime onnx"""


@dataclasses.dataclass(frozen=True)
class Export:
    """Which model, and where to."""

    model: Annotated[str, tyro.conf.Positional]
    """A model folder, a hub name, or a model that comes with the package."""
    out: Path | None = None
    """A new model folder to write the model and its graphs to; without it the graphs go into MODEL, which then
    must be a folder."""


def main(argv: Sequence[str]) -> int:
    options = tyro.cli(Export, args=list(argv), prog="diffuseq export", description=_DESCRIPTION)
    folder = Path(options.model) if options.out is None else options.out
    if options.out is None and not folder.is_dir():
        raise InputError(f"{options.model} is no folder of yours; name one to write to with --out.")
    if options.out is not None:
        check_out(options.out, instead="export that one")
    from diffuseq.onnx_runtime import check_exportable, export_onnx
    from diffuseq.pipeline import DiffuSeqPipeline

    pipe = DiffuSeqPipeline.from_pretrained(options.model, "cpu", precision="fp32")
    check_exportable(pipe.system)
    if options.out is not None:
        pipe.save_pretrained(options.out)
    graphs = export_onnx(pipe.system, folder)
    size = sum(path.stat().st_size for path in graphs.iterdir()) / 1e6
    print(
        f"{size:,.0f} MB are in {shown(graphs)}; "
        f"`diffuseq generate {word(folder)} --runtime onnx` computes with them."
    )
    return 0
