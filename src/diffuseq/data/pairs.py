"""Read pairs of text: jsonl in several spellings, checked row by row.

A row is a JSON object with `src`/`trg`, `source`/`target`, or `translation` ({"de": ..., "en": ...}, from the
first key to the second unless the keys are named), and optionally `refs`/`references`, a list of texts.
A row that cannot be used is an error that says file, line and reason; with `skip_bad_rows` it is counted
by reason in a `BadRows`, never silently dropped.
"""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from diffuseq.errors import InputError
from diffuseq.names import as_path, ending, word

MAX_LINE_BYTES = 10_000_000
"""Longer lines are refused before they are parsed, so that a broken file cannot fill the memory."""

LONGEST_SKIP_BYTES = 1_000_000_000
"""A line that goes on for so long is no text (a device, a bomb in a .gz file), and reading stops."""

SPLITS = ("train", "valid", "test")
_SPLIT_ALIASES = {"valid": ("valid", "validation", "dev"), "train": ("train",), "test": ("test",)}
_SPELLINGS = (("src", "trg"), ("source", "target"))
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_JSONL = (".jsonl", ".jsonl.gz", ".json", ".json.gz")
_TABLES = (".csv", ".tsv", ".parquet")
_ONE_A_LINE = "one JSON object a line is read here (`jq -c '.[]'` makes such lines of a list)"
_SAVE_AS_UTF_8 = "if the whole file has another encoding, save it as UTF-8"


@dataclass(frozen=True)
class Pair:
    """A source, its target, and all texts that count as right (the target alone unless `refs` says more)."""

    source: str
    target: str
    references: tuple[str, ...]


@dataclass(frozen=True)
class Question:
    """A source to answer, with the references that its row may have."""

    source: str
    references: tuple[str, ...] = ()


@dataclass
class BadRows:
    """What was skipped: how many rows for each reason, and the place of the first of each."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, place: str, reason: str) -> None:
        self.counts[reason] += 1
        self.first.setdefault(reason, place)

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def lines(self) -> list[str]:
        """One sentence a reason, most frequent first, for the terminal."""
        return [
            f"skipped {n:,} row{'s' if n > 1 else ''}: {reason} (first: {self.first[reason]})"
            for reason, n in self.counts.most_common()
        ]


class BadRowError(Exception):
    """Why a row cannot be used; readers turn it into an `InputError` with the place, or a count."""


def read_pairs(
    path: str | Path,
    skip_bad_rows: bool = False,
    report: BadRows | None = None,
    translation: tuple[str, str] | None = None,
) -> Iterator[Pair]:
    """The pairs of a jsonl file, one at a time; memory does not grow with the file.

    translation: the keys of source and target in a `translation` object; the first two by default.
    report: where skipped rows are counted when `skip_bad_rows`. Blank lines are no rows.
    Raises `InputError` with file, line and reason for the first bad row, and for a file that cannot be read.
    """
    path = as_path(path, "The file of texts")
    _refuse_table(path)
    report = BadRows() if report is None else report
    for place, line in numbered_lines(path):
        try:
            text = decode(line)
            if not text.strip():
                continue
            pair = pair_from_row(parse_json(text), translation)
        except BadRowError as reason:
            handle_bad_row(place, str(reason), skip_bad_rows, report)
            continue
        yield pair


def handle_bad_row(place: str, reason: str, skip: bool, report: BadRows) -> None:
    """Count the row when `skip`, else raise the `InputError` that names it."""
    if not skip:
        raise InputError(
            f"{place}: {reason}. Correct the row, or pass --skip-bad-rows to count such rows and continue."
        )
    report.add(place, reason)


def pair_from_row(row: Any, translation: tuple[str, str] | None = None) -> Pair:
    """The pair of one decoded JSON row. Raises `BadRowError`."""
    row = as_object(row)
    source, target = _sides(row, translation)
    for name in ("refs", "references"):
        if row.get(name) is not None:
            return Pair(source, target, _references(row[name], name))
    return Pair(source, target, (target,))


def checked_text(value: Any, name: str) -> str:
    """A field's text without surrounding blanks. Raises `BadRowError` if it is no text, or empty."""
    if not isinstance(value, str):
        raise BadRowError(f"the field {name!r} is not a text")
    text = value.strip()
    if not text:
        raise BadRowError(f"the field {name!r} is empty")
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can spell, or bytes that are not UTF-8
        raise BadRowError(f"the field {name!r} is not valid UTF-8 ({_SAVE_AS_UTF_8})") from None
    return text


