"""Every option of every verb with values that nobody meant: status 0, or 2 with a message and no traceback.

The options are those of the dataclasses that the verbs are parsed into, so that a new option is fuzzed too.
Each verb has a command that works and costs little; a case changes up to three of its options.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import json
import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import hostile
import matplotlib.font_manager  # noqa: F401  (when it is first imported it runs a command, fc-list)
from targets import PAIRS, Target, model_files, published_files, put

from diffuseq.cli import main
from diffuseq.errors import InputError

COMMANDS: dict[str, Target] = {}
Options = dict[str, list[str]]

TRACE = [
    {"source": "q", "settings": {}},
    {"index": 0, "total": 1, "forwards": 1, "seconds": 0.1, "rows": [[["a", 0.5, "new"]]]},
]
PREDICTIONS = [
    {
        "source": row["src"],
        "references": [row["trg"]],
        "candidates": ["a", row["src"]],
        "seconds": 0.1,
        "forwards": 2,
    }
    for row in PAIRS
]


@dataclasses.dataclass(frozen=True)
class Verb:
    """A verb with a command that works: positional arguments, options, and the names of all options.

    costly: options that are work where their value is right and large, so that they get no such values.
    """

    positional: list[str]
    options: Options
    names: Callable[[], list[str]]
    share: int
    costly: frozenset[str] = frozenset()


def option_names(cls: type, prefix: str = "", flat: tuple[str, ...] = ()) -> list[str]:
    """The options of a dataclass as tyro names them; those of the parts in `flat` have no prefix."""
    names = []
    for field in dataclasses.fields(cls):
        part = field.default if dataclasses.is_dataclass(field.default) else None
        if part is None and field.default_factory is not dataclasses.MISSING:
            made = field.default_factory()
            part = made if dataclasses.is_dataclass(made) else None
        name = field.name.replace("_", "-")
        if part is not None:
            names += option_names(type(part), prefix if field.name in flat else f"{prefix}{name}.", flat)
        else:
            names.append(f"--{prefix}{name}")
    return names


def _names_of(module: str, cls: str, flat: tuple[str, ...] = ()) -> Callable[[], list[str]]:
    def names() -> list[str]:
        from importlib import import_module

        return option_names(getattr(import_module(module), cls), flat=flat)

    return names


def _names_of_generate() -> list[str]:
    from diffuseq.cli.generate import Files
    from diffuseq.config import DiffusionGeneration

    return option_names(Files) + option_names(DiffusionGeneration)


def _names_of_train() -> list[str]:
    from diffuseq.cli.train import _options
    from diffuseq.recipes import recipe

    return option_names(_options("tiny", recipe("tiny")))


VERBS = {
    "generate": Verb(["model"], {"--input": ["in.txt"], "--candidates": ["2"]}, _names_of_generate, 4),
    "train": Verb(
        ["model"],
        {
            "--data": ["data"],
            "--out": ["trained"],
            "--training.steps": ["1"],
            "--training.batch-size": ["2"],
            "--training.evaluate-rows": ["1"],
        },
        _names_of_train,
        4,
        frozenset({"--training.minutes"}),
    ),
    "evaluate": Verb(
        ["predictions.jsonl"],
        {"--bootstrap": ["10"], "--metrics": ["bleu", "exact_match"]},
        _names_of("diffuseq.cli.evaluate", "Evaluate"),
        2,
    ),
    "compare": Verb(
        ["a=predictions.jsonl", "b=predictions.jsonl"],
        {"--bootstrap": ["10"], "--metrics": ["bleu"]},
        _names_of("diffuseq.cli.compare", "Compare"),
        2,
    ),
    "combine": Verb(
        ["predictions.jsonl", "other.jsonl"],
        {"--output": ["combined.jsonl"], "--pairs": ["pairs.jsonl"], "--best": ["2"]},
        _names_of("diffuseq.cli.combine", "Combine"),
        2,
    ),
    "ensemble": Verb(
        ["model", "model"],
        {"--out": ["both"], "--overwrite": []},
        _names_of("diffuseq.cli.ensemble", "EnsembleOptions"),
        2,
    ),
    "prepare": Verb(
        ["columns", "data/train.jsonl"],
        {"--out": ["prepared"], "--source-column": ["src"], "--target-column": ["trg"]},
        _names_of("diffuseq.cli.prepare", "Prepare", flat=("options",)),
        4,
    ),
    "export": Verb(["model"], {}, _names_of("diffuseq.cli.export", "Export"), 1),
    "import": Verb(
        ["published"], {"--out": ["imported"]}, _names_of("diffuseq.cli.import_model", "Import"), 1
    ),
    "replay": Verb(["trace.jsonl"], {}, _names_of("diffuseq.cli.replay", "Replay"), 1),
    "serve": Verb(["model"], {"--port": ["0"]}, _names_of("diffuseq.cli.serve", "Serve"), 1),
    "analyse": Verb(
        ["model"],
        {"--data": ["data/valid.jsonl"], "--rows": ["1"], "--only": ["nothing"]},
        _names_of("diffuseq.cli.analyse", "Analyse"),
        1,
    ),
    "bench": Verb(
        [], {"--size": ["tiny"], "--only": ["nothing"]}, _names_of("diffuseq.cli.bench", "Bench"), 1
    ),
    "demo": Verb(
        [],
        {"--out": ["model"], "--reuse": [], "--questions": ["1"], "--watched": ["0"]},
        _names_of("diffuseq.cli.demo", "Demo"),
        1,
        frozenset({"--questions", "--watched", "--reuse", "--out"}),
    ),
}


def _case(verb: str) -> Callable[[random.Random, Path], None]:
    def case(draw: random.Random, folder: Path) -> None:
        write_files(folder)
        argv = [verb, *arguments(draw, VERBS[verb])]
        with _inside(folder):
            run(
                argv,
                draw.choice((b"", b"how do i learn?\n", hostile.text(draw).encode("utf-8", "surrogatepass"))),
            )

    case.__doc__ = f"The options of `diffuseq {verb}`."
    return case


for _verb in VERBS:
    COMMANDS[f"cli_{_verb}"] = Target(_case(_verb), VERBS[_verb].share, names_outputs=True)


@functools.cache
def files() -> dict[str, dict[str, bytes]]:
    """The files that the working commands name, by folder."""

    def lines(rows: list[Any]) -> bytes:
        return "".join(json.dumps(row) + "\n" for row in rows).encode()

    return {
        "model": model_files(),
        "published": published_files(),
        "data": {"train.jsonl": lines(PAIRS), "valid.jsonl": lines(PAIRS[:2])},
        ".": {
            "in.txt": b"how do i learn?\nwhy?\n",
            "predictions.jsonl": lines(PREDICTIONS),
            "other.jsonl": lines(PREDICTIONS),
            "trace.jsonl": lines(TRACE),
        },
    }


def write_files(folder: Path) -> None:
    for name, content in files().items():
        put(folder / name, content)


def arguments(draw: random.Random, verb: Verb) -> list[str]:
    """The working command with up to three options changed, and sometimes something else altogether."""
    options, positional = dict(verb.options), list(verb.positional)
    names = verb.names()
    for name in draw.sample(names, min(len(names), draw.randint(0, 3))):
        if name not in verb.costly:
            options[name] = [option_value(draw) for _ in range(draw.choice((0, 1, 1, 1, 1, 2)))]
    if positional and draw.random() < 0.15:
        positional[draw.randrange(len(positional))] = hostile.text(draw)
    argv = positional + [part for name, values in options.items() for part in (name, *values)]
    if draw.random() < 0.05:
        argv.insert(draw.randint(0, len(argv)), hostile.text(draw))
    return [os.fsdecode(os.fsencode(part)) for part in argv if _is_passable(part)]


def option_value(draw: random.Random) -> str:
    if draw.random() < 0.4:
        return hostile.text(draw)
    number = draw.choice((*hostile.NUMBERS, 0, 1, 2, 3))
    return draw.choice(
        (str(number), repr(number), f"{number:e}" if isinstance(number, float) else str(number))
    )


def _is_passable(part: str) -> bool:
    """Whether the operating system lets it be an argument: no null bytes, nothing that is no file name."""
    try:
        return b"\0" not in os.fsencode(part)
    except UnicodeEncodeError:
        return False


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def run(argv: list[str], stdin: bytes) -> None:
    """Run a command in this process. Status 2 is an `InputError` here; any other one, or a
    message that is none, an `AssertionError`.
    """
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace", write_through=True) for _ in "oe")
    given = io.TextIOWrapper(io.BytesIO(stdin), "utf-8", "surrogateescape")
    status: Any = 0
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(sys, "stdin", given),
        mock.patch("diffuseq.web.server.run"),  # a server that starts would serve for ever
        mock.patch("torch.onnx.export"),  # which takes its time
    ):
        try:
            main(argv)
        except SystemExit as leaving:
            status = leaving.code or 0
    told = err.buffer.getvalue().decode("utf-8", "replace")  # type: ignore[attr-defined]
    assert status in (0, 2), f"status {status} of {argv}: {told[-2000:]}"
    assert "Traceback" not in told, f"{argv}: {told[-2000:]}"
    own = [line for line in told.split("\n") if line.startswith("diffuseq: ")]
    said = out.buffer.getvalue() or told.strip()  # type: ignore[attr-defined]
    assert status == 0 or said, f"{argv} left with {status} and no word"
    assert status == 0 or not own or told.rstrip("\n").endswith(own[-1]), (
        f"{argv}: more than a line, {told!r}"
    )
    if status == 2:
        raise InputError("refused, as told above")
