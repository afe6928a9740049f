"""Checkpoints to resume from: whole or not there, and never a damaged one."""

from pathlib import Path

import numpy as np
import pytest
import torch

from diffuseq.errors import InputError
from diffuseq.training import state
from diffuseq.training.state import forget_newer, load_newest, locked, pack, save_checkpoint, unpack

TENSORS = {"weights": {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(3.5)}, "optimizer": {}}


def test_what_was_saved_comes_back_bit_equal(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 7, TENSORS, {"seconds": 0.1 + 0.2}, keep=1)
    loaded = load_newest(tmp_path)
    assert loaded is not None
    step, tensors, values, broken = loaded
    assert (step, values, broken) == (7, {"seconds": 0.1 + 0.2}, [])
    assert torch.equal(tensors["weights"]["a"], TENSORS["weights"]["a"])
    assert torch.equal(tensors["weights"]["b"], TENSORS["weights"]["b"])
    assert tensors["optimizer"] == {}


def test_checkpoints_come_back_from_a_folder_whose_name_is_not_utf_8(odd_folder: Path) -> None:
    save_checkpoint(odd_folder, 7, TENSORS, {}, keep=1)
    loaded = load_newest(odd_folder)
    assert loaded is not None and torch.equal(loaded[1]["weights"]["a"], TENSORS["weights"]["a"])


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 100):
        save_checkpoint(tmp_path, step, TENSORS, {}, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-10", "step-100"]


@pytest.mark.parametrize("killed_at", range(4))
def test_a_kill_while_a_checkpoint_is_written_leaves_the_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    """A kill is stood in for by an exception that no code catches, with the clean-up after it undone."""
    save_checkpoint(tmp_path, 1, TENSORS, {"n": 1}, keep=1)
    calls = iter(range(10))

    def killed(*arguments: object) -> None:
        if next(calls) == killed_at:
            raise KeyboardInterrupt

    monkeypatch.setattr("diffuseq.files.shutil.rmtree", lambda *a, **k: None)
    monkeypatch.setattr("diffuseq.files._flush", killed)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, 2, TENSORS, {"n": 2}, keep=1)
    monkeypatch.undo()
    loaded = load_newest(tmp_path)
    assert loaded is not None and loaded[0] == 1 and loaded[2] == {"n": 1}
    with locked(tmp_path):
        assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "step-1"]


@pytest.mark.parametrize("damage", ["cut", "flip", "missing", "marker"])
def test_a_damaged_checkpoint_is_passed_over_for_an_older_one(tmp_path: Path, damage: str) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, step, TENSORS, {"n": step}, keep=2)
    weights = tmp_path / "step-2" / "weights.safetensors"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-1])
    elif damage == "flip":
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
    elif damage == "missing":
        weights.unlink()
    else:
        (tmp_path / "step-2" / state.MARKER).write_text('{"step": 2')
    loaded = load_newest(tmp_path)
    assert loaded is not None
    assert loaded[0] == 1
    assert "step-2" in loaded[3][0]
    forget_newer(tmp_path, 1)
    assert not (tmp_path / "step-2").exists()


def test_when_all_checkpoints_are_damaged_the_run_is_not_silently_started_anew(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, TENSORS, {}, keep=1)
    (tmp_path / "step-1" / state.MARKER).unlink()
    with pytest.raises(InputError, match="--overwrite"):
        load_newest(tmp_path)
    assert load_newest(tmp_path / "elsewhere") is None


def test_a_nested_state_survives_packing() -> None:
    given = {
        "history": [[1.5, float("inf")], []],
        "counts": np.arange(3),
        "t": torch.ones(2),
        "n": None,
        "on": True,
    }
    tensors: dict[str, torch.Tensor] = {}
    found = unpack(pack(given, tensors), tensors)
    assert found["history"] == given["history"]
    assert np.array_equal(found["counts"], given["counts"]) and isinstance(found["counts"], np.ndarray)
    assert torch.equal(found["t"], torch.ones(2))
    assert found["n"] is None and found["on"] is True


def test_a_state_with_something_that_cannot_be_saved_says_where() -> None:
    with pytest.raises(TypeError, match="/a/1"):
        pack({"a": [1, object()]}, {})


def test_a_folder_has_one_owner_at_a_time(tmp_path: Path) -> None:
    with (
        locked(tmp_path / "resume"),
        pytest.raises(InputError, match=r"Another run .process"),
        locked(tmp_path / "resume"),
    ):
        pass
    with locked(tmp_path / "resume"):
        pass
