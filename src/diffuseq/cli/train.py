"""`diffuseq train RECIPE`: the recipe's whole config as typed options, and the run told in the terminal."""

from __future__ import annotations

import dataclasses
import sys
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from diffuseq.cli.consoles import ReportConsole, redraws
from diffuseq.cli.view import visible
from diffuseq.config import Config
from diffuseq.errors import InputError
from diffuseq.training.tracking import Event, duration

_START_FROM = ("--training.start-from", "--training.start_from")
_BUDGETS = ("steps", "epochs", "minutes")
LONGEST_SAMPLE = 300
"""Characters of a text that are shown while training."""
EXAMPLES = """examples:
  diffuseq train tiny                                  the built-in corpus, minutes on a laptop
  diffuseq train qqp --data data/qqp --out models/qqp  your pairs: train.jsonl and valid.jsonl
  diffuseq train qqp --data data/qqp --training.minutes 30 --training.learning-rate 5e-4
  diffuseq train qqp --data data/qqp --resume          go on after Ctrl-C, a kill or a crash
  diffuseq train qqp --training.start-from qqp --data mine.jsonl --out runs/mine    go on from a model
  torchrun --nproc-per-node 2 -m diffuseq train qqp --data data/qqp"""


def main(argv: list[str]) -> int:
    """Train; the status is 0, or 130 or 143 when a signal ended it after saving."""
    from diffuseq.recipes import RECIPES

    if not argv or argv[0] in ("-h", "--help"):
        print(_overview(sorted(RECIPES)))
        return 0 if argv else 2
    if argv[0].startswith("-"):
        raise InputError(
            f"The recipe comes first, before {argv[0]}; choose one of: {', '.join(sorted(RECIPES))}."
        )
    options = parse(argv[0], argv[1:])

    from diffuseq.training.run import train
    from diffuseq.training.signals import TrainingStopped

    config = Config(options.system, options.text, options.training, options.generation)
    try:
        with Reporter() as reporter:
            train(
                config,
                options.data,
                options.out,
                resume=options.resume,
                overwrite=options.overwrite,
                skip_bad_rows=options.skip_bad_rows,
                on_event=reporter,
            )
    except TrainingStopped as stopped:
        print(f"diffuseq: {stopped}", file=sys.stderr)
        return stopped.code
    return 0


def parse(name: str, argv: list[str]) -> Any:
    """The options of a recipe (or of a model folder, whose config is then the default)."""
    from diffuseq.checks import check_changes
    from diffuseq.recipes import RECIPES, recipe

    if (Path(name) / "config.json").is_file():
        from diffuseq.checkpoint import load_config

        config = load_config(Path(name))
    elif name not in RECIPES and (Path(name).exists() or len(Path(name).parts) > 1):
        raise InputError(
            f"{name} is no model folder (there is no {Path(name) / 'config.json'}), nor the name of a recipe; give "
            "either, `diffuseq train` lists the recipes."
        )
    else:
        config = recipe(name)
    model = _start_from(argv)
    if model is not None:
        from diffuseq.training.start import starting_from

        config = starting_from(config, model)
    argv = [*argv, *_dropped_budgets(argv)]
    options: Any = tyro.cli(
        _options(name, config),
        prog=f"diffuseq train {name}",
        description=f"Train the recipe {name}. Every option below shows its default.\n\n{EXAMPLES}",
        args=argv,
        config=(tyro.conf.AvoidSubcommands,),
    )
    check_changes(options.system, config.generation, options.generation)
    if options.data is None:
        raise InputError(
            f"The recipe {name!r} needs data; give --data with a folder of train.jsonl and valid.jsonl, "
            'a jsonl file, or "grammar" for the built-in corpus.'
        )
    return options


def _dropped_budgets(argv: list[str]) -> list[str]:
    """A recipe's minutes must not silently win over steps that are asked for, nor its epochs over minutes."""
    asked = [name for name in _BUDGETS if _gives(argv, name)]
    return [
        part
        for name in _BUDGETS[1:]
        if asked and name not in asked
        for part in (f"--training.{name}", "None")
    ]


def _gives(argv: list[str], name: str) -> bool:
    return any(argument.split("=")[0] == f"--training.{name}" for argument in argv)


def _start_from(argv: list[str]) -> str | None:
    """The model that --training.start-from names: its settings are the defaults then."""
    given = None
    for argument, after in zip_longest(argv, argv[1:]):
        name, equals, value = argument.partition("=")
        if name in _START_FROM:
            given = value if equals else after
    return given


