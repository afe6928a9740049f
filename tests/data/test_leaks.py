import json
import os
from pathlib import Path

import pytest

from diffuseq.data.leaks import find_leaks
from diffuseq.errors import InputError


def write(folder: Path, split: str, *pairs: tuple[str, str]) -> None:
    rows = (json.dumps({"src": source, "trg": target}) + "\n" for source, target in pairs)
    (folder / f"{split}.jsonl").write_text("".join(rows))


def test_held_out_pairs_in_the_training_set_are_found_in_both_directions(tmp_path: Path) -> None:
    write(tmp_path, "train", ("How are  you?", "All well?"), ("a", "b"), ("c", "d"))
    write(tmp_path, "test", ("how are you?", "all WELL?"), ("b", "A"), ("a", "x"), ("y", "d"))
    (leaks,) = find_leaks(tmp_path)
    assert (leaks.split, leaks.pairs, leaks.leaked, leaks.turned) == ("test", 4, 2, 1)
    assert leaks.known_sources == 3
    assert [pair.source for pair in leaks.examples] == ["how are you?", "b"]
    assert "2 of 4 test pairs (50.0%)" in (leaks.warning() or "")


def test_clean_splits_give_no_warning(tmp_path: Path) -> None:
    write(tmp_path, "train", ("a", "b"))
    write(tmp_path, "valid", ("a", "c"))
    write(tmp_path, "test", ("d", "b"))
    assert [(leaks.split, leaks.leaked, leaks.warning()) for leaks in find_leaks(tmp_path)] == [
        ("valid", 0, None),
        ("test", 0, None),
    ]


def test_without_a_training_split_there_is_nothing_to_compare(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no train"):
        find_leaks(tmp_path)
    write(tmp_path, "train", ("a", "b"))
    assert find_leaks(tmp_path) == []


@pytest.mark.real_data
def test_the_real_paraphrase_splits_share_questions_but_no_pair() -> None:
    if "DIFFUSEQ_DATA" not in os.environ:
        pytest.skip("DIFFUSEQ_DATA names no folder of real data")
    for leaks in find_leaks(Path(os.environ["DIFFUSEQ_DATA"]) / "qqp"):
        assert leaks.leaked == 0
        assert leaks.known_sources > 0
