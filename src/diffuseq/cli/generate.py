"""`diffuseq generate`: sources in, answers out, and the draft to watch on the way."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from diffuseq.data.pairs import BadRows, Question, read_questions
from diffuseq.errors import InputError
from diffuseq.evaluation.predictions import Prediction, write_predictions
from diffuseq.models import SHIPPED, shipped_model

if TYPE_CHECKING:
    from diffuseq.pipeline import Answer, DiffuSeqPipeline

_EXAMPLES = """\
examples:
  echo "How do I learn to play the guitar?" | diffuseq generate
  diffuseq generate runs/qqp --input data/qqp/valid.jsonl --output runs/qqp/predictions.jsonl --candidates 10
  diffuseq generate runs/qqp --watch --steps 20 --sampler ddim --seed 7
  diffuseq generate runs/qqp --template "What is [MASK] [MASK] way to learn Python?"
"""


@dataclasses.dataclass(frozen=True)
class Files:
    """What to read and where to write."""

    model: Annotated[str, tyro.conf.Positional] = SHIPPED
    """A model folder or a hub name; the model that comes with the package unless one is named."""
    input: str = "-"
    """jsonl (`src` or `source`, references are kept) or plain text, a source a line; - is standard input."""
    output: Path | None = None
    """predictions.jsonl to write; the chosen answers go to standard output otherwise, one a line."""
    watch: bool = False
    """Show the first source's text forming out of noise, step by step."""
    trace: Path | None = None
    """Write every step of every source to this jsonl; `diffuseq replay` shows it."""
    template: str | None = None
    """Words that every answer has, with [MASK] for a free token and [...] for any number of them."""
    prefix: str = ""
    """How every answer begins."""
    suffix: str = ""
    """How every answer ends."""
    skip_bad_rows: bool = False
    """Count rows that cannot be read and go on, instead of stopping at the first."""
    limit: int | None = None
    """Only the first so many sources."""
    device: str | None = None
    """cpu, cuda, cuda:1, …; a GPU where there is one."""


def main(argv: Sequence[str]) -> int:
    name = next(iter(argv), SHIPPED)
    name = SHIPPED if name.startswith("-") else name
    from diffuseq.checkpoint import find_model, load_config

    folder = find_model(shipped_model() if name == SHIPPED else name)
    files, settings = _parse(argv, load_config(folder).generation)
    from diffuseq.pipeline import DiffuSeqPipeline

    questions = _questions(files)
    pipe = DiffuSeqPipeline.from_pretrained(folder, files.device)
    settings = pipe.settings(**dataclasses.asdict(settings))
    if files.watch or files.trace is not None:
        answers = _watch(pipe, questions, settings, files)
    else:
        answers = _answer(pipe, questions, settings, _template(files))
    if files.output is not None:
        _write(files.output, questions, answers, settings)
    elif not files.watch:
        for answer in answers:
            print(answer.text)
    return 0


def _parse(argv: Sequence[str], generation: Any) -> tuple[Files, Any]:
    """The files, and the model's own generation settings with what the flags change."""
    flat: Any = tyro.conf.OmitArgPrefixes
    arguments: Any = dataclasses.make_dataclass(
        "Generate",
        [
            ("files", flat[Files]),
            ("settings", flat[type(generation)], dataclasses.field(default=generation)),
        ],
        frozen=True,
    )
    parsed = tyro.cli(
        flat[arguments],
        args=list(argv),
        prog="diffuseq generate",
        description="Generate text with a trained model, and watch it form.\n\n" + _EXAMPLES,
    )
    return parsed.files, parsed.settings


def _questions(files: Files) -> list[Question]:
    report = BadRows()
    if files.input == "-" and sys.stdin.isatty():
        print("Type a source a line; Ctrl-D ends.", file=sys.stderr)
    questions = []
    for question in read_questions(files.input, files.skip_bad_rows, report):
        questions.append(question)
        if files.limit is not None and len(questions) >= files.limit:
            break
    for line in report.lines():
        print(f"diffuseq: {line}", file=sys.stderr)
    if not questions:
        raise InputError(f"{files.input} holds no source; give one a line.")
    return questions


def _template(files: Files) -> str | None:
    from diffuseq.text.template import one_template

    return one_template(files.template, files.prefix, files.suffix)


def _answer(
    pipe: DiffuSeqPipeline, questions: Sequence[Question], settings: Any, template: str | None
) -> list[Answer]:
    """All answers, in batches."""
    from diffuseq.cli.progress import counting

    with counting("generating", len(questions)) as advance:
        return pipe.answer_all([question.source for question in questions], settings, advance, template)


def _watch(
    pipe: DiffuSeqPipeline, questions: Sequence[Question], settings: Any, files: Files
) -> list[Answer]:
    """All answers, one source after the other, with every step shown or traced or both."""
    from diffuseq.cli.watch import record, watch
    from diffuseq.files import write_text

    trace, template = files.trace, _template(files)
    if trace is not None:
        write_text(trace, "")
    if files.watch or trace is None:
        return [watch(pipe, question.source, settings, trace, template=template) for question in questions]
    return [record(pipe, question.source, settings, trace, template) for question in questions]


def _write(path: Path, questions: Sequence[Question], answers: Sequence[Answer], settings: Any) -> None:
    rows = (
        Prediction(q.source, q.references, tuple(a.candidates), a.text, a.seconds, a.forwards)
        for q, a in zip(questions, answers, strict=True)
    )
    count = write_predictions(path, rows)
    settings_file = path.with_suffix(".settings.json")
    settings_file.write_text(json.dumps(dataclasses.asdict(settings), indent=2) + "\n")
    print(f"{count} predictions are in {path}; `diffuseq evaluate {path}` scores them.", file=sys.stderr)
