import gzip
import io
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffuseq.data import pairs
from diffuseq.data.pairs import BadRows, Pair, find_split, read_pairs, read_questions, read_sources
from diffuseq.errors import InputError


def write(folder: Path, *rows: object, name: str = "train.jsonl") -> Path:
    """Rows as lines: bytes as they are, anything else as JSON."""
    path = folder / name
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


@pytest.mark.parametrize(
    "row",
    [
        {"src": "a b", "trg": "c"},
        {"source": " a b ", "target": "c\n"},
        {"translation": {"de": "a b", "en": "c"}},
        {"src": "a b", "trg": "c", "refs": None, "id": 7},
    ],
)
def test_every_spelling_of_a_row_gives_the_same_pair(tmp_path: Path, row: dict) -> None:
    assert list(read_pairs(write(tmp_path, row))) == [Pair("a b", "c", ("c",))]


def test_named_languages_choose_the_direction_of_a_translation(tmp_path: Path) -> None:
    path = write(tmp_path, {"translation": {"de": "ja", "en": "yes", "fr": "oui"}})
    assert next(read_pairs(path, translation=("fr", "de"))) == Pair("oui", "ja", ("ja",))


def test_references_are_read_under_both_names(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        {"src": "a", "trg": "b", "refs": ["b", "c"]},
        {"src": "a", "trg": "b", "references": "d"},
    )
    assert [pair.references for pair in read_pairs(path)] == [("b", "c"), ("d",)]


BAD_ROWS = {
    "not JSON": (b"{nope", "not JSON"),
    "not an object": ([1, 2], "not a JSON object"),
    "a missing field": ({"src": "a"}, "'trg' is missing"),
    "an empty field": ({"src": "a", "trg": " "}, "'trg' is empty"),
    "a number": ({"source": 3, "target": "b"}, "'source' is not a text"),
    "no known field": ({"question": "a"}, "translation, which `diffuseq prepare columns` makes"),
    "not UTF-8": (b'{"src": "\xff", "trg": "b"}', "not UTF-8"),
    "one language": ({"translation": {"en": "a"}}, "two languages"),
    "references that are no list": ({"src": "a", "trg": "b", "refs": 3}, "not a list"),
    "an empty reference": ({"src": "a", "trg": "b", "refs": [""]}, "'refs' is empty"),
    "half of a surrogate pair": (b'{"src": "\\ud800", "trg": "b"}', "not valid UTF-8"),
    "nesting without end": (b"[" * 100_000, "not JSON"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_is_reported_with_file_line_and_reason(tmp_path: Path, name: str) -> None:
    row, reason = BAD_ROWS[name]
    path = write(tmp_path, {"src": "a", "trg": "b"}, row)
    with pytest.raises(InputError) as error:
        list(read_pairs(path))
    assert f"{path}:2" in str(error.value)
    assert reason in str(error.value)


def test_skipped_rows_are_counted_by_reason_and_never_lost(tmp_path: Path) -> None:
    good = {"src": "a", "trg": "b"}
    path = write(tmp_path, good, *(row for row, _ in BAD_ROWS.values()), b"", good)
    report = BadRows()
    assert len(list(read_pairs(path, skip_bad_rows=True, report=report))) == 2
    assert report.total == len(BAD_ROWS)
    assert report.counts["the line is not JSON"] == 2
    assert f"skipped 2 rows: the line is not JSON (first: {path}:2)" in report.lines()


def test_an_overlong_line_is_refused_without_being_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs, "MAX_LINE_BYTES", 100)
    path = write(tmp_path, {"src": "a" * 1000, "trg": "b"}, {"src": "a", "trg": "b"})
    report = BadRows()
    assert list(read_pairs(path, skip_bad_rows=True, report=report)) == [Pair("a", "b", ("b",))]
    assert list(report.counts) == ["the line is longer than 100 bytes"]


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    path = write(tmp_path, b'\xef\xbb\xbf{"src": "a", "trg": "b"}\r', b'{"src": "c", "trg": "d"}\r')
    assert [pair.source for pair in read_pairs(path)] == ["a", "c"]


def test_a_compressed_file_is_read_and_a_damaged_one_is_an_error(tmp_path: Path) -> None:
    packed = gzip.compress(b'{"src": "a", "trg": "b"}\n' * 1000)
    whole, damaged = tmp_path / "a.jsonl.gz", tmp_path / "b.jsonl.gz"
    whole.write_bytes(packed)
    damaged.write_bytes(packed[:-20])
    assert len(list(read_pairs(whole))) == 1000
    with pytest.raises(InputError, match="cannot be read"):
        list(read_pairs(damaged))


@pytest.mark.parametrize("path", ["nowhere.jsonl", ".", "a\0b"])
def test_a_file_that_cannot_be_opened_is_one_sentence(path: str) -> None:
    with pytest.raises(InputError):
        list(read_pairs(path))


def test_splits_are_found_under_their_usual_names(tmp_path: Path) -> None:
    write(tmp_path, {}, name="train.jsonl")
    write(tmp_path, {}, name="dev.jsonl")
    assert find_split(tmp_path, "train").name == "train.jsonl"
    assert find_split(tmp_path, "valid").name == "dev.jsonl"
    with pytest.raises(InputError, match=r"no test\.jsonl \(there is: dev\.jsonl, train\.jsonl\)"):
        find_split(tmp_path, "test")
    with pytest.raises(InputError, match="no folder"):
        find_split(tmp_path / "absent", "train")
    with pytest.raises(InputError, match="is a file"):
        find_split(tmp_path / "train.jsonl", "train")


def test_a_split_is_found_and_read_with_its_ending_in_capitals(tmp_path: Path) -> None:
    write(tmp_path, {"src": "a", "trg": "b"}, name="TRAIN.JSONL")
    (tmp_path / "Dev.jsonl.GZ").write_bytes(gzip.compress(b'{"src": "c", "trg": "d"}'))
    read = {split: next(read_pairs(find_split(tmp_path, split))).source for split in ("train", "valid")}
    assert read == {"train": "a", "valid": "c"}
    with pytest.raises(InputError, match=r"no test\.jsonl \(there is: Dev\.jsonl\.GZ, TRAIN\.JSONL\)"):
        find_split(tmp_path, "test")
    write(tmp_path, {}, name="train.jsonl")
    assert find_split(tmp_path, "train").name == "train.jsonl"


def test_sources_are_read_from_plain_text_and_from_jsonl(tmp_path: Path) -> None:
    plain, rows = tmp_path / "a.txt", tmp_path / "b.jsonl"
    plain.write_text("how are you\nwhat is {this}\n", "utf-8")
    rows.write_text('{"src": "a"}\n{"source": "b", "target": ""}\n{"translation": {"de": "c", "en": "d"}}\n')
    assert list(read_sources(plain)) == ["how are you", "what is {this}"]
    assert list(read_sources(rows)) == ["a", "b", "c"]


def test_sources_come_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"src": "a"}\n{"src": "b"}\n')))
    assert list(read_sources("-")) == ["a", "b"]


