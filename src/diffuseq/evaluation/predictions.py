"""Read and write predictions: our `predictions.jsonl`, and the published output format.

Ours: one object a source, `{"source", "references", "candidates", "chosen", "seconds", "forwards", "log_p"}`;
`chosen` is the chosen text (null: minimum Bayes risk chooses), `seconds` are for the source with all its
candidates, `forwards` for one of them, `log_p` the candidates' log-probabilities in nats (null: not known).
The published: `{"recover", "reference", "source"}`, one file a seed.
Whatever does not fit is an `InputError` with file and line; nothing is dropped.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffuseq.data.pairs import BadRowError, as_object, decode, numbered_lines, parse_json
from diffuseq.errors import InputError
from diffuseq.files import atomic_file
from diffuseq.names import as_path, shown

if TYPE_CHECKING:
    from diffuseq.answers import Answer
    from diffuseq.data.pairs import Pair, Question

FILE_NAME = "predictions.jsonl"
_PUBLISHED_SPECIALS = ("[CLS]", "[SEP]", "[PAD]")  # [UNK] stays, as in the published script

_LARGEST = 1e30
"""Of a number in a row: sums of such numbers are numbers still."""


@dataclass(frozen=True)
class Prediction:
    """What a system answered to one source. seconds: for all candidates; forwards: network calls for one; log_p: of
    each candidate, in nats."""

    source: str
    references: tuple[str, ...]
    candidates: tuple[str, ...]
    chosen: str | None = None
    seconds: float | None = None
    forwards: float | None = None
    log_p: tuple[float, ...] | None = None

    @classmethod
    def of(cls, asked: Question | Pair, answer: Answer) -> Prediction:
        """What the pipeline answered to a question, with its references."""
        candidates, log_p = tuple(answer.candidates), tuple(answer.log_p)
        return cls(
            asked.source, asked.references, candidates, answer.text, answer.seconds, answer.forwards, log_p
        )


@dataclass(frozen=True)
class Predictions:
    """All answers of one system to one test set; every row has the same number of candidates."""

    name: str
    rows: tuple[Prediction, ...]
    files: tuple[Path, ...]
    warnings: tuple[str, ...] = ()

    @property
    def sources(self) -> list[str]:
        return [row.source for row in self.rows]

    @property
    def references(self) -> list[tuple[str, ...]]:
        return [row.references for row in self.rows]

    @property
    def candidates(self) -> list[tuple[str, ...]]:
        return [row.candidates for row in self.rows]


def check_predictions(predictions: Any) -> None:
    """Raise `InputError` for what are no predictions, as for the path of some."""
    if not isinstance(predictions, Predictions):
        raise InputError(
            f"The predictions are of the type {type(predictions).__name__}; give what "
            "read_predictions(path) gives."
        )


def lower_cased(predictions: Predictions) -> Predictions:
    """The same with sources, references and answers in lower case."""
    rows = (
        replace(
            row,
            source=row.source.lower(),
            references=tuple(text.lower() for text in row.references),
            candidates=tuple(text.lower() for text in row.candidates),
            chosen=None if row.chosen is None else row.chosen.lower(),
        )
        for row in predictions.rows
    )
    return replace(predictions, rows=tuple(rows))


def other_references(first: Predictions, other: Predictions) -> int:
    """In how many rows two systems' answers have other references, case and spacing aside."""
    pairs = zip(first.references, other.references, strict=True)
    return sum(set(map(letters, ours)) != set(map(letters, theirs)) for ours, theirs in pairs)


def letters(text: str) -> str:
    """What is left of a text that tokenizers and cleaning cannot change: its letters and digits."""
    return re.sub(r"[\W_]+", "", text.lower())


def write_predictions(path: Path, rows: Iterable[Prediction]) -> int:
    """Write predictions.jsonl in one piece, row by row, and give the number of rows."""
    count = 0
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(json.dumps(asdict(row), ensure_ascii=False) + "\n")
            count += 1
    return count


