import csv
import gzip
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffuseq.data.pairs import Pair, read_pairs
from diffuseq.data.reading import Account, ReadOptions
from diffuseq.data.tasks import TASKS, prepare
from diffuseq.errors import InputError

QQP_HEADER = ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"]


def write_tsv(path: Path, rows: list[list[str]], delimiter: str = "\t") -> Path:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows(rows)
    return path


def write_lines(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def sides(folder: Path, split: str) -> list[tuple[str, str]]:
    return [(pair.source, pair.target) for pair in read_pairs(folder / f"{split}.jsonl")]


def small(**changes: object) -> ReadOptions:
    return ReadOptions(**{"test_rows": 1, "valid_rows": 1, **changes})  # type: ignore[arg-type]


@pytest.fixture
def qqp(tmp_path: Path) -> Path:
    rows = [[str(i), "1", "2", f'what "is" {i}?', f"line one\nof {i}", str(i % 2)] for i in range(10)]
    return write_tsv(tmp_path / "quora_duplicate_questions.tsv", [QQP_HEADER, *rows])


def test_qqp_keeps_the_duplicates_in_file_order(qqp: Path, tmp_path: Path) -> None:
    manifest = prepare("qqp", [qqp], tmp_path / "out", small(test_rows=2))
    assert manifest.counts == {"train": 2, "valid": 1, "test": 2}
    assert manifest.left_out == {"pairs that are not duplicates": 5}
    assert sides(tmp_path / "out", "test")[0] == ('what "is" 1?', "line one\nof 1")
    assert [source for source, _ in sides(tmp_path / "out", "train")] == ['what "is" 7?', 'what "is" 9?']


def test_the_published_sizes_are_held_out_by_default(tmp_path: Path) -> None:
    rows = [[str(i), "1", "2", f"a {i}", f"b {i}", "1"] for i in range(4_600)]
    path = write_tsv(tmp_path / "q.tsv", [QQP_HEADER, *rows])
    manifest = prepare("qqp", [path], tmp_path / "out")
    assert manifest.counts == {"train": 4_600 - 2_500 - 2_048, "valid": 2_048, "test": 2_500}


def test_the_manifest_says_what_was_made_from_what(qqp: Path, tmp_path: Path) -> None:
    prepare("qqp", [qqp], tmp_path / "out", small())
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["counts"] == {"train": 3, "valid": 1, "test": 1}
    assert manifest["sources"][0]["name"] == qqp.name
    assert len(manifest["sources"][0]["sha256"]) == len(manifest["files"]["train.jsonl"]) == 64


def test_existing_splits_are_refused_unless_they_may_be_overwritten(qqp: Path, tmp_path: Path) -> None:
    prepare("qqp", [qqp], tmp_path / "out", small())
    with pytest.raises(InputError, match="--overwrite"):
        prepare("qqp", [qqp], tmp_path / "out", small())
    prepare("qqp", [qqp], tmp_path / "out", small(test_rows=0), overwrite=True)
    assert not (tmp_path / "out" / "test.jsonl").exists(), "a split of the earlier data must not stay"


def test_the_raw_data_are_not_replaced_by_their_splits(tmp_path: Path) -> None:
    raw = write_lines(
        tmp_path / "train.jsonl", *(json.dumps({"q": f"why {i}?", "a": "so"}) for i in range(9))
    )
    before = raw.read_bytes()
    other = write_lines(tmp_path / "other.jsonl", json.dumps({"q": "who?", "a": "me"}))
    for named in ({"raw": [raw]}, {"raw": [other], "valid_files": (str(raw),)}):
        options = columns(source_column="q", target_column="a", valid_files=named.get("valid_files", ()))
        with pytest.raises(InputError, match=r"train.jsonl is what is read; give --out another name"):
            prepare("columns", named["raw"], tmp_path, options, overwrite=True)
    assert raw.read_bytes() == before


def test_a_failure_leaves_no_file_behind(tmp_path: Path) -> None:
    good = ["1", "1", "2", "a", "b", "1"]
    path = write_tsv(tmp_path / "q.tsv", [QQP_HEADER, good, good, good, ["9", "1", "2", "", "b", "1"]])
    with pytest.raises(InputError, match=r"q\.tsv:5: the field 'question1' is empty"):
        prepare("qqp", [path], tmp_path / "out", small())
    assert not any((tmp_path / "out").iterdir())
    account = Account(skip_bad_rows=True)
    assert prepare("qqp", [path], tmp_path / "out", small(), account=account).counts["train"] == 1
    assert account.bad.counts == {"the field 'question1' is empty": 1}


def test_rows_of_the_wrong_width_or_encoding_are_bad_rows(tmp_path: Path) -> None:
    path = write_tsv(tmp_path / "q.tsv", [QQP_HEADER, *([["1", "1", "2", "a", "b", "1"]] * 3)])
    with open(path, "ab") as file:
        file.write(b"1\t2\t3\n1\t1\t2\t\xff\tb\t1\n1\t1\t2\ta\tb\tmaybe\n")
    account = Account(skip_bad_rows=True)
    prepare("qqp", [path], tmp_path / "out", small(), account=account)
    assert {reason.partition(" (")[0] for reason in account.bad.counts} == {
        "the row has 3 columns, the header 6",
        "the field 'question1' is not valid UTF-8",
        "the field 'is_duplicate' is neither 0 nor 1",
    }


def test_wiki_auto_reads_parallel_files_and_joins_split_sentences(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write_lines(raw / "train.src", *(f"complex {i}" for i in range(4)))
    write_lines(raw / "train.dst", *(f"simple {i} <SEP> more" for i in range(4)))
    assert prepare("wiki-auto", [raw], tmp_path / "out", small()).counts == {
        "train": 2,
        "valid": 1,
        "test": 1,
    }
    assert sides(tmp_path / "out", "test") == [("complex 0", "simple 0 more")]
    write_lines(raw / "train.dst", "only one")
    with pytest.raises(InputError, match="different numbers of lines"):
        prepare("wiki-auto", [raw], tmp_path / "other", small())


def test_wiki_auto_keeps_aligned_rows_and_the_splits_of_the_release(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    ids = "1-0-0-0\t1-1-0-0"
    write_lines(
        raw / "train.tsv",
        f"aligned\t{ids}\tsimple a\tcomplex a\t0.5",
        f"notAligned\t{ids}\tsimple b\tcomplex b\t0.1",
        f"partialAligned\t{ids}\tsimple c\tcomplex c",
    )
    write_lines(raw / "dev.tsv", "complex d\tsimple d")
    manifest = prepare("wiki-auto", [raw], tmp_path / "out")
    assert sides(tmp_path / "out", "train") == [("complex a", "simple a"), ("complex c", "simple c")]
    assert sides(tmp_path / "out", "valid") == [("complex d", "simple d")]
    assert manifest.left_out == {"pairs with the label 'notAligned'": 1}


def quasar(raw: Path, split: str, question: str, answer: str, contexts: list) -> None:
    asked = {"uid": "s1q0", "question": question, "answer": answer, "tags": []}
    write_lines(raw / "questions" / f"{split}_questions.json.gz", json.dumps(asked))
    found = {"uid": "s1q0", "contexts": contexts}
    for kind in ("short", "long"):
        write_lines(raw / "contexts" / kind / f"{split}_contexts.json.gz", json.dumps(found))


def test_quasar_takes_the_best_passages_that_hold_the_answer(tmp_path: Path) -> None:
    contexts = [
        [0.2, "it is  Paris , France"],
        [0.9, "the Parisian way"],
        [0.8, "paris !"],
        [0.1, "PARIS again"],
    ]
    quasar(tmp_path / "raw", "train", "which capital ?", "Paris", contexts)
    quasar(tmp_path / "raw", "dev", "who ?", "nobody", contexts)
    quasar(tmp_path / "raw", "test", "what ?", "way", contexts)
    manifest = prepare("quasar-t", [tmp_path / "raw"], tmp_path / "out", ReadOptions(contexts=2))
    assert sides(tmp_path / "out", "train") == [
        ("paris !", "which capital ?"),
        ("it is Paris , France", "which capital ?"),
    ]
    assert manifest.counts == {"train": 2, "test": 1}
    assert manifest.left_out == {"questions without a passage that holds the answer": 1}
    assert {source["name"] for source in manifest.sources} >= {"train_contexts.json.gz"}


def test_commonsense_conversation_joins_words_and_holds_out_training_rows(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    rows = [json.dumps({"post": ["hi", str(i)], "response": ["yes", "!"], "triples": []}) for i in range(3)]
    write_lines(raw / "trainset.txt", *rows)
    write_lines(raw / "testset.txt", *rows)
    manifest = prepare("commonsense-conversation", [raw], tmp_path / "out", small())
    assert manifest.counts == {"train": 2, "valid": 1, "test": 1}
    assert sides(tmp_path / "out", "valid") == [("hi 0", "yes !")]
    assert manifest.left_out == {"test rows after the first 1": 2}


def test_dialogues_become_utterances_with_their_replies(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write_lines(raw / "train" / "dialogues_train.txt", "Hi . __eou__ Hello ! __eou__ Bye . __eou__")
    write_lines(raw / "test" / "dialogues_test.txt", "A __eou__ B __eou__")
    assert prepare("dialogue", [raw], tmp_path / "out").counts == {"train": 2, "test": 1}
    assert sides(tmp_path / "out", "train") == [("Hi .", "Hello !"), ("Hello !", "Bye .")]


def columns(**changes: object) -> ReadOptions:
    shares = {"valid_share": 0.0, "test_share": 0.0}
    names = {"source_column": "question", "target_column": "answer"}
    return ReadOptions(**{**names, **shares, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("delimiter, name", [(",", "a.csv"), ("\t", "a.tsv")])
def test_any_table_is_read_by_the_names_of_its_columns(tmp_path: Path, delimiter: str, name: str) -> None:
    path = write_tsv(tmp_path / name, [["n", "answer", "question"], ["1", "b, c", "a\td"]], delimiter)
    prepare("columns", [path], tmp_path / "out", columns())
    assert sides(tmp_path / "out", "train") == [("a\td", "b, c")]


@pytest.mark.parametrize("name", ["A.CSV", "a.Tsv", "A.JSONL", "A.CSV.GZ", "a.csv.Gz", "A.PARQUET"])
def test_endings_in_capitals_mean_what_they_mean_in_small_letters(tmp_path: Path, name: str) -> None:
    row, path = {"question": "a", "answer": "b"}, tmp_path / name
    if name == "A.PARQUET":
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(__import__("pyarrow").Table.from_pylist([row]), path)
    else:
        text = json.dumps(row) if name == "A.JSONL" else "\n".join("\t".join(x) for x in (row, row.values()))
        path.write_bytes(gzip.compress(text.encode()) if name.lower().endswith("gz") else text.encode())
    prepare("columns", [path], tmp_path / "out", columns())
    assert sides(tmp_path / "out", "train") == [("a", "b")]


@pytest.mark.parametrize("name", ["Q.TSV", "Q.CSV", "q.tsv.gz", "Q.TSV.GZ"])
def test_a_release_may_be_named_in_capitals_and_compressed(tmp_path: Path, qqp: Path, name: str) -> None:
    content = qqp.read_bytes()
    qqp.unlink()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.lower().endswith(".gz") else content)
    for number, raw in enumerate((tmp_path, tmp_path / name)):
        assert prepare("qqp", [raw], tmp_path / f"{number}", small()).counts == {
            "train": 3, "valid": 1, "test": 1,
        }  # fmt: skip


def test_parquet_and_nested_columns_and_references_are_read(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"translation": {"de": "ja", "en": "yes"}, "more": ["yes", "yeah"]}]
    table = pytest.importorskip("pyarrow").Table.from_pylist(rows)
    parquet.write_table(table, tmp_path / "a.parquet")
    options = columns(source_column="translation.de", target_column="translation.en", reference_column="more")
    prepare("columns", [tmp_path / "a.parquet"], tmp_path / "out", options)
    assert list(read_pairs(tmp_path / "out" / "train.jsonl")) == [Pair("ja", "yes", ("yes", "yeah"))]


def test_further_right_answers_stand_behind_the_target_once(tmp_path: Path) -> None:
    rows = [
        {"question": "a", "answer": "b", "alt": ["c", "b", "c"]},
        {"question": "d", "answer": "e", "alt": "f"},
        {"question": "g", "answer": "h", "alt": "h"},
    ]
    path = write_lines(tmp_path / "a.jsonl", *map(json.dumps, rows))
    prepare("columns", [path], tmp_path / "out", columns(reference_column="alt"))
    assert [pair.references for pair in read_pairs(tmp_path / "out" / "train.jsonl")] == [
        ("b", "c"),
        ("e", "f"),
        ("h",),
    ]


def test_rows_to_hold_out_are_refused_where_sources_are_held_out(tmp_path: Path) -> None:
    path = write_tsv(tmp_path / "a.csv", [["question", "answer"], ["a", "b"]], ",")
    with pytest.raises(InputError, match=r"valid_rows is 1, but columns .* --valid-share .* --valid-files"):
        prepare("columns", [path], tmp_path / "out", columns(valid_rows=1))
    with pytest.raises(InputError, match=r"test_rows is 0, but dialogue .* --test-share"):
        prepare(
            "dialogue", [write_lines(tmp_path / "a.txt", "x")], tmp_path / "out", ReadOptions(test_rows=0)
        )


def test_a_broken_parquet_file_is_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow.parquet")
    (tmp_path / "a.parquet").write_bytes(b"PAR1 nothing of the kind")
    with pytest.raises(InputError, match="cannot be read as a data set"):
        prepare("columns", [tmp_path / "a.parquet"], tmp_path / "out", columns())


def test_given_files_are_the_splits_and_shares_go_by_source(tmp_path: Path) -> None:
    rows = [json.dumps({"question": f"q {i % 200}", "answer": str(i)}) for i in range(600)]
    path = write_lines(tmp_path / "a.jsonl", *rows)
    held = write_lines(tmp_path / "b.jsonl", json.dumps({"question": "x", "answer": "y"}))
    options = columns(valid_files=(str(held),), test_share=0.2)
    manifest = prepare("columns", [path], tmp_path / "out", options)
    assert manifest.counts["valid"] == 1
    assert 60 < manifest.counts["test"] < 180
    train, test = ({source for source, _ in sides(tmp_path / "out", split)} for split in ("train", "test"))
    assert not train & test


def test_mistakes_with_columns_say_what_to_do(tmp_path: Path) -> None:
    path = write_tsv(tmp_path / "a.csv", [["question", "answer"], ["a", "b"]], ",")
    with pytest.raises(InputError, match=r"column in .*a\.csv:2 'questoin'.*Did you mean 'question'"):
        prepare("columns", [path], tmp_path / "out", columns(source_column="questoin"))
    with pytest.raises(
        InputError, match=r"skipped 1 row: the row has no column 'questoin' \(first: .*a\.csv:2"
    ):
        wrong = columns(source_column="questoin")
        prepare("columns", [path], tmp_path / "out", wrong, account=Account(skip_bad_rows=True))
    with pytest.raises(InputError, match="--source-column"):
        prepare("columns", [path], tmp_path / "out", ReadOptions())
    with pytest.raises(InputError, match="nothing to train"):
        prepare("columns", [path], tmp_path / "out", columns(test_share=1.0))
    with pytest.raises(InputError, match="none of the tables"):
        prepare("columns", [write_lines(tmp_path / "a.txt", "x")], tmp_path / "out", columns())


def test_a_column_that_stands_twice_is_refused_where_it_is_asked_for(tmp_path: Path) -> None:
    rows = [["question", "answer", "note", "note"], ["a", "b", "c", "d"]]
    free = columns(valid_share=0, test_share=0)
    path = write_tsv(tmp_path / "a.csv", rows, ",")
    assert prepare("columns", [path], tmp_path / "out", free).counts == {"train": 1}
    with pytest.raises(
        InputError, match=r"a\.csv:1 has 2 columns called 'note'; give each a name of its own"
    ):
        prepare("columns", [path], tmp_path / "new", columns(target_column="note"))
    arrow = pytest.importorskip("pyarrow")
    table = arrow.table([["a"], ["b"], ["c"]], names=["question", "answer", "answer"])
    pytest.importorskip("pyarrow.parquet").write_table(table, tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet has 2 columns called 'answer'"):
        prepare("columns", [tmp_path / "a.parquet"], tmp_path / "new", columns())


def test_blank_lines_of_jsonl_are_no_rows(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", json.dumps({"question": "a", "answer": "b"}), "", "  ")
    assert prepare("columns", [path], tmp_path / "out", columns(valid_share=0, test_share=0)).counts == {
        "train": 1
    }


def test_a_row_without_a_column_is_a_bad_row(tmp_path: Path) -> None:
    rows = [{"answer": "b"}, {"question": "a", "answer": "b"}, {"question": "c", "answer": None}]
    path = write_lines(tmp_path / "a.jsonl", *map(json.dumps, rows))
    with pytest.raises(InputError, match=r"Unknown column in .*a\.jsonl:1 'question'; choose one of: answer"):
        prepare("columns", [path], tmp_path / "out", columns(valid_share=0, test_share=0))
    account = Account(skip_bad_rows=True)
    options = columns(valid_share=0, test_share=0)
    manifest = prepare("columns", [path], tmp_path / "out", options, account=account)
    assert manifest.counts == {"train": 1}
    assert manifest.skipped == {"the row has no column 'question'": 1, "the field 'answer' is not a text": 1}


def test_a_folder_of_tables_is_no_table(tmp_path: Path) -> None:
    options = small(source_column="a", target_column="b", test_rows=None, valid_rows=None)
    with pytest.raises(InputError, match=r"data is a folder; name the tables in it .*--valid-files"):
        (tmp_path / "data").mkdir()
        prepare("columns", [tmp_path / "data"], tmp_path / "out", options)


def test_a_pipe_is_refused_for_what_is_read_twice(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    options = small(source_column="a", target_column="b", test_rows=None, valid_rows=None)
    table = write_lines(tmp_path / "a.csv", "a,b", "x,y")
    for raw, more in ((tmp_path / "pipe.csv", {}), (table, {"test_files": (str(tmp_path / "pipe.csv"),)})):
        with pytest.raises(InputError, match=r"pipe\.csv is no plain file, which is read twice"):
            prepare("columns", [raw], tmp_path / "out", replace(options, **more))


def test_a_text_alone_is_no_list_of_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"raw is one text, 'a\.csv'; give a list, \('a\.csv',\) say"):
        prepare("columns", "a.csv", tmp_path / "out")
    with pytest.raises(InputError, match="valid_files is one text, 'v"):
        prepare("columns", ["a.csv"], tmp_path / "out", ReadOptions(valid_files="v.csv"))  # type: ignore[arg-type]


def test_without_the_optional_package_the_message_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(InputError, match=r"pip install 'diffuseq\[data\]'"):
        prepare("columns", ["owner/name"], tmp_path / "out", columns())


@pytest.mark.parametrize(
    "name", ["data/mine/pairs", "./pairs", "~/pairs", "/pairs", "../pairs", "no/pairs.csv", "no/PAIRS.CSV"]
)
def test_a_missing_path_is_not_asked_for_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(InputError, match=f"There is no {name}; give a table that exists, or a hub name"):
        prepare("columns", [name], tmp_path / "out", columns())


def test_mistakes_with_the_raw_data_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Did you mean 'qqp'"):
        prepare("qpq", [tmp_path], tmp_path / "out")
    with pytest.raises(InputError, match="There is no"):
        prepare("qqp", [tmp_path / "absent"], tmp_path / "out")
    with pytest.raises(InputError, match="No raw data"):
        prepare("qqp", [], tmp_path / "out")
    for task in sorted(set(TASKS) - {"columns"}):
        with pytest.raises(InputError, match=r"There is no .* in "):
            prepare(task, [tmp_path], tmp_path / "out")
    empty = write_tsv(tmp_path / "q.tsv", [QQP_HEADER])
    with pytest.raises(InputError, match="no pair to train on"):
        prepare("qqp", [empty], tmp_path / "out")


RELEASES = {
    "qqp": ("q.tsv", b"question1\tquestion2\tis_duplicate\n"),
    "wiki-auto": ("train.tsv", b""),
    "commonsense-conversation": ("trainset.txt", b""),
    "dialogue": ("d.txt", b""),
    "columns": ("c.csv", b"question,answer\n"),
}


@settings(max_examples=60, deadline=None)
@given(
    task=st.sampled_from(sorted(RELEASES)),
    content=st.lists(
        st.binary(max_size=30)
        | st.sampled_from([b"a\tb\t1", b'{"post": [1]}', b'"', b"a,b", b"x __eou__ y", b"\x00", b"[[]]"])
    ),
)
def test_no_bytes_make_a_release_fail_with_anything_but_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, task: str, content: list[bytes]
) -> None:
    folder = tmp_path_factory.mktemp("random")
    name, header = RELEASES[task]
    (folder / name).write_bytes(header + b"\n".join(content))
    for skip in (False, True):
        try:
            prepare(task, [folder / name], folder / "out", columns(), account=Account(skip), overwrite=True)
        except InputError:
            continue
        assert (folder / "out" / "manifest.json").is_file()


@pytest.mark.parametrize(
    ("task", "changes", "said"),
    [
        (
            "qqp",
            {"source_column": "a"},
            "source_column is 'a', which does nothing for qqp; it is for columns",
        ),
        ("qqp", {"valid_share": 0.1}, "valid_share is 0.1, .* for columns and dialogue"),
        ("columns", {"contexts": 5}, "contexts is 5, .* for quasar-t"),
        ("quasar-t", {"valid_rows": 5}, "valid_rows is 5, .* for qqp and wiki-auto"),
        ("columns", {"quotes": False, "quoted_lines": 30}, "quoted_lines is 30, but with --no-quotes"),
    ],
)
def test_an_option_that_does_nothing_for_a_task_is_refused(
    task: str, changes: dict[str, object], said: str, tmp_path: Path
) -> None:
    path = write_tsv(tmp_path / "a.csv", [["question", "answer"], ["a", "b"]], ",")
    with pytest.raises(InputError, match=said):
        prepare(task, [path], tmp_path / "out", ReadOptions(**changes))  # type: ignore[arg-type]


def test_nothing_is_said_to_be_held_out_where_the_data_come_in_splits(tmp_path: Path) -> None:
    path = write_tsv(tmp_path / "a.csv", [["question", "answer"], ["a", "b"]], ",")
    held = write_tsv(tmp_path / "b.csv", [["question", "answer"], ["c", "d"]], ",")
    with pytest.raises(InputError, match=r"valid_share is 0.5, but the data come in splits already"):
        prepare("columns", [path], tmp_path / "out", columns(valid_files=(str(held),), valid_share=0.5))
    talk = write_lines(tmp_path / "dialogues_train.txt", "a __eou__ b __eou__")
    with pytest.raises(InputError, match=r"test_share is 0.5, but the data come in splits already"):
        prepare("dialogue", [talk], tmp_path / "out", ReadOptions(test_share=0.5))
    wiki = [write_lines(tmp_path / f"{name}.tsv", "a\tb") for name in ("train", "valid")]
    with pytest.raises(InputError, match="valid_rows is 1, but the data come in splits already"):
        prepare("wiki-auto", wiki, tmp_path / "out", ReadOptions(valid_rows=1))


def test_a_file_that_is_named_twice_and_one_column_for_two_sides_are_refused(tmp_path: Path) -> None:
    path = write_tsv(tmp_path / "a.csv", [["question", "answer"], ["a", "b"]], ",")
    with pytest.raises(InputError, match=r"a.csv is given twice"):
        prepare("columns", [path, tmp_path / "." / "a.csv"], tmp_path / "out", columns())
    with pytest.raises(InputError, match=r"b.csv is given twice"):
        prepare("columns", [path], tmp_path / "out", columns(valid_files=("b.csv", "b.csv")))
    for one, other in (("source", "target"), ("target", "reference"), ("source", "reference")):
        same = {f"{one}_column": "x", f"{other}_column": "x"}
        with pytest.raises(InputError, match=f"--{one}-column and --{other}-column are both 'x'"):
            prepare("columns", [path], tmp_path / "out", columns(**same))


def test_a_csv_without_header_is_told_that_its_first_line_is_read_as_one(tmp_path: Path) -> None:
    path = write_tsv(tmp_path / "a.csv", [["how are you", "fine"], ["a", "b"]], ",")
    with pytest.raises(InputError, match=r"how are you.* \(The first line of .*a.csv is read as its header"):
        prepare("columns", [path], tmp_path / "out", columns())
    path = write_lines(tmp_path / "a.jsonl", json.dumps({"a": "b"}))
    with pytest.raises(InputError, match="Unknown column") as refused:
        prepare("columns", [path], tmp_path / "out", columns())
    assert "its header" not in str(refused.value)


def test_lines_of_json_are_read_from_files_called_json_and_a_list_is_told(tmp_path: Path) -> None:
    rows = [{"question": f"q {i}", "answer": str(i)} for i in range(3)]
    path = write_lines(tmp_path / "a.json", *map(json.dumps, rows))
    assert prepare("columns", [path], tmp_path / "out", columns(valid_share=0.0)).counts["train"] > 0
    for text in (json.dumps(rows), json.dumps(rows, indent=1)):
        path = write_lines(tmp_path / "b.json", text)
        with pytest.raises(InputError, match=r"b.json:1: .* one JSON object a line is read here \(`jq -c"):
            prepare("columns", [path], tmp_path / "two", columns())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((["columns"], ["a.csv"], "out"), "Unknown task"),
        (("columns", None, "out"), "No raw data are given"),
        (("columns", 3, "out"), "raw is of the type int"),
        (("columns", [3], "out"), "A raw file is of the type int"),
        (("columns", ["a.csv"], None), "The folder out is of the type NoneType"),
        (("columns", ["a.csv"], "out", {"source_column": "a"}), "The options are of the type dict"),
    ],
)
def test_arguments_of_another_type_are_one_sentence(arguments: tuple[Any, ...], said: str) -> None:
    with pytest.raises(InputError, match=said):
        prepare(*arguments)