def _sides(row: dict[str, Any], translation: tuple[str, str] | None) -> tuple[str, str]:
    if translation is not None or "translation" in row:
        texts = row.get("translation")
        if not isinstance(texts, dict) or len(texts) < 2:
            raise BadRowError("the field 'translation' is not an object with two languages")
        first, second = translation or tuple(texts)[:2]
        for name in (first, second):
            if name not in texts:
                raise BadRowError(f"the field 'translation' has no language {name!r}")
        return checked_text(texts[first], first), checked_text(texts[second], second)
    for source, target in _SPELLINGS:
        if source in row or target in row:
            for name in (source, target):
                if name not in row:
                    raise BadRowError(f"the field {name!r} is missing")
            return checked_text(row[source], source), checked_text(row[target], target)
    raise BadRowError(
        "the row has none of src/trg, source/target, translation, which `diffuseq prepare columns` makes of fields "
        "with other names"
    )


def _references(value: Any, name: str) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not value:
        raise BadRowError(f"the field {name!r} is not a list of texts")
    return tuple(checked_text(text, name) for text in value)


def find_split(folder: str | Path, split: str) -> Path:
    """The jsonl file of a split in a data folder, also .json and .gz: train, valid (also validation, dev) or test.

    Raises `InputError` when the folder or the file is missing; the message lists what is there.
    """
    folder = as_path(folder, "The data folder")
    if not folder.exists():
        raise InputError(
            f"There is no folder {folder}; give one with train.jsonl and valid.jsonl, as `prepare` writes."
        )
    if not folder.is_dir():
        raise InputError(f"{folder} is a file; give the folder that holds train.jsonl and valid.jsonl.")
    # train.jsonl goes before train.JSONL, for it comes later
    files = {path.name.lower(): path for path in sorted(folder.glob("*"))}
    for name in _SPLIT_ALIASES.get(split, (split,)):
        for path in (files.get(f"{name}{suffix}") for suffix in _JSONL):
            if path is not None and path.is_file():
                return path
    present = (
        ", ".join([p.name for name, p in files.items() if name.endswith(_JSONL)][:20]) or "no jsonl file"
    )
    held_out = "" if split == "train" else f" where it holds some out (--{split}-share, --{split}-files)"
    raise InputError(
        f"{folder} has no {split}.jsonl (there is: {present}); `diffuseq prepare` writes one{held_out}."
    )


def read_sources(
    path: str | Path, skip_bad_rows: bool = False, report: BadRows | None = None
) -> Iterator[str]:
    """The sources of `read_questions`."""
    for question in read_questions(path, skip_bad_rows, report):
        yield question.source


def read_questions(
    path: str | Path, skip_bad_rows: bool = False, report: BadRows | None = None
) -> Iterator[Question]:
    """The texts to generate for: jsonl (only the source is needed) or plain text, one source a line.

    path: a file, or "-" for standard input. A file whose name ends in .jsonl or .json, or any other input whose
    first line starts with `{`, is jsonl; a target or references in it are kept for scoring. Bad rows are
    treated as by `read_pairs`.
    """
    path = as_path(path, "The file of texts")
    _refuse_table(path)
    report = BadRows() if report is None else report
    jsonl: bool | None = True if ending(path) in (".jsonl", ".json") else None
    for place, line in numbered_lines(path):
        try:
            text = decode(line)
            if jsonl is None:
                jsonl = text.lstrip().startswith("{")
            if jsonl and not text.strip():
                continue
            question = _question(parse_json(text)) if jsonl else Question(checked_text(text, "line"))
        except BadRowError as reason:
            handle_bad_row(place, str(reason), skip_bad_rows, report)
            continue
        yield question


