"""Raw releases to train.jsonl, valid.jsonl and test.jsonl, with a manifest that says where they came from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from diffuseq.data.pairs import SPLITS, Pair
from diffuseq.data.reading import Account, Reader, ReadOptions, Rows, refuse_idle
from diffuseq.data.releases import (
    read_commonsense_conversation,
    read_dialogue,
    read_qqp,
    read_quasar_t,
    read_wiki_auto,
)
from diffuseq.data.tables import FILE_SUFFIXES, read_columns
from diffuseq.errors import InputError, unknown_name
from diffuseq.files import atomic_file, check_outputs, hash_file, write_text
from diffuseq.names import as_path, refuse_alone, refuse_missing_path

TASKS: dict[str, Reader] = {
    "qqp": read_qqp,
    "quasar-t": read_quasar_t,
    "wiki-auto": read_wiki_auto,
    "commonsense-conversation": read_commonsense_conversation,
    "dialogue": read_dialogue,
    "columns": read_columns,
}
SPLIT_BY_SOURCE = ("columns", "dialogue")
"""Tasks that hold out a share of the sources where their data have no splits."""
_LISTS = ("valid_files", "test_files", "alignments")
"""Options that are several names."""
MANIFEST = "manifest.json"
PROGRESS_ROWS = 10_000


@dataclass(frozen=True)
class Manifest:
    """What was written, and from what: `manifest.json` beside the splits."""

    task: str
    counts: dict[str, int]
    """Pairs of each split."""
    skipped: dict[str, int]
    """Bad rows by reason."""
    left_out: dict[str, int]
    """Rows that the task leaves out on purpose, by reason."""
    sources: list[dict[str, Any]]
    """Name, bytes and SHA-256 of every raw file."""
    files: dict[str, str]
    """SHA-256 of every file written."""
    options: dict[str, Any]

    def warning(self) -> str | None:
        """One sentence for the terminal if there is nothing to validate on."""
        if "valid" in self.counts:
            return None
        share, files = self.options["valid_share"], self.options["valid_files"]
        reason, mend = "none were held out", "give --valid-rows"
        if self.task in SPLIT_BY_SOURCE:
            mend = "give a larger --valid-share" + (" or --valid-files" if self.task == "columns" else "")
            reason = f"of so few sources none fell into the share of {share:g}" if share else "its share is 0"
        if files:
            reason, mend = "--valid-files gave no pair", "give others"
        return (
            f"there is no valid.jsonl, which `diffuseq train` needs ({reason}); {mend}, or write one by hand"
        )


def prepare(
    task: str,
    raw: Sequence[str | Path],
    out: str | Path,
    options: ReadOptions | None = None,
    *,
    overwrite: bool = False,
    account: Account | None = None,
    progress: Callable[[int], None] | None = None,
) -> Manifest:
    """Turn a raw data set into jsonl splits in the folder `out`, as a stream.

    raw: files and folders of the release; for `columns` also one name on the hub. account: whether bad rows
    are skipped, and where they are counted. progress: called now and then with the pairs so far.
    A file appears in `out` only once it is complete. Raises `InputError` for an unknown task, missing raw
    files, splits that are already there (unless `overwrite`), a bad row (unless skipped), or no pairs at all.
    """
    if not isinstance(task, str) or task not in TASKS:
        raise unknown_name("task", task, TASKS)
    options, account, out = options or ReadOptions(), account or Account(), as_path(out, "The folder out")
    if not isinstance(options, ReadOptions):
        raise InputError(f"The options are of the type {type(options).__name__}; give ReadOptions(…).")
    for name, values in (("raw", raw), *((name, getattr(options, name)) for name in _LISTS)):
        refuse_alone(values, name)
    for files in (raw or (), options.valid_files, options.test_files):
        _refuse_twice(files)
    refuse_idle(task, options)
    paths = _existing(task, raw)
    _refuse_streams([*paths, *map(Path, (*options.valid_files, *options.test_files))])
    _refuse_to_overwrite(out, overwrite)
    counts = _write_splits(TASKS[task](paths, options, account), out, account, progress)
    manifest = Manifest(
        task=task,
        counts=counts,
        skipped=dict(account.bad.counts),
        left_out=dict(account.left_out),
        sources=[_describe(path) for path in dict.fromkeys(account.used)],
        files={f"{split}.jsonl": hash_file(out / f"{split}.jsonl") for split in counts},
        options=asdict(options),
    )
    write_text(out / MANIFEST, json.dumps(asdict(manifest), indent=2, ensure_ascii=False) + "\n")
    return manifest


def _refuse_twice(files: Sequence[str | Path]) -> None:
    """Raise `InputError` for a file that is named more than once, whose rows would be doubled."""
    places = Counter(as_path(name, "A raw file").resolve() for name in files if "\0" not in str(name))
    if twice := [place for place, times in places.items() if times > 1]:
        raise InputError(f"{twice[0]} is given twice; name every file once.")


def _existing(task: str, raw: Sequence[str | Path]) -> list[Path]:
    if not raw:
        raise InputError("No raw data are given; give the files or the folder of the release.")
    paths = [as_path(path, "A raw file") for path in raw]
    for name, path in zip(raw, paths, strict=True):
        if task == "columns":  # which takes a name on the hub, with what it calls a configuration behind
            if not path.exists():
                refuse_missing_path(str(name).partition(":")[0], "a table", FILE_SUFFIXES)
        elif not path.exists():
            raise InputError(f"There is no {path}; give the files or the folder of the release.")
    return paths


def _refuse_streams(paths: Sequence[Path]) -> None:
    """Raise `InputError` for a pipe or a device, which would wait when it is read once more, for the manifest."""
    for path in paths:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise InputError(f"{path} is no plain file, which is read twice; write it to one first.")


def _refuse_to_overwrite(out: Path, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; give a folder to write the splits into.")
    present = [name for name in (*_split_files(), MANIFEST) if (out / name).exists()]
    if present and not overwrite:
        raise InputError(
            f"{out} already has {', '.join(present)}; give another folder, or --overwrite to replace them."
        )


def _write_splits(
    rows: Rows, out: Path, account: Account, progress: Callable[[int], None] | None
) -> dict[str, int]:
    """Write every pair to its split's file; a split without pairs has no file. Returns the counts."""
    counts: Counter[str] = Counter()
    with ExitStack() as stack:
        files: dict[str, TextIO] = {}
        for number, (split, pair) in enumerate(rows, start=1):
            if split not in files:
                temporary = stack.enter_context(atomic_file(out / f"{split}.jsonl"))
                files[split] = stack.enter_context(open(temporary, "w", encoding="utf-8", newline="\n"))
            files[split].write(_line(pair))
            counts[split] += 1
            if progress is not None and number % PROGRESS_ROWS == 0:
                progress(number)
        for split in SPLITS:
            check_outputs({"--out": out / f"{split}.jsonl"}, account.used)
        if not counts["train"]:
            found = "; ".join([f"pairs found: {counts.total():,}", *account.bad.lines()])
            raise InputError(
                f"The raw data gave no pair to train on ({found}); check the files, "
                "and hold out fewer rows if they are few."
            )
    for split in SPLITS:
        if split not in files:
            (out / f"{split}.jsonl").unlink(missing_ok=True)  # of an earlier preparation
    return {split: counts[split] for split in SPLITS if split in files}


def _line(pair: Pair) -> str:
    row: dict[str, Any] = {"src": pair.source, "trg": pair.target}
    if pair.references != (pair.target,):
        row["refs"] = list(pair.references)
    return json.dumps(row, ensure_ascii=False) + "\n"


def _split_files() -> list[str]:
    return [f"{split}.jsonl" for split in SPLITS]


def _describe(path: Path) -> dict[str, Any]:
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": hash_file(path)}
