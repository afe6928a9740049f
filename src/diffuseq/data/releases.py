"""The raw releases of the four published tasks, and of dialogues with one conversation a line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any

from diffuseq.data.delimited import delimited_rows
from diffuseq.data.pairs import BadRowError, Pair, as_object, checked_text, decode, numbered_lines, parse_json
from diffuseq.data.reading import (
    Account,
    ReadOptions,
    Rows,
    find_one,
    has_any,
    refuse_held_out,
    split_by_order,
    split_by_source,
)
from diffuseq.errors import InputError
from diffuseq.names import ending

SPLIT_NAMES = {"train": ("train",), "valid": ("valid", "validation", "dev"), "test": ("test",)}


def read_qqp(raw: list[Path], options: ReadOptions, account: Account) -> Rows:
    """Quora question pairs: the duplicates in file order; 2,500 to test, the next 2,048 to validate.

    One tsv or csv with the columns question1, question2 and is_duplicate (0 or 1), quoted where need be.
    """
    path = find_one(raw, ("*quora*.tsv", "*.tsv", "*.csv"), "tsv file of Quora question pairs", account)
    test_rows, valid_rows = _held_out(options, 2_500, 2_048)
    yield from split_by_order(_duplicates(path, options, account), test_rows, valid_rows)


def read_wiki_auto(raw: list[Path], options: ReadOptions, account: Account) -> Rows:
    """Wiki-Auto: complex sentence → simple sentence, in each of the forms that it is released in.

    Parallel files (train.src and train.dst), or tsv with two columns (complex, simple), or with an alignment
    label, two sentence ids, the simple and the complex sentence. `<SEP>` between the sentences of a split
    becomes a blank. Where there is only a training file, its first 5,000 rows are for testing and the next
    2,048 for validation, the sizes of the published splits.
    """
    files = {split: _wiki_auto_files(raw, names, account) for split, names in SPLIT_NAMES.items()}
    if not files["train"]:
        files["train"] = [(find_one(raw, ("*.tsv",), "training file of Wiki-Auto", account), None)]
    if not (files["valid"] or files["test"]):
        test_rows, valid_rows = _held_out(options, 5_000, 2_048)
        train = _wiki_auto_pairs(files["train"], options, account)
        yield from split_by_order(train, test_rows, valid_rows)
        return
    for split in ("valid", "test"):
        refuse_held_out(options, split)
    for split, found in files.items():
        for pair in _wiki_auto_pairs(found, options, account):
            yield split, pair


def read_quasar_t(raw: list[Path], options: ReadOptions, account: Account) -> Rows:
    """Quasar-T: passage → question, from the release's contexts (short) and questions.

    A question gives a pair with each of its best-scored passages that hold the answer, at most
    `options.contexts`. The release's own splits are kept, so that no question stands in two of them; the
    published preprocessing (116,953 / 2,048 / 10,000 pairs) is not documented, so the counts differ.
    """
    for split, names in SPLIT_NAMES.items():
        if split != "train" and not has_any(raw, [f"{name}_questions.json*" for name in names]):
            continue
        questions = find_one(
            raw, tuple(f"{name}_questions.json*" for name in names), f"{split} file of questions", account
        )
        contexts = find_one(
            raw,
            tuple(f"{folder}{name}_contexts.json*" for folder in ("short/", "") for name in names),
            f"{split} file of contexts",
            account,
        )
        for pair in _passages_with_answer(questions, contexts, options.contexts, account):
            yield split, pair


def read_commonsense_conversation(raw: list[Path], options: ReadOptions, account: Account) -> Rows:
    """Commonsense Conversation (Reddit): post → response, from trainset.txt and testset.txt.

    One JSON object a line, whose `post` and `response` are lists of words. As by the published counts
    (3,382,137 / 2,048 / 10,000), the first 2,048 training rows are for validation and the first 10,000 of the
    test file for testing; which rows were published is not documented.
    """
    test_rows, valid_rows = _held_out(options, 10_000, 2_048)
    train = find_one(
        raw, ("trainset.txt", "train*.json*"), "training file of Commonsense Conversation", account
    )
    for split, pair in split_by_order(_posts(train, account), 0, valid_rows):
        yield split, pair
    if has_any(raw, ["testset.txt", "test*.json*"]):
        test = find_one(raw, ("testset.txt", "test*.json*"), "test file", account)
        for number, pair in enumerate(_posts(test, account)):
            if number < test_rows:
                yield "test", pair
            else:
                account.left_out[f"test rows after the first {test_rows:,}"] += 1


def read_dialogue(raw: list[Path], options: ReadOptions, account: Account) -> Rows:
    """Utterance → reply, from files with one conversation a line and `__eou__` after each utterance.

    Files named dialogues_train.txt, dialogues_validation.txt and dialogues_test.txt keep their splits
    (DailyDialog); any other file is split by a hash of the utterance.
    """
    names = {split: [f"dialogues_{name}.txt" for name in aliases] for split, aliases in SPLIT_NAMES.items()}
    if has_any(raw, names["train"]):
        for split in ("valid", "test"):
            refuse_held_out(options, split)
        for split, patterns in names.items():
            if has_any(raw, patterns):
                for pair in _replies(find_one(raw, tuple(patterns), "file of dialogues", account), account):
                    yield split, pair
        return
    path = find_one(raw, ("*.txt",), "file of dialogues", account)
    yield from split_by_source(_replies(path, account), options.valid_share, options.test_share)


def _held_out(options: ReadOptions, test_rows: int, valid_rows: int) -> tuple[int, int]:
    """How many rows to hold out for testing and validation: as asked, or as published."""
    asked = (options.test_rows, options.valid_rows)
    if any(rows is not None and rows < 0 for rows in asked):
        raise InputError("A number of rows to hold out is negative; give 0 or more.")
    return tuple(  # type: ignore[return-value]
        published if rows is None else rows
        for rows, published in zip(asked, (test_rows, valid_rows), strict=True)
    )


def _duplicates(path: Path, options: ReadOptions, account: Account) -> Iterator[Pair]:
    for place, row in delimited_rows(path, "," if ending(path) == ".csv" else "\t", options, account):
        try:
            label = checked_text(row.get("is_duplicate"), "is_duplicate")
            if label not in ("0", "1"):
                raise BadRowError("the field 'is_duplicate' is neither 0 nor 1")
            if label == "0":
                account.left_out["pairs that are not duplicates"] += 1
                continue
            source, target = (checked_text(row.get(name), name) for name in ("question1", "question2"))
        except BadRowError as reason:
            account.bad_row(place, reason)
            continue
        yield Pair(source, target, (target,))


def _wiki_auto_files(
    raw: list[Path], names: tuple[str, ...], account: Account
) -> list[tuple[Path, Path | None]]:
    """(file of sources, file of targets), or (a tsv, None), of one split."""
    for name in names:
        if has_any(raw, [f"{name}.src"]):
            return [
                (
                    find_one(raw, (f"{name}.src",), "file of complex sentences", account),
                    find_one(raw, (f"{name}.dst",), "file of simple sentences", account),
                )
            ]
        if has_any(raw, [f"{name}.tsv"]):
            return [(find_one(raw, (f"{name}.tsv",), "tsv file", account), None)]
    return []


def _wiki_auto_pairs(
    files: list[tuple[Path, Path | None]], options: ReadOptions, account: Account
) -> Iterator[Pair]:
    for sources, targets in files:
        for place, *sides in _parallel(sources, targets) if targets else _aligned(sources, options, account):
            try:
                source, target = (
                    checked_text(decode(side).replace("<SEP>", " "), name)
                    for side, name in zip(sides, ("complex", "simple"), strict=True)
                )
            except BadRowError as reason:
                account.bad_row(place, reason)
                continue
            yield Pair(" ".join(source.split()), " ".join(target.split()), (" ".join(target.split()),))


def _parallel(sources: Path, targets: Path) -> Iterator[tuple[str, bytes, bytes]]:
    for source, target in zip_longest(numbered_lines(sources), numbered_lines(targets)):
        if source is None or target is None:
            place = (source or target)[0]
            raise InputError(
                f"{sources} and {targets} have different numbers of lines (one ends before {place}); "
                "give two files that belong together."
            )
        yield source[0], source[1], target[1]


def _aligned(path: Path, options: ReadOptions, account: Account) -> Iterator[tuple[str, bytes, bytes]]:
    for place, line in numbered_lines(path):
        cells = line.split(b"\t")
        if len(cells) == 2:
            yield place, cells[0], cells[1]
        elif len(cells) in (5, 6):
            label = cells[0].decode("utf-8", "replace")
            if label in options.alignments:
                yield place, cells[4], cells[3]
            else:
                account.left_out[f"pairs with the label {label[:40]!r}"] += 1
        else:
            account.bad_row(place, BadRowError(f"the row has {len(cells)} columns instead of 2, 5 or 6"))


def _passages_with_answer(questions: Path, contexts: Path, most: int, account: Account) -> Iterator[Pair]:
    for asked, found in zip_longest(numbered_lines(questions), numbered_lines(contexts)):
        if asked is None or found is None:
            raise InputError(
                f"{questions} and {contexts} have different numbers of lines; give two files of one release."
            )
        try:
            question, passages = _quasar_rows(parse_json(decode(asked[1])), parse_json(decode(found[1])))
        except BadRowError as reason:
            account.bad_row(asked[0], reason)
            continue
        if not passages:
            account.left_out["questions without a passage that holds the answer"] += 1
        for passage in passages[:most]:
            yield Pair(passage, question, (question,))


def _quasar_rows(asked: Any, found: Any) -> tuple[str, list[str]]:
    """A question, and the passages that hold its answer, best first."""
    asked, found = as_object(asked), as_object(found)
    if asked.get("uid") != found.get("uid"):
        raise BadRowError("the uid of the question is not the uid of the contexts in the same line")
    question = checked_text(asked.get("question"), "question")
    answer = _words(checked_text(asked.get("answer"), "answer"))
    contexts = found.get("contexts")
    if not isinstance(contexts, list) or not all(_is_scored_text(context) for context in contexts):
        raise BadRowError("the field 'contexts' is not a list of [score, text]")
    ranked = sorted(contexts, key=lambda context: -context[0])  # stable: ties keep the order of the release
    return question, [
        " ".join(text.split()) for _, text in ranked if answer.strip() and answer in _words(text)
    ]


def _is_scored_text(context: Any) -> bool:
    return (
        isinstance(context, list)
        and len(context) == 2
        and isinstance(context[0], int | float)
        and isinstance(context[1], str)
    )


def _words(text: str) -> str:
    """The words in lower case between single blanks, so that `in` finds whole words only."""
    words = " ".join(re.findall(r"\w+", text.lower()))
    return f" {words} "


def _posts(path: Path, account: Account) -> Iterator[Pair]:
    for place, line in numbered_lines(path):
        try:
            row = as_object(parse_json(decode(line)))
            source, target = (checked_text(_joined(row.get(name)), name) for name in ("post", "response"))
        except BadRowError as reason:
            account.bad_row(place, reason)
            continue
        yield Pair(source, target, (target,))


def _joined(words: Any) -> Any:
    if isinstance(words, list) and all(isinstance(word, str) for word in words):
        return " ".join(words)
    return words


def _replies(path: Path, account: Account) -> Iterator[Pair]:
    for place, line in numbered_lines(path):
        try:
            utterances = [part for part in decode(line).split("__eou__") if part.strip()]
            if len(utterances) < 2:
                raise BadRowError("the conversation has fewer than two utterances")
            texts = [" ".join(checked_text(utterance, "utterance").split()) for utterance in utterances]
        except BadRowError as reason:
            account.bad_row(place, reason)
            continue
        for source, target in pairwise(texts):
            yield Pair(source, target, (target,))
