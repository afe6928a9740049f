import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from diffuseq.data import store as store_module
from diffuseq.data.pairs import Pair
from diffuseq.data.store import TokenStore, build_store
from diffuseq.errors import InputError

UNKNOWN = 2


def encode_batch(texts: list[str]) -> list[list[int]]:
    """A number is its own id; any other word is unknown."""
    return [[int(word) if word.isdigit() else UNKNOWN for word in text.split()] for text in texts]


def pair(source: str, target: str) -> Pair:
    return Pair(source, target, (target,))


def build(path: Path, pairs: object, **changes: object) -> TokenStore:
    settings = {"max_source": 10, "max_target": 10, "vocab_size": 100, "unknown_id": UNKNOWN, **changes}
    return build_store(pairs, encode_batch, path, **settings)  # type: ignore[arg-type]


def numbered(n: int) -> list[Pair]:
    return [pair(" ".join(["7"] * (i % 5 + 1)), " ".join(["9"] * (i % 3 + 1))) for i in range(n)]


def test_a_store_gives_back_every_id_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "CHUNK_PAIRS", 4)
    pairs = numbered(11)
    store = build(tmp_path / "store", iter(pairs))
    assert len(store) == 11
    for i, each in enumerate(pairs):
        source, target = store[i]
        assert [source.tolist(), target.tolist()] == encode_batch([each.source, each.target])
    assert store.source_lengths.tolist() == [len(p.source.split()) for p in pairs]
    assert store.target_lengths.tolist() == [len(p.target.split()) for p in pairs]


def test_ids_take_two_bytes_until_the_vocabulary_needs_four(tmp_path: Path) -> None:
    small = build(tmp_path / "small", [pair("65535", "1")], vocab_size=1 << 16)
    large = build(tmp_path / "large", [pair("65536", "1")], vocab_size=(1 << 16) + 1)
    assert small.tokens.dtype == np.uint16 and small.tokens.tolist() == [65535, 1]
    assert large.tokens.dtype == np.uint32 and large.tokens.tolist() == [65536, 1]


def test_overlong_sides_are_cut_and_counted_or_refused(tmp_path: Path) -> None:
    pairs = [pair("1 2 3 4", "5"), pair("1", "5 6 7 8"), pair("1", "1")]
    store = build(tmp_path / "store", pairs, max_source=3, max_target=2)
    assert [store[0][0].tolist(), store[1][1].tolist()] == [[1, 2, 3], [5, 6]]
    report = store.report
    assert (report.cut_pairs, report.cut_sources, report.cut_targets) == (2, 1, 1)
    assert "cut 2 of 3 pairs" in report.warnings()[0]
    with pytest.raises(InputError, match="Pair 2 has 1 source and 4 target tokens"):
        build(tmp_path / "other", pairs, max_source=5, max_target=2, overlong="refuse")
    assert not (tmp_path / "other").exists()


def pop_one_at_a_time(source: list[int], target: list[int], sequence_length: int) -> tuple[int, int]:
    """The published rule, literally: on the sides with their start tokens."""
    x, y = [0, *source], [0, *target]
    while len(x) + len(y) > sequence_length - 3:
        longer_x, longer_y = len(x) >= len(y), len(y) >= len(x)
        if longer_x:
            x.pop()
        if longer_y:
            y.pop()
    return len(x) - 1, len(y) - 1


def test_the_published_cut_equals_popping_one_token_at_a_time(tmp_path: Path) -> None:
    sizes = [(source, target) for source in range(0, 40, 3) for target in range(0, 40, 2)]
    pairs = [pair("1 " * source, "3 " * target) for source, target in sizes]
    for length in (7, 24, 25):
        store = build(tmp_path / "store", pairs, max_source=length, published_layout=True)
        expected = [pop_one_at_a_time([1] * source, [1] * target, length) for source, target in sizes]
        assert list(zip(store.source_lengths, store.target_lengths, strict=True)) == expected


def test_the_published_layout_cuts_both_sides_to_one_budget(tmp_path: Path) -> None:
    store = build(tmp_path / "s", [pair("1 " * 22, "3 " * 16)], max_source=24, published_layout=True)
    assert (store.source_lengths[0], store.target_lengths[0]) == (9, 9)
    with pytest.raises(InputError, match="19 together"):
        build(
            tmp_path / "r",
            [pair("1 " * 22, "3 " * 16)],
            max_source=24,
            published_layout=True,
            overlong="refuse",
        )


def test_unknown_tokens_are_counted_with_examples(tmp_path: Path) -> None:
    store = build(tmp_path / "store", [pair("1 zebra", "gnu 4"), *numbered(20)])
    assert store.report.unknown_tokens == 2
    assert store.report.unknown_examples == ("zebra", "gnu")
    assert "'zebra', 'gnu'" in store.report.warnings()[0]
    assert build(tmp_path / "fine", [pair("zebra", "4"), *numbered(200)]).report.warnings() == []


