"""Pairs from the named columns of csv, tsv, jsonl and parquet files, and of data sets on the hub."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from itertools import chain, combinations
from pathlib import Path
from typing import Any

from diffuseq.data.delimited import delimited_rows
from diffuseq.data.pairs import BadRowError, Pair, as_object, checked_text, decode, numbered_lines, parse_json
from diffuseq.data.reading import (
    Account,
    ReadOptions,
    Rows,
    refuse_held_out,
    refuse_repeated,
    split_by_source,
)
from diffuseq.errors import InputError, unknown_name
from diffuseq.names import ending

Row = Mapping[str, Any]
SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
FILE_SUFFIXES = (*SUFFIXES, ".gz", ".txt")
"""How a name ends that means a file, be it one that can be read or not."""
PARQUET_BATCH = 1024
HUB_SPLITS = {"train": "train", "validation": "valid", "valid": "valid", "dev": "valid", "test": "test"}


class _MissingColumnError(BadRowError):
    """A row without a column that is asked for."""

    def __init__(self, column: str, columns: Iterable[str]) -> None:
        super().__init__(f"the row has no column {column!r}")
        self.column, self.columns = column, list(columns)


def read_columns(raw: list[Path], options: ReadOptions, account: Account) -> Rows:
    """Any table: csv, tsv, jsonl (or .json) or parquet files, or a data set on the hub (`owner/name[:config]`).

    Splits are those of the hub, or of `options.valid_files` and `options.test_files`; a split that is missing
    is a share of the training sources, chosen by their hash. Raises `InputError` where columns are not named, or
    rows are to be held out by their number, and with file and line for a row that cannot be used.
    """
    if not (options.source_column and options.target_column):
        raise InputError("The columns are not named; pass --source-column and --target-column.")
    _refuse_same_columns(options)
    tables: dict[str, list[Iterable[tuple[str, Row]]]] = {
        "train": [_table(path, options, account) for path in raw if _is_file(path)],
        "valid": [_table(Path(name), options, account) for name in options.valid_files],
        "test": [_table(Path(name), options, account) for name in options.test_files],
    }
    for path in raw:
        if not _is_file(path):
            for split, rows in _hub_splits(str(path)):
                tables[split].append(rows)
    for split in ("valid", "test"):
        if tables[split]:
            refuse_held_out(options, split)
    for split in ("valid", "test"):
        for pair in _pairs(chain.from_iterable(tables[split]), options, account):
            yield split, pair
    train = _pairs(chain.from_iterable(tables["train"]), options, account)
    shares = [0.0 if tables[s] else share for s, share in _shares(options)]
    yield from split_by_source(train, *shares)


def _refuse_same_columns(options: ReadOptions) -> None:
    """Raise `InputError` where one column would be two sides of a pair."""
    names = ("source_column", "target_column", "reference_column")
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    for (one, column), (other, again) in combinations(given.items(), 2):
        if column == again:
            one, other = (f"--{name.replace('_', '-')}" for name in (one, other))
            raise InputError(f"{one} and {other} are both {column!r}; name two columns.")


def _shares(options: ReadOptions) -> tuple[tuple[str, float], tuple[str, float]]:
    return ("valid", options.valid_share), ("test", options.test_share)


def _is_file(path: Path) -> bool:
    """Whether it names a file (which may be missing) rather than a data set on the hub."""
    return path.exists() or path.suffix.lower() in FILE_SUFFIXES


def _table(path: Path, options: ReadOptions, account: Account) -> Iterator[tuple[str, Row]]:
    if path.is_dir():
        raise InputError(
            f"{path} is a folder; name the tables in it ({', '.join(SUFFIXES)}), those of the other splits by "
            "--valid-files and --test-files (of what `datasets` has saved, its to_parquet makes one)."
        )
    account.used.append(path)
    match ending(path):
        case ".csv":
            return delimited_rows(path, ",", options, account)
        case ".tsv":
            return delimited_rows(path, "\t", options, account)
        case ".jsonl" | ".json":
            return _json_rows(path, account)
        case ".parquet":
            return _parquet_rows(path, options)
    raise InputError(
        f"{path} is none of the tables that can be read; give {', '.join(SUFFIXES)} or a hub name."
    )


def _json_rows(path: Path, account: Account) -> Iterator[tuple[str, Row]]:
    for place, line in numbered_lines(path):
        if not line.strip():
            continue
        try:
            row = as_object(parse_json(decode(line)))
        except BadRowError as reason:
            account.bad_row(place, reason)
            continue
        yield place, row


def _parquet_rows(path: Path, options: ReadOptions) -> Iterator[tuple[str, Row]]:
    """The rows of a parquet file, a batch at a time."""
    parquet = _optional("pyarrow.parquet")
    with _explained(str(path)), parquet.ParquetFile(path) as file:
        refuse_repeated(path, file.schema_arrow.names, options)
        rows = chain.from_iterable(batch.to_pylist() for batch in file.iter_batches(PARQUET_BATCH))
        yield from _numbered(str(path), rows)


def _hub_splits(name: str) -> Iterator[tuple[str, Iterator[tuple[str, Row]]]]:
    """(our split, its rows) of a data set on the hub."""
    datasets = _optional("datasets")
    data_set, _, config = name.partition(":")
    with _explained(name):
        splits = datasets.load_dataset(data_set, config or None, streaming=True)
    for split, rows in splits.items():
        if split not in HUB_SPLITS:
            raise unknown_name(f"split in {name}", split, HUB_SPLITS)
        yield HUB_SPLITS[split], _hub_rows(f"{name}/{split}", rows)


def _hub_rows(name: str, rows: Iterable[Row]) -> Iterator[tuple[str, Row]]:
    with _explained(name):
        yield from _numbered(name, rows)


def _numbered(name: str, rows: Iterable[Row]) -> Iterator[tuple[str, Row]]:
    return ((f"{name}:{number}", row) for number, row in enumerate(rows, start=1))


def _optional(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise InputError(
            f"Parquet files and data sets on the hub need the package {module.partition('.')[0]}; "
            "install it with: pip install 'diffuseq[data]'"
        ) from None


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn whatever a library raises for a missing, private or broken data set into one sentence."""
    try:
        yield
    except (InputError, GeneratorExit):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(
            f"{name} cannot be read as a data set ({reason}); give an existing file or hub name."
        ) from None