def _options(name: str, config: Config) -> type:
    """A dataclass with the options of the command beside the recipe's own settings, for tyro."""
    data = "grammar" if name.startswith("tiny") else None
    help_of = tyro.conf.arg
    plain: list[tuple[str, Any, Any]] = [
        (
            "data",
            Annotated[
                str | None,
                help_of(
                    help="Folder with train.jsonl and valid.jsonl, one jsonl file, or "
                    '"grammar", the built-in corpus.'
                ),
            ],
            data,
        ),
        (
            "out",
            Annotated[Path, help_of(help="Folder of the trained model.")],
            Path("runs") / Path(name).name,
        ),
        ("resume", Annotated[bool, help_of(help="Go on with the run in --out.")], False),
        ("overwrite", Annotated[bool, help_of(help="Delete an earlier run in --out first.")], False),
        (
            "skip_bad_rows",
            Annotated[bool, help_of(help="Count rows that cannot be used, and continue.")],
            False,
        ),
    ]
    parts = [(part, type(value), value) for part, value in vars(config).items()]
    fields = [(n, kind, dataclasses.field(default=value)) for n, kind, value in plain + parts]
    return dataclasses.make_dataclass("Options", fields, frozen=True)


class Reporter:
    """Tells the events of a run: a progress bar in a terminal, plain lines elsewhere."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or ReportConsole(stderr=True, highlight=False)
        self.progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            disable=not redraws(self.console),
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Reporter:
        self.progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.progress.stop()

    def __call__(self, event: Event) -> None:
        getattr(self, f"_{event.kind}")(event.text, event.values)

    def _say(self, text: str, style: str | None = None) -> None:
        self.console.print(escape(text), style=style, soft_wrap=True)

    def _message(self, text: str, values: dict[str, Any]) -> None:
        self._say(text)

    def _warning(self, text: str, values: dict[str, Any]) -> None:
        self._say(f"warning: {text}", "yellow")

    def _progress(self, text: str, values: dict[str, Any]) -> None:
        self._show(text, None, f"{values['pairs']:,} pairs")

    def _start(self, text: str, values: dict[str, Any]) -> None:
        at = f", from step {values['resumed_at']:,}" if values["resumed_at"] else ""
        precision = "bf16" if values["bf16"] else "fp32"
        self._say(
            f"training {values['parameters']:,} parameters on {values['pairs']:,} pairs "
            f"({values['processes']} × {values['device']}, {precision}{at})"
        )

    def _step(self, text: str, values: dict[str, Any]) -> None:
        self._show("training", values["done"], None)

    def _log(self, text: str, values: dict[str, Any]) -> None:
        note = f"loss {values['loss']:.4f}, {values['pairs_per_second']:,.0f} pairs/s"
        self._show("training", values["done"], note)
        if not redraws(self.console):
            left = values["seconds"] * (1 / max(values["done"], 1e-9) - 1)
            self._say(f"step {values['step']:,}: {note}, {duration(left)} left")

    def _evaluation(self, text: str, values: dict[str, Any]) -> None:
        numbers = ", ".join(f"{k} {v:.4f}" for k, v in values.items() if isinstance(v, float))
        self._say(f"step {values['step']:,}, validation: {numbers}", "bold")
        for sample in values["samples"]:
            self._say(f"  {_beginning(sample['source'])}\n    → {_beginning(sample['answer'])}")

    def _save(self, text: str, values: dict[str, Any]) -> None:
        self._show("training", None, None)

    def _end(self, text: str, values: dict[str, Any]) -> None:
        seconds = duration(values["seconds"])
        self._say(f"trained {values['steps']:,} steps, {values['pairs_seen']:,} pairs, in {seconds}")

    def _show(self, what: str, done: float | None, note: str | None) -> None:
        """Move the bar; None leaves what was there. A bar without a share pulses."""
        if self._task is None:
            self._task = self.progress.add_task(what, total=None, note="")
        changes: dict[str, Any] = {"description": what}
        if done is not None:
            changes |= {"completed": done, "total": 1.0}
        if note is not None:
            changes["note"] = note
        self.progress.update(self._task, **changes)


def _beginning(text: str) -> str:
    """As much of a text as a glance takes in; a document would fill the terminal."""
    return visible(text if len(text) <= LONGEST_SAMPLE else f"{text[: LONGEST_SAMPLE - 1]}…")


def _overview(recipes: list[str]) -> str:
    return "\n".join(
        [
            "usage: diffuseq train RECIPE [OPTIONS]",
            "",
            f"Train a recipe on pairs of text. Recipes: {', '.join(recipes)}.",
            "`diffuseq train RECIPE --help` shows every setting with its default.",
            "",
            EXAMPLES,
        ]
    )
