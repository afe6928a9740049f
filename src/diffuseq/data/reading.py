"""What the readers of raw data sets share: options, the account of rows that gave no pair, and splits."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from diffuseq.data.pairs import BadRowError, BadRows, Pair, handle_bad_row
from diffuseq.errors import InputError
from diffuseq.names import unpacked


@dataclass(frozen=True)
class ReadOptions:
    """How raw data become pairs and splits; None means what the task's published splits ask for."""

    valid_rows: int | None = None
    """Rows held out for validation where the release has no such split."""
    test_rows: int | None = None
    """Rows held out for testing where the release has no such split."""
    contexts: int = 3
    """quasar-t: passages for one question at most, the best ones that hold its answer."""
    alignments: tuple[str, ...] = ("aligned", "partialAligned")
    """wiki-auto: alignment labels that count as pairs, in files that have labels."""
    source_column: str | None = None
    """columns: the column of the sources; `a.b` is column b inside column a."""
    target_column: str | None = None
    """columns: the column of the targets."""
    reference_column: str | None = None
    """columns: a column of right answers beside the target, a text or a list of texts."""
    valid_files: tuple[str, ...] = ()
    """columns: files of the validation split, instead of a share of the others."""
    test_files: tuple[str, ...] = ()
    """columns: files of the test split, instead of a share of the others."""
    valid_share: float = 0.02
    """columns, dialogue: share of the sources for validation where there are no files for it."""
    test_share: float = 0.02
    """columns, dialogue: share of the sources for testing where there are no files for it."""
    quotes: bool = True
    """columns, qqp: quotation marks in csv and tsv enclose fields; False takes them as text."""
    quoted_lines: int | None = None
    """columns, qqp: lines that a row with quoted fields may have; none: 20, and they must not look like rows of
    their own, as they do after a stray quotation mark."""

    def is_given(self, name: str) -> bool:
        """Whether an option is another than the default."""
        return bool(getattr(self, name) != getattr(ReadOptions, name))


@dataclass
class Account:
    """The rows that gave no pair: bad ones, and those that the task leaves out on purpose."""

    skip_bad_rows: bool = False
    bad: BadRows = field(default_factory=BadRows)
    left_out: Counter[str] = field(default_factory=Counter)
    used: list[Path] = field(default_factory=list)
    """The raw files that were read."""

    def bad_row(self, place: str, reason: BadRowError) -> None:
        """Raise the `InputError` that names the row, or count it if bad rows are to be skipped."""
        handle_bad_row(place, str(reason), self.skip_bad_rows, self.bad)


Rows = Iterator[tuple[str, Pair]]
"""(split, pair) in the order of writing."""

Reader = Callable[[list[Path], ReadOptions, Account], Rows]


def split_by_order(pairs: Iterator[Pair], test_rows: int, valid_rows: int) -> Rows:
    """The first rows are the test split, the next ones the validation split, the rest is for training."""
    for number, pair in enumerate(pairs):
        yield (
            ("test" if number < test_rows else "valid" if number < test_rows + valid_rows else "train"),
            pair,
        )


def split_by_source(pairs: Iterator[Pair], valid_share: float, test_share: float) -> Rows:
    """Every source falls into a split by its hash: the same one however often and wherever it stands.

    Raises `InputError` for shares that leave nothing to train on.
    """
    if valid_share < 0 or test_share < 0 or not valid_share + test_share < 1:
        raise InputError(
            f"The shares {valid_share} for validation and {test_share} for testing leave nothing to train "
            "on; give two numbers of at least 0 that add up to less than 1."
        )
    for pair in pairs:
        normal = " ".join(pair.source.casefold().split())
        digest = hashlib.blake2b(normal.encode(), digest_size=8).digest()
        place = int.from_bytes(digest, "big") / 2**64
        yield (
            ("valid" if place < valid_share else "test" if place < valid_share + test_share else "train"),
            pair,
        )


_SHARES = ("columns", "dialogue")
_TASKS_WITH = {
    **dict.fromkeys(("valid_rows", "test_rows"), ("qqp", "wiki-auto", "commonsense-conversation")),
    **dict.fromkeys(("valid_share", "test_share"), _SHARES),
    "contexts": ("quasar-t",),
    "alignments": ("wiki-auto",),
    **dict.fromkeys(("source_column", "target_column", "reference_column"), ("columns",)),
    **dict.fromkeys(("valid_files", "test_files"), ("columns",)),
    **dict.fromkeys(("quotes", "quoted_lines"), ("columns", "qqp")),
}
"""The tasks that heed an option."""


def refuse_idle(task: str, options: ReadOptions) -> None:
    """Raise `InputError` for an option that does nothing for a task."""
    for name in filter(options.is_given, _TASKS_WITH):
        value, split = getattr(options, name), name.partition("_")[0]
        if task in _TASKS_WITH[name]:
            continue
        if name.endswith("_rows") and task in _SHARES:
            raise InputError(
                f"{name} is {value}, but {task} holds out whole sources, not rows; give "
                f"--{split}-share (0 to 1)" + (f", or --{split}-files." if task == "columns" else ".")
            )
        tasks = " and ".join(_TASKS_WITH[name])
        raise InputError(
            f"{name} is {value!r}, which does nothing for {task}; it is for {tasks}: leave it out."
        )
    if not options.quotes and options.quoted_lines is not None:
        raise InputError(
            f"quoted_lines is {options.quoted_lines}, but with --no-quotes no field is quoted; give one of them."
        )


def refuse_held_out(options: ReadOptions, split: str) -> None:
    """Raise `InputError` where rows or sources are to be held out for a split of data that come in splits."""
    for name in filter(options.is_given, (f"{split}_rows", f"{split}_share")):
        if not getattr(options, name):  # just what happens
            continue
        raise InputError(
            f"{name} is {getattr(options, name)}, but the data come in splits already, and nothing is held out for "
            f"{split}; leave --{name.replace('_', '-')} out."
        )


def refuse_repeated(place: str | Path, columns: Sequence[str], options: ReadOptions) -> None:
    """Raise `InputError` where a table has a column that is asked for more than once: any could be meant."""
    for name in (options.source_column, options.target_column, options.reference_column):
        if name is not None and columns.count(name) > 1:
            raise InputError(
                f"{place} has {columns.count(name)} columns called {name!r}; give each a name of its own."
            )


def find_one(raw: list[Path], patterns: tuple[str, ...], what: str, account: Account) -> Path:
    """The one file among the given files and folders whose name matches a pattern, the first pattern first.

    It is noted in the account. Raises `InputError` if there is none.
    """
    for pattern in patterns:
        for path in raw:
            if found := sorted(_matching(path, pattern)):
                account.used.append(found[0])
                return found[0]
    given = ", ".join(map(str, raw))
    raise InputError(
        f"There is no {what} ({' or '.join(patterns)}) in {given}; give the release's folder or files."
    )


def has_any(raw: list[Path], patterns: Iterable[str]) -> bool:
    """Whether one of the given files, or one in the given folders, matches one of the patterns."""
    return any(any(_matching(path, pattern)) for path in raw for pattern in patterns)


def _matching(path: Path, pattern: str) -> Iterator[Path]:
    """The file, or what is in the folder, if its name matches, in capitals or not, compressed or not."""
    among = path.rglob("*") if path.is_dir() else [path]
    return (each for each in among if unpacked(each).match(pattern.lower()))
