"""The command line: `diffuseq VERB …`. Each verb is a module beside this file, loaded when it is called."""

from __future__ import annotations

import errno
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any, NoReturn

from diffuseq.cli import streams
from diffuseq.errors import InputError, unknown_name
from diffuseq.memory import prepare_memory
from diffuseq.names import visible

VERBS: dict[str, tuple[str, str]] = {
    "train": ("diffuseq.cli.train", "Train a recipe on pairs of text."),
    "generate": ("diffuseq.cli.generate", "Generate text with a trained model, and watch it form."),
    "serve": ("diffuseq.cli.serve", "Serve a model: a page to watch texts form, and an API."),
    "replay": ("diffuseq.cli.replay", "Step through a trace that generate --trace wrote."),
    "prepare": (
        "diffuseq.cli.prepare",
        "Turn a raw release or any csv, tsv, parquet or hub data set into jsonl.",
    ),
    "export": ("diffuseq.cli.export", "Write a model for ONNX Runtime, which is faster on a CPU."),
    "import": ("diffuseq.cli.import_model", "Read a checkpoint folder of the published code into ours."),
    "evaluate": ("diffuseq.cli.evaluate", "Score predictions with every metric of the field."),
    "compare": ("diffuseq.cli.compare", "Lay several systems side by side, as the paper's tables do."),
    "combine": (
        "diffuseq.cli.combine",
        "Choose among the answers of several systems, as if they were one's.",
    ),
    "ensemble": (
        "diffuseq.cli.ensemble",
        "Make one model of several, which draws every word from all of them.",
    ),
    "analyse": (
        "diffuseq.cli.analyse",
        "Draw quality against diversity, steps and speed of trained models.",
    ),
    "bench": ("diffuseq.cli.bench", "Measure speed against the published system, GPT-2 and the machine."),
    "demo": ("diffuseq.cli.demo", "Train on the built-in corpus, then watch it answer held-out questions."),
}

_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
"""What a standard stream that cannot be written to says."""


def main(argv: list[str] | None = None) -> None:
    """Entry point. Leaves with 0, 2 (the user can mend it: one sentence says how), 130 (Ctrl-C) or 1."""
    argv = sys.argv[1:] if argv is None else argv
    streams.prepare()
    try:
        status = _run(argv)
        streams.flush()
    except InputError as error:
        _refuse(str(error))
    except KeyboardInterrupt:
        _leave(130, "interrupted.")
    except BrokenPipeError:
        _leave(0)
    except OSError as error:
        if error.filename is not None:
            _refuse(f"{error.filename} cannot be used ({error.strerror}); give another file or folder.")
        if error.errno not in _UNWRITABLE:
            raise
        _refuse(f"The output cannot be written ({error.strerror}); free some space, or send it elsewhere.")
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        _refuse("There is not enough memory for this; give smaller sizes, lengths or batches.")
    sys.exit(status)


def _run(argv: list[str]) -> Any:
    """The status of a command, also of one that tyro ends (--help, an option that there is not)."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if argv[0] in ("-V", "--version"):
        from diffuseq import __version__

        print(__version__)
        return 0
    if argv[0] not in VERBS:
        raise unknown_name("command", argv[0], VERBS)
    prepare_memory()
    from diffuseq.cli.arguments import common_rules

    try:
        with common_rules(), _own_warnings_in_a_line():
            return import_module(VERBS[argv[0]][0]).main(argv[1:])
    except SystemExit as leaving:
        return leaving.code


@contextmanager
def _own_warnings_in_a_line() -> Iterator[None]:
    """Tell what our own code warns of as the rest of the command line speaks, and nothing twice."""
    shown, told = warnings.showwarning, set()

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if not category.__module__.startswith("diffuseq."):
            shown(message, category, *place, **more)
        elif str(message) not in told:
            told.add(str(message))
            print(f"diffuseq: {visible(str(message))}", file=sys.stderr)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = shown


def _refuse(message: str) -> NoReturn:
    """Say in one line what is wrong, whatever characters a file name in it has, and leave with 2."""
    _leave(2, "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message))


def _leave(status: int, message: str = "") -> NoReturn:
    """Say a last line, where there is one and it can be written, and leave."""
    if message:
        with suppress(OSError):
            print(f"diffuseq: {message}", file=sys.stderr)
    streams.flush_or_drop()
    sys.exit(status)


def _is_out_of_memory(error: BaseException) -> bool:
    """torch has an error of its own for GPUs, and a plain one with a message for the CPU."""
    words = (
        "not enough memory",
        "can't allocate memory",
        "out of memory",
        "Storage size calculation overflowed",
    )
    return isinstance(error, MemoryError) or any(word in str(error) for word in words)


def _overview() -> str:
    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {what}" for verb, (_, what) in VERBS.items()]
    return "\n".join(
        [
            "usage: diffuseq COMMAND [OPTIONS]",
            "",
            "Sequence-to-sequence text generation with diffusion.",
            "",
            *lines,
            "",
            "`diffuseq COMMAND --help` shows the options with their defaults and examples,",
            "`diffuseq --version` the version.",
        ]
    )
