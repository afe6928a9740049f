"""`diffuseq combine`: several systems' predictions to one's, and to pairs that a system can learn from."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from diffuseq.errors import InputError
from diffuseq.evaluation.combine import combine, write_pairs
from diffuseq.evaluation.predictions import (
    Predictions,
    other_references,
    read_predictions,
    write_predictions,
)
from diffuseq.files import check_file, check_outputs
from diffuseq.names import shown, word

EXAMPLES = """examples:
  diffuseq combine runs/ours runs/transformer --output runs/both/predictions.jsonl
  diffuseq combine runs/ours runs/transformer --pairs both/train.jsonl --best 3
  diffuseq train qqp --training.start-from runs/ours --data both     (with a valid.jsonl beside train.jsonl)"""


@dataclass(frozen=True)
class Combine:
    """Put the candidates of several systems together and choose among all of them by minimum Bayes risk."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Two or more systems' answers to the same sources: predictions.jsonl, folders that have one, or folders of
    published outputs."""
    output: Path | None = None
    """predictions.jsonl to write, for `diffuseq evaluate` and `diffuseq compare`."""
    pairs: Path | None = None
    """jsonl to write with the best candidates as targets, for `diffuseq train`: one system learns what all of
    them agree on."""
    best: int = 3
    """Different targets of a source in --pairs, at most."""
    source_weight: float = 0.0
    """What BLEU with the source costs a candidate: above 0 where a copy is no answer."""
    copies: bool = True
    """Whether the source itself may be chosen; never in --pairs."""


def main(argv: list[str]) -> int:
    """Parse the options, combine, write."""
    asked = tyro.cli(
        Combine, args=argv, prog="diffuseq combine", description=f"{Combine.__doc__}\n\n{EXAMPLES}"
    )
    if len(asked.runs) < 2:
        raise InputError("One system has nothing to be combined with; give two or more runs.")
    if asked.output is None and asked.pairs is None:
        raise InputError("Nothing would be written; give --output, --pairs, or both.")
    if asked.pairs is None and asked.best != Combine.best:
        raise InputError("--best does nothing without --pairs; give both, or none.")
    if asked.best < 1:
        raise InputError(f"--best is {asked.best}; give a number of at least 1.")
    written = [path for path in (asked.output, asked.pairs) if path is not None]
    for path in written:
        check_file(path)
    systems = [read_predictions(run) for run in asked.runs]
    read = [file for system in systems for file in system.files]
    check_outputs({"--output": asked.output, "--pairs": asked.pairs}, read)
    rows = list(combine(systems, source_weight=asked.source_weight, copies=asked.copies))
    if asked.output is not None:
        _tell_other_references(systems)
        count = write_predictions(asked.output, (row.prediction for row in rows))
        print(
            f"{count} predictions are in {shown(asked.output)}; "
            f"`diffuseq evaluate {word(asked.output)}` scores them."
        )
    if asked.pairs is not None:
        pairs, without = write_pairs(asked.pairs, rows, asked.best)
        print(f"{pairs} pairs of {len(rows)} sources are in {shown(asked.pairs)}.")
        if without:
            print(
                f"diffuseq: {without} sources have none: their candidates are empty or copies of them.",
                file=sys.stderr,
            )
    return 0


def _tell_other_references(systems: Sequence[Predictions]) -> None:
    """Say where the references that are written, the first system's, are not those of another."""
    first = systems[0]
    for other in systems[1:]:
        if differing := other_references(first, other):
            print(
                f"diffuseq: {shown(other.files[0])} has other references than {shown(first.files[0])} in "
                f"{differing:,} of {len(first.rows):,} rows; those of {shown(first.files[0])} are written.",
                file=sys.stderr,
            )