def read_predictions(*paths: str | Path, name: str | None = None) -> Predictions:
    """The predictions of one system.

    paths: one predictions.jsonl, or a folder that holds one; or files of the published format, one a seed,
    or a folder of them (taken in the order of their names). Raises `InputError` with file and line.
    """
    files = [file for path in paths for file in _files(as_path(path, "The predictions"))]
    if not files:
        raise InputError("No predictions were given; name a predictions.jsonl, a folder, or published files.")
    first = Path(paths[0])
    title = name or (first.parent.name if first.name == FILE_NAME else first.stem) or first.name or "system"
    if is_published(files[0]):
        rows, places = _published_rows(files)
    elif len(files) > 1:
        raise InputError(
            f"{files[0]} and {files[1]} are two systems' predictions; evaluate one at a time, or use compare."
        )
    else:
        rows, places = _own_rows(files[0])
    if not rows:
        raise InputError(f"{files[0]} holds no prediction; it needs one JSON object a line.")
    return Predictions(shown(title), tuple(rows), tuple(files), tuple(_warnings(rows, places)))


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(
            f"There is no file or folder {path}; give a predictions.jsonl or a folder that has one."
        )
    if (path / FILE_NAME).is_file():
        return [path / FILE_NAME]
    found = sorted(
        file
        for file in path.iterdir()
        if file.suffix.lower() in (".json", ".jsonl") and file.is_file() and is_published(file)
    )
    if not found:
        raise InputError(
            f"{path} holds neither {FILE_NAME} nor files with the published rows"
            ' {"recover", "reference", "source"}; give a folder that does.'
        )
    return found


def is_published(path: Path) -> bool:
    """Whether the first row of a file is one of the published format."""
    return b'"recover"' in next((line for _, line in numbered_lines(path) if line.strip()), b"")


def _own_rows(path: Path) -> tuple[list[Prediction], list[str]]:
    rows: list[Prediction] = []
    places: list[str] = []
    for place, row in _objects(path):
        prediction = Prediction(
            source=_text(row, "source", place),
            references=_texts(row, "references", place),
            candidates=_texts(row, "candidates", place),
            chosen=None if row.get("chosen") is None else _text(row, "chosen", place),
            seconds=_number(row, "seconds", place),
            forwards=_number(row, "forwards", place),
            log_p=_log_p(row, place),
        )
        if rows and len(prediction.candidates) != len(rows[0].candidates):
            raise InputError(
                f"{place}: {len(prediction.candidates)} candidates, but {places[0]} has"
                f" {len(rows[0].candidates)}; every source needs the same number."
            )
        rows.append(prediction)
        places.append(place)
    return rows, places


def _published_rows(files: Sequence[Path]) -> tuple[list[Prediction], list[str]]:
    """One candidate from each file; source and reference have to be the same in all of them, line by line."""
    columns = [list(_objects(file)) for file in files]
    for file, column in zip(files, columns, strict=True):
        if len(column) != len(columns[0]):
            raise InputError(
                f"{file} has {len(column)} rows, but {files[0]} has {len(columns[0])}; seeds of one run have"
                " equally many: generate the shorter one again."
            )
    rows = []
    for entries in zip(*columns, strict=True):
        first_place, first = entries[0]
        for place, row in entries:
            for key in ("source", "reference"):
                if _text(row, key, place) != _text(first, key, first_place):
                    raise InputError(
                        f"{place}: the {key} differs from that at {first_place};"
                        " give seeds of one run, in one order."
                    )
        reference = _text(first, "reference", first_place)
        if not _strip_specials(reference).strip():
            raise InputError(f"{first_place}: the reference is empty; every row needs one.")
        rows.append(
            Prediction(
                source=_strip_specials(_text(first, "source", first_place)),
                references=(_strip_specials(reference),),
                candidates=tuple(_strip_specials(_text(row, "recover", place)) for place, row in entries),
            )
        )
    return rows, [place for place, _ in columns[0]]


