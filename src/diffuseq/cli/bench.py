"""`diffuseq bench`: how fast, as ratios measured in one run on this machine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro
from rich.console import Console

from diffuseq.cli.consoles import ReportConsole
from diffuseq.cli.tables import print_table
from diffuseq.evaluation.tables import Cell, Table
from diffuseq.files import check_file, write_text
from diffuseq.names import shown

if TYPE_CHECKING:
    from diffuseq.evaluation.speed.table import Table as Measured

EXAMPLES = """examples:
  diffuseq bench --quick                        two minutes, a small network
  diffuseq bench --out bench.json               the published size, about ten minutes
  diffuseq bench --only training,sampling       two of: training, sampling, gpt2, peak, growth"""


@dataclass(frozen=True)
class Bench:
    """Compare speed with the published system, with GPT-2 and with what the machine can do."""

    quick: bool = False
    """A small network, fewer repeats and shorter ranges: about two minutes."""
    size: Literal["base", "small", "tiny"] | None = None
    """base: 12 layers of 768, as published; small: 6 of 256; tiny: a check that everything runs. Default:
    base, or small with --quick."""
    only: str | None = None
    """Parts to measure, separated by commas: training, sampling, gpt2, peak, growth; all by default."""
    out: Path | None = None
    """Write everything that was measured to this json file."""


def main(argv: Sequence[str]) -> int:
    options = tyro.cli(
        Bench,
        prog="diffuseq bench",
        description=f"{Bench.__doc__}\n\n{EXAMPLES}",
        args=list(argv),
    )
    run(options, ReportConsole(highlight=False))
    return 0


def run(options: Bench, console: Console) -> None:
    """Measure the parts, print each table as soon as it is there, and write the json file at the end."""
    from diffuseq.evaluation.speed import PARTS, measure
    from diffuseq.evaluation.speed.machine import describe_machine, machine_line
    from diffuseq.training.loop import make_accelerator

    parts = list(PARTS) if options.only is None else [part.strip() for part in options.only.split(",")]
    if options.out is not None:
        check_file(options.out, "give --out the name of a json file")
    size = options.size or ("small" if options.quick else "base")
    device = make_accelerator().device
    tables = measure(size, parts, device, quick=options.quick)
    machine = describe_machine(device)
    console.print(f"{machine_line(machine)}; size {size}", style="bold", soft_wrap=True)
    found: dict[str, Measured] = {}
    for part, table in tables:
        show(table, console)
        found[part] = table
    if options.out is not None:
        content = {
            "format": 1,
            "machine": machine,
            "size": size,
            "quick": options.quick,
            "parts": {part: table.to_dict() for part, table in found.items()},
        }
        write_text(options.out, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        console.print(f"Written: {shown(options.out)}", soft_wrap=True, markup=False)


def show(table: Measured, console: Console) -> None:
    """Print one table with its notes."""
    console.print()
    if table.rows:
        rows = tuple(tuple(map(Cell, row)) for row in table.rows)
        print_table(console, Table(table.columns, rows), table.title)
    else:
        console.print(table.title, style="bold")
    for note in table.notes:
        console.print(note, style="dim", soft_wrap=True, markup=False)
