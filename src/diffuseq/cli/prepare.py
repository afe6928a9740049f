"""`diffuseq prepare`: a raw release, or any table with two columns of text, to train/valid/test.jsonl."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.markup import escape
from rich.status import Status

from diffuseq.cli.consoles import ReportConsole
from diffuseq.data.leaks import find_leaks
from diffuseq.data.reading import Account, ReadOptions
from diffuseq.data.tasks import prepare
from diffuseq.names import shown

EXAMPLES = """examples:
  diffuseq prepare qqp quora_duplicate_questions.tsv --out data/qqp
  diffuseq prepare wiki-auto wiki-auto/ACL2020 --out data/wiki-auto
  diffuseq prepare quasar-t quasar-t/ --out data/quasar-t
  diffuseq prepare commonsense-conversation ccm/ --out data/dialogue
  diffuseq prepare columns pairs.csv --source-column question --target-column answer --out data/mine
  diffuseq prepare columns owner/name --source-column text.de --target-column text.en --out data/de-en"""

TaskName = Literal["qqp", "quasar-t", "wiki-auto", "commonsense-conversation", "dialogue", "columns"]


@dataclass(frozen=True)
class Prepare:
    """Turn raw data into train.jsonl, valid.jsonl and test.jsonl, with a manifest beside them."""

    task: Annotated[TaskName, tyro.conf.Positional]
    """The release (dialogue: DailyDialog, or a conversation a line with __eou__ after every utterance), or columns
    for any csv, tsv, jsonl, parquet or hub data set."""
    raw: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Files or folders of the release; for `columns` also a name on the hub (owner/name[:config])."""
    out: Path
    """Folder to write the splits into."""
    overwrite: bool = False
    """Replace splits that are already there."""
    skip_bad_rows: bool = False
    """Count rows that cannot be used and continue, instead of stopping at the first."""
    options: Annotated[ReadOptions, tyro.conf.arg(name="")] = field(default_factory=ReadOptions)


def main(argv: list[str]) -> int:
    """Parse the options and prepare."""
    arguments = tyro.cli(
        Prepare, args=argv, prog="diffuseq prepare", description=f"{Prepare.__doc__}\n\n{EXAMPLES}"
    )
    return run(arguments)


def run(arguments: Prepare) -> int:
    """Write the splits, then print their counts, what was skipped or left out, and leaks between splits."""
    account = Account(arguments.skip_bad_rows)
    told = ReportConsole(stderr=True, highlight=False)
    with Status(f"preparing {arguments.task}", console=told) as status:
        manifest = prepare(
            arguments.task,
            arguments.raw,
            arguments.out,
            arguments.options,
            overwrite=arguments.overwrite,
            account=account,
            progress=lambda pairs: status.update(f"preparing {arguments.task}: {pairs:,} pairs"),
        )
        status.update("comparing the splits")
        leaks = find_leaks(arguments.out)
    for split, pairs in manifest.counts.items():
        print(f"{shown(arguments.out / f'{split}.jsonl')}: {pairs:,} pairs")
    for reason, rows in manifest.left_out.items():
        print(f"left out {rows:,}: {reason}")
    for line in [*account.bad.lines(), *filter(None, [manifest.warning()])]:
        told.print(f"[yellow]warning:[/yellow] {escape(line)}", soft_wrap=True)
    for leak in leaks:
        print(f"{leak.known_sources:,} of {leak.pairs:,} {leak.split} sources also stand in the training set")
        if warning := leak.warning():
            told.print(f"[yellow]warning:[/yellow] {escape(warning)}", soft_wrap=True)
    return 0