def _strip_specials(text: str) -> str:
    """As published: the tokens are cut out, the blanks beside them stay (`length_published` counts them)."""
    for token in _PUBLISHED_SPECIALS:
        text = text.replace(token, "")
    return text


def _objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for place, line in numbered_lines(path):
        if not line.strip():
            continue
        try:
            yield place, as_object(parse_json(decode(line)))
        except BadRowError as reason:
            raise InputError(f"{place}: {reason}; correct it or write the file again.") from None


def _text(row: dict[str, Any], key: str, place: str) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        problem = "is missing" if key not in row else f"is {type(value).__name__}, not a text"
        raise InputError(f"{place}: the field {key!r} {problem}; the row has: {', '.join(row) or 'nothing'}.")
    _check_unicode(value, key, place)
    return value


def _texts(row: dict[str, Any], key: str, place: str) -> tuple[str, ...]:
    value = row.get(key)
    if not isinstance(value, list) or not value or not all(isinstance(text, str) for text in value):
        problem = "is missing" if key not in row else "is not a list of at least one text"
        raise InputError(f"{place}: the field {key!r} {problem}; scoring needs it in every row.")
    if key == "references" and not all(text.strip() for text in value):
        raise InputError(f"{place}: a reference is empty; take it out or fill it in.")
    for text in value:
        _check_unicode(text, key, place)
    return tuple(value)


def _check_unicode(text: str, key: str, place: str) -> None:
    """Raise `InputError` for half of a surrogate pair, which JSON can spell and no file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f"{place}: the field {key!r} is not valid UTF-8; correct it.") from None


def _number(row: dict[str, Any], key: str, place: str) -> float | None:
    value = row.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LARGEST:
        raise InputError(
            f"{place}: the field {key!r} is {_short(value)}; it must be a number from 0 to {_LARGEST:g}, or null."
        )
    return float(value)


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}…"


def _log_p(row: dict[str, Any], place: str) -> tuple[float, ...] | None:
    values, count = row.get("log_p"), len(row["candidates"])
    if values is None:
        return None
    if (
        not isinstance(values, list)
        or len(values) != count
        or any(isinstance(v, bool) or not isinstance(v, int | float) or not abs(v) < _LARGEST for v in values)
    ):
        raise InputError(
            f"{place}: the field 'log_p' must be null or one number for each of {count} candidates."
        )
    return tuple(map(float, values))


def _warnings(rows: Sequence[Prediction], places: Sequence[str]) -> list[str]:
    """What deserves a word but no refusal. Two different answers to the very same row are refused."""
    seen: dict[tuple[str, tuple[str, ...]], int] = {}
    for i, row in enumerate(rows):
        before = seen.setdefault((row.source, row.references), i)
        if before != i and row.chosen is not None and not set(row.candidates) & set(rows[before].candidates):
            raise InputError(
                f"{places[i]}: the same source and references as {places[before]}, with entirely different"
                " candidates; this looks like two runs in one file: keep one."
            )
    counts = Counter(row.source for row in rows)
    warnings = []
    repeated = sum(count - 1 for count in counts.values())
    if repeated:
        several = sum(count > 1 for count in counts.values())
        warnings.append(
            f"Sources that stand more than once: {several:,} ({repeated:,} extra rows); every row counts."
        )
    foreign = sum(row.chosen is not None and row.chosen not in row.candidates for row in rows)
    if foreign:
        warnings.append(
            f"Chosen texts that are none of the candidates: {foreign:,} of {len(rows):,};"
            " they are scored as they are."
        )
    empty = sum(not text.strip() for row in rows for text in row.candidates)
    if empty:
        total = sum(len(row.candidates) for row in rows)
        warnings.append(f"Empty candidates, which score 0: {empty:,} of {total:,}.")
    return warnings