def test_a_store_that_was_not_finished_is_not_there(tmp_path: Path) -> None:
    def breaking_off() -> Iterator[Pair]:
        yield pair("1", "1")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "store", breaking_off())
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="no token store"):
        TokenStore.open(tmp_path / "store")


def test_a_failed_rebuild_leaves_the_older_store(tmp_path: Path) -> None:
    build(tmp_path / "store", numbered(3))
    with pytest.raises(InputError, match="Pair 1 "):
        build(tmp_path / "store", [pair("1 " * 11, "1")], overlong="refuse")
    assert len(TokenStore.open(tmp_path / "store")) == 3


def test_building_again_replaces_a_store_but_nothing_else(tmp_path: Path) -> None:
    build(tmp_path / "store", numbered(3))
    assert len(build(tmp_path / "store", numbered(5))) == 5
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match="is no token store"):
        build(tmp_path / "mine", numbered(3))
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize("name", ["tokens.bin", "offsets.bin", "store.json"])
@pytest.mark.parametrize("damage", ["truncated", "emptied", "removed", "garbled"])
def test_a_damaged_store_is_never_opened(tmp_path: Path, name: str, damage: str) -> None:
    build(tmp_path / "store", numbered(6))
    path = tmp_path / "store" / name
    content = path.read_bytes()
    if damage == "removed":
        path.unlink()
    elif damage == "garbled":
        path.write_bytes(bytes(reversed(content)) + b"\xff\xff")
    else:
        path.write_bytes(content[:-3] if damage == "truncated" else b"")
    with pytest.raises(InputError):
        TokenStore.open(tmp_path / "store")


@pytest.mark.parametrize(
    "change", [{"format_version": 9}, {"dtype": "float64"}, {"report": {}}, {"vocab_size": "many"}]
)
def test_a_store_with_a_foreign_description_is_refused(tmp_path: Path, change: dict) -> None:
    build(tmp_path / "store", numbered(2))
    meta = tmp_path / "store" / "store.json"
    meta.write_text(json.dumps({**json.loads(meta.read_text()), **change}))
    with pytest.raises(InputError, match="cannot be used"):
        TokenStore.open(tmp_path / "store")


def test_a_store_of_other_data_is_not_reused(tmp_path: Path) -> None:
    build(tmp_path / "store", numbered(2), identity={"tokenizer": "abc"})
    assert len(TokenStore.open(tmp_path / "store", {"tokenizer": "abc"})) == 2
    with pytest.raises(InputError, match="another tokenizer"):
        TokenStore.open(tmp_path / "store", {"tokenizer": "xyz"})


def test_no_pairs_and_ids_outside_the_vocabulary_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no pairs"):
        build(tmp_path / "store", [])
    with pytest.raises(InputError, match="outside its vocabulary"):
        build(tmp_path / "store", [pair("100", "1")])


def test_another_process_maps_the_same_store(tmp_path: Path) -> None:
    store = build(tmp_path / "store", numbered(4))
    packed = pickle.dumps(store)
    assert len(packed) < 1000
    assert pickle.loads(packed)[3][0].tolist() == store[3][0].tolist()


def test_progress_counts_up_to_all_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "CHUNK_PAIRS", 2)
    seen: list[int] = []
    build(tmp_path / "store", numbered(5), progress=seen.append)
    assert seen == [2, 4, 5]


def test_one_long_text_ends_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "CHUNK_CHARACTERS", 10)
    chunks = store_module._chunks([pair("1" * 8, "2" * 8), pair("1", "2"), pair("1", "2")])
    assert [len(chunk) for chunk in chunks] == [1, 2]


def test_a_chunk_that_cannot_be_encoded_leaves_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks are encoded ahead, in a thread: what fails there is told here."""
    monkeypatch.setattr(store_module, "CHUNK_PAIRS", 2)
    calls = iter(range(10))

    def third_fails(texts: list[str]) -> list[list[int]]:
        if next(calls) == 2:
            raise InputError("no text")
        return encode_batch(texts)

    limits = {"max_source": 10, "max_target": 10, "vocab_size": 100, "unknown_id": None}
    with pytest.raises(InputError, match="no text"):
        build_store(numbered(9), third_fails, tmp_path / "store", **limits)  # type: ignore[arg-type]
    assert not (tmp_path / "store").exists()


def test_targets_in_which_a_token_stands_twice_in_a_row_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "CHUNK_PAIRS", 2)
    targets = ["5 5", "5 6 5", "4 5 5 5 6 6", "5", "7 8 8 8"]
    # sources, neighbours across texts and what is cut away do not count
    pairs = [pair("3 3", target) for target in targets] + [pair("1 5", "5"), pair("5", "1 2 3 9 9")]
    assert build(tmp_path / "store", pairs, max_target=4).report.doubled_targets == 3