def _refuse_table(path: str | Path) -> None:
    """Raise `InputError` for a table, whose lines would be taken for texts or for broken JSON."""
    if ending(path) in _TABLES:
        raise InputError(
            f"{path} is a table, and jsonl is read here; `diffuseq prepare columns {word(path)} --source-column … "
            "--target-column … --out FOLDER` makes jsonl of it."
        )


def _question(row: Any) -> Question:
    """The question of a row; its target, which may be missing or empty here, counts as a reference."""
    source = _source(row)
    for name in ("refs", "references"):
        if row.get(name) is not None:
            return Question(source, _references(row[name], name))
    try:
        return Question(source, pair_from_row(row).references)
    except BadRowError:
        return Question(source)


def _source(row: Any) -> str:
    row = as_object(row)
    for name in ("src", "source"):
        if name in row:
            return checked_text(row[name], name)
    return _sides(row, None)[0]


@contextmanager
def open_input(path: str | Path) -> Iterator[BinaryIO]:
    """A file (also .gz), or standard input for "-", as a stream of bytes.

    Raises `InputError` if it cannot be opened, or read to its end.
    """
    if str(path) == "-":
        yield sys.stdin.buffer
        return
    if "\0" in str(path):
        raise InputError("A file name cannot hold a null byte; give the path of a text file.")
    try:
        with open(path, "rb") as stream:
            if str(path).lower().endswith(".gz"):
                with gzip.open(stream) as unpacked:
                    yield unpacked  # type: ignore[misc]
            else:
                yield stream
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path} cannot be read ({reason}); give the path of a text file.") from None


def numbered_lines(path: str | Path) -> Iterator[tuple[str, bytes]]:
    """("file:line", the line without its end) of a file, .gz file or "-", without a byte order mark.

    Of an overlong line come only the first bytes, just enough for `decode` to refuse it.
    """
    name = "standard input" if str(path) == "-" else str(path)
    with open_input(path) as stream:
        number = 0
        while line := stream.readline(MAX_LINE_BYTES + 1):
            number += 1
            if number == 1 and line.startswith(_UTF_16):
                raise InputError(f"{name} is in UTF-16; save it as UTF-8 (in a spreadsheet: CSV UTF-8).")
            if len(line) > MAX_LINE_BYTES:
                _skip_line(stream, f"{name}:{number}")
            else:
                line = line.rstrip(b"\r\n")
            yield f"{name}:{number}", line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line


def _skip_line(stream: BinaryIO, place: str) -> None:
    """Read on to the line's end. Raises `InputError` if it is nowhere near."""
    for _ in range(LONGEST_SKIP_BYTES // MAX_LINE_BYTES):
        rest = stream.readline(MAX_LINE_BYTES)
        if not rest or rest.endswith(b"\n"):
            return
    raise InputError(
        f"{place}: the line is longer than {LONGEST_SKIP_BYTES:,} bytes; that is no text file, give another."
    )


def refuse_overlong(line: bytes) -> None:
    """Raise `BadRowError` for a line of which `numbered_lines` gives only the first bytes."""
    if len(line) > MAX_LINE_BYTES:
        hint = f"; {_ONE_A_LINE}" if line.lstrip().startswith(b"[") else ""
        raise BadRowError(f"the line is longer than {MAX_LINE_BYTES:,} bytes{hint}")


def decode(line: bytes) -> str:
    """A line as text. Raises `BadRowError` if it is too long or not UTF-8."""
    refuse_overlong(line)
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        raise BadRowError(f"the line is not UTF-8 ({_SAVE_AS_UTF_8})") from None


def parse_json(text: str) -> Any:
    """A line's JSON value. Raises `BadRowError`."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # RecursionError: thousands of nested brackets
        is_spread = text.strip() in ("[", "{") or text.lstrip().startswith("[{")
        hint = f" by itself; {_ONE_A_LINE}" if is_spread else ""
        raise BadRowError(f"the line is not JSON{hint}") from None


def as_object(row: Any) -> dict[str, Any]:
    """A decoded row as the JSON object that it has to be. Raises `BadRowError`."""
    if isinstance(row, dict):
        return row
    raise BadRowError(
        f"the row is a list, not a JSON object; {_ONE_A_LINE}"
        if isinstance(row, list)
        else "the row is not a JSON object"
    )
