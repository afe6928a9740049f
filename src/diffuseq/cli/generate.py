"""`diffuseq generate`: sources in, answers out, and the draft to watch on the way."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from diffuseq.cli.shards import Team
from diffuseq.config import Precision, Runtime
from diffuseq.data.pairs import BadRows, Question, read_questions
from diffuseq.errors import InputError
from diffuseq.evaluation.predictions import Prediction, write_predictions
from diffuseq.files import check_file, check_outputs, hash_file, write_text
from diffuseq.models import SHIPPED
from diffuseq.names import shown, visible, word

if TYPE_CHECKING:
    from diffuseq.answers import Answer
    from diffuseq.pipeline import DiffuSeqPipeline

_EXAMPLES = """\
examples:
  echo "How do I learn to play the guitar?" | diffuseq generate
  diffuseq generate runs/qqp --input data/qqp/valid.jsonl --output runs/qqp/predictions.jsonl --candidates 10
  diffuseq generate runs/qqp --watch --steps 20 --sampler settle --seed 7
  diffuseq generate runs/qqp --template "What is [MASK] [MASK] way to learn Python?"
"""


@dataclasses.dataclass(frozen=True)
class Files:
    """What to read and where to write."""

    model: Annotated[str, tyro.conf.Positional] = SHIPPED
    """A model folder, a hub name, or a model that comes with the package: qqp (Quora questions), qqp-large,
    qqp-pair (both together: better answers, in twice the time), qqp-transformer (the same by an
    autoregressive system), qqp-three (all of them: the best, in three times the time) or grammar (the built-in
    corpus)."""
    input: str = "-"
    """jsonl (`src` or `source`, references are kept) or plain text, a source a line; - is standard input."""
    output: Path | None = None
    """predictions.jsonl to write; the chosen answers go to standard output otherwise, one a line."""
    watch: bool = False
    """Show the text of every source forming out of noise, step by step."""
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
    runtime: Runtime = "torch"
    """onnx computes with ONNX Runtime on the CPU; `diffuseq export` makes a model ready for it."""
    precision: Precision = "auto"
    """bf16 where it is faster and the model is large (auto), never (fp32), or always."""


def main(argv: Sequence[str]) -> int:
    name = next(iter(argv), SHIPPED)
    name = SHIPPED if name.startswith("-") else name
    from diffuseq.checkpoint import find_model, load_config
    from diffuseq.checks import check_changes

    folder = find_model(name)
    config = load_config(folder)
    files, settings = _parse(argv, config.generation)
    _check(files)
    check_changes(config.system, config.generation, settings)
    from diffuseq.pipeline import DiffuSeqPipeline

    shown = files.watch or files.trace is not None
    team = Team(files.device)
    team.check(files.input, shown)
    questions = _questions(files, team)
    pipe = DiffuSeqPipeline.from_pretrained(folder, team.device, files.runtime, files.precision)
    settings = pipe.settings(**dataclasses.asdict(settings))
    if files.output is not None and not shown:
        _answer_into(files.output, pipe, questions, settings, _template(files), folder, team)
        return 0
    if shown:
        answers = _watch(pipe, questions, settings, files)
    else:
        answers = _answer(pipe, questions, settings, _template(files), team)
    if files.output is not None:
        _write(files.output, map(Prediction.of, questions, answers), settings)
    elif not files.watch and team.is_main:
        _print(answers)
    return 0


def _print(answers: Iterable[Answer]) -> None:
    """The chosen texts, one a line: as they are, but for what a terminal would obey."""
    for each in answers:
        print(visible(each.text) if sys.stdout.isatty() else each.text)


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


def _check(files: Files) -> None:
    """Raise `InputError` for what would be noticed only when all answers are there."""
    if files.limit is not None and files.limit < 1:
        raise InputError(f"--limit is {files.limit}; give a number of at least 1, or none for all sources.")
    if files.output is not None:
        instead = "name a plain file (without --output the answers go to standard output)"
        check_file(files.output, instead)
        check_file(_settings_of(files.output), f"choose another --output than {files.output}")
    if files.trace is not None:
        check_file(files.trace, "give --trace the name of a plain file")
    check_outputs({"--output": files.output, "--trace": files.trace}, [files.input])


def _questions(files: Files, team: Team) -> list[Question]:
    report = BadRows()
    if files.input == "-" and sys.stdin.isatty():
        print("Type a source a line; Ctrl-D ends.", file=sys.stderr)
    questions = []
    for question in read_questions(files.input, files.skip_bad_rows, report):
        questions.append(question)
        if files.limit is not None and len(questions) >= files.limit:
            break
    for line in report.lines() if team.is_main else ():
        print(f"diffuseq: {line}", file=sys.stderr)
    if not questions:
        read = "Standard input" if files.input == "-" else files.input
        raise InputError(f"{read} holds no source; give one a line, or a file of them with --input.")
    return questions


def _template(files: Files) -> str | None:
    from diffuseq.text.template import one_template

    return one_template(files.template, files.prefix, files.suffix)


def _answer(
    pipe: DiffuSeqPipeline, questions: Sequence[Question], settings: Any, template: str | None, team: Team
) -> list[Answer]:
    """All answers, in batches."""
    from diffuseq.cli.progress import counting

    sources = [question.source for question in questions]
    answers: dict[int, Answer] = {}
    with counting("generating", len(questions)) as advance:
        for batch in pipe.answer_batches(sources, settings, template, turn=(team.rank, team.count)):
            advance(len(batch) * team.count)
            answers |= batch
    answers = team.joined(answers)
    return [answers[row] for row in range(len(questions))]


def _answer_into(
    output: Path,
    pipe: DiffuSeqPipeline,
    questions: Sequence[Question],
    settings: Any,
    template: str | None,
    model: Path,
    team: Team,
) -> None:
    """All answers, kept batch by batch: after a kill the same command goes on where it was."""
    from diffuseq.cli.progress import counting

    sources = [question.source for question in questions]
    identity = _identity(model, settings, template, questions)
    with team.unfinished(output, identity) as kept, counting("generating", len(questions)) as advance:
        done = team.told(set(kept.done))
        if done and team.is_main:
            print(f"Going on after {len(done)} of {len(questions)} answers.", file=sys.stderr)
            advance(len(done))
        for batch in pipe.answer_batches(sources, settings, template, done, (team.rank, team.count)):
            advance(len(batch.keys() - done) * team.count)
            kept.add({row: Prediction.of(questions[row], answer) for row, answer in batch.items()})
        everything = team.joined(kept.done)
        if team.is_main:
            _write(output, (everything[row] for row in range(len(questions))), settings)


def _identity(model: Path, settings: Any, template: str | None, questions: Sequence[Question]) -> str:
    """A hash of all that the answers depend on."""
    files = sorted({*model.glob("*.safetensors"), model / "config.json", *model.glob("tokenizer*.json")})
    asked = [dataclasses.astuple(question) for question in questions]
    values = [[hash_file(path) for path in files], dataclasses.asdict(settings), template, asked]
    return sha256(json.dumps(values).encode()).hexdigest()


def _watch(
    pipe: DiffuSeqPipeline, questions: Sequence[Question], settings: Any, files: Files
) -> list[Answer]:
    """All answers, one source after the other, with every step shown or traced or both."""
    from diffuseq.cli.watch import record, watch

    trace, template = files.trace, _template(files)
    if trace is not None:
        write_text(trace, "")
    if files.watch or trace is None:
        return [watch(pipe, question.source, settings, trace, template=template) for question in questions]
    return [record(pipe, question.source, settings, trace, template) for question in questions]


def _write(path: Path, rows: Iterable[Prediction], settings: Any) -> None:
    count = write_predictions(path, rows)
    write_text(_settings_of(path), json.dumps(dataclasses.asdict(settings), indent=2) + "\n")
    print(
        f"{count} predictions are in {shown(path)}; `diffuseq evaluate {word(path)}` scores them.",
        file=sys.stderr,
    )


def _settings_of(output: Path) -> Path:
    """The settings that the answers were made with, beside them."""
    return output.with_suffix(".settings.json")