def test_an_empty_source_line_is_named_so_that_answers_keep_their_places(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\n\ntwo\n")
    with pytest.raises(InputError, match=r"a\.txt:2"):
        list(read_sources(path))
    assert list(read_sources(path, skip_bad_rows=True)) == ["one", "two"]


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["src", "trg", "translation", "refs", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
)
without_mark = st.binary(max_size=60).filter(lambda line: not line.startswith((b"\xff\xfe", b"\xfe\xff")))
lines = without_mark | json_values.map(lambda value: json.dumps(value).encode())


@settings(max_examples=200, deadline=None)
@given(rows=st.lists(lines, max_size=5))
def test_no_bytes_make_a_reader_fail_with_anything_but_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, rows: list[bytes]
) -> None:
    path = tmp_path_factory.getbasetemp() / "random.jsonl"
    path.write_bytes(b"\n".join(rows))
    report = BadRows()
    kept = list(read_pairs(path, skip_bad_rows=True, report=report))
    assert all(isinstance(pair, Pair) and pair.source and pair.target and pair.references for pair in kept)
    lines_written = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    blank = sum(not line.decode("utf-8", "replace").strip() for line in lines_written)
    assert len(kept) + report.total == len(lines_written) - blank
    for reader in (read_pairs, read_sources):
        try:
            list(reader(path))
        except InputError as error:
            assert str(path) in str(error)


@pytest.mark.parametrize("reader", [read_pairs, read_sources])
@pytest.mark.parametrize("name", ["pairs.csv", "pairs.TSV", "pairs.csv.gz", "PAIRS.CSV.GZ", "pairs.parquet"])
def test_a_table_is_neither_taken_for_texts_nor_for_broken_json(name: str, reader: object) -> None:
    with pytest.raises(InputError, match=rf"{name} is a table.* `diffuseq prepare columns {name} "):
        next(reader(name))  # type: ignore[operator]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf_16_is_told_whether_bad_rows_are_skipped_or_not(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes("\ufeff".encode(encoding) * (encoding != "utf-16") + '{"src": "a"}\n'.encode(encoding))
    for skip in (False, True):
        with pytest.raises(InputError, match=r"train.jsonl is in UTF-16; save it as UTF-8"):
            list(read_sources(path, skip))


def test_a_list_in_one_json_value_is_not_taken_for_texts(tmp_path: Path) -> None:
    path = tmp_path / "questions.json"
    path.write_text(json.dumps([{"src": "a"}], indent=1))
    with pytest.raises(InputError, match=r"questions.json:1: the line is not JSON"):
        list(read_sources(path))


def test_a_split_may_be_compressed(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "validation.jsonl.gz", "wt") as file:
        file.write(json.dumps({"src": "a", "trg": "b"}) + "\n")
    assert next(read_pairs(find_split(tmp_path, "valid"))).target == "b"
    with pytest.raises(InputError, match=r"no train.jsonl \(there is: validation.jsonl.gz\)"):
        find_split(tmp_path, "train")


def test_one_list_in_a_file_is_told_and_splits_may_be_called_json(tmp_path: Path) -> None:
    rows = [{"src": "a", "trg": "b"}]
    for text in (json.dumps(rows), json.dumps(rows, indent=1), json.dumps(rows[0], indent=1)):
        (tmp_path / "train.json").write_text(text)
        for read in (read_pairs, read_questions):
            with pytest.raises(InputError, match=r"train.json:1: .*; one JSON object a line is read here"):
                list(read(tmp_path / "train.json"))
    (tmp_path / "train.json").write_text("[" + " " * 10_000_001)
    with pytest.raises(InputError, match=r"longer than .*; one JSON object a line is read here"):
        list(read_pairs(tmp_path / "train.json"))
    assert find_split(tmp_path, "train") == tmp_path / "train.json"