def _pairs(rows: Iterable[tuple[str, Row]], options: ReadOptions, account: Account) -> Iterator[Pair]:
    for place, row in rows:
        try:
            yield _pair(row, options)
        except BadRowError as reason:
            if isinstance(reason, _MissingColumnError) and not account.skip_bad_rows:
                raise _unknown_column(place, reason) from None
            account.bad_row(place, reason)


def _unknown_column(place: str, reason: _MissingColumnError) -> InputError:
    unknown = unknown_name(f"column in {place}", reason.column, reason.columns)
    file = place.rpartition(":")[0]
    if ending(file) not in (".csv", ".tsv"):
        return unknown
    return InputError(
        f"{unknown} (The first line of {file} is read as its header; put one there if it has none.)"
    )


def _pair(row: Row, options: ReadOptions) -> Pair:
    source = checked_text(_cell(row, str(options.source_column)), str(options.source_column))
    target = checked_text(_cell(row, str(options.target_column)), str(options.target_column))
    if options.reference_column is None:
        return Pair(source, target, (target,))
    references = _cell(row, options.reference_column)
    texts = [references] if isinstance(references, str) else references
    if not isinstance(texts, list) or not texts:
        raise BadRowError(f"the field {options.reference_column!r} is neither a text nor a list of texts")
    further = (checked_text(text, options.reference_column) for text in texts)
    return Pair(source, target, tuple(dict.fromkeys((target, *further))))


def _cell(row: Row, column: str) -> Any:
    """A column's value; `a.b` is b inside a, unless a column is called so. Raises `_MissingColumnError`."""
    if column in row:
        return row[column]
    outer, _, inner = column.partition(".")
    if inner and isinstance(row.get(outer), Mapping):
        return _cell(row[outer], inner)
    raise _MissingColumnError(column, map(str, row))
