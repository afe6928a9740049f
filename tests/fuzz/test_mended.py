"""What fuzzing found and what was mended for it, one by one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diffuseq.baselines.configs import TransformerConfig
from diffuseq.checks import check_generation, check_text
from diffuseq.cli import main
from diffuseq.config import DiffuSeqConfig, DiffusionGeneration, TextConfig
from diffuseq.data import pairs
from diffuseq.devices import usable_device
from diffuseq.errors import InputError
from diffuseq.files import read_text, write_text
from diffuseq.pipeline import DiffuSeqPipeline
from diffuseq.registry import build, config_from_dict
from diffuseq.text.tokenizer import Tokenizer
from diffuseq.training.state import load_newest, save_checkpoint


def test_a_line_without_an_end_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "MAX_LINE_BYTES", 1000)
    monkeypatch.setattr(pairs, "LONGEST_SKIP_BYTES", 100_000)
    with pytest.raises(InputError, match="no text file"):
        list(pairs.read_pairs("/dev/zero", skip_bad_rows=True))


def test_a_device_is_no_small_file() -> None:
    with pytest.raises(ValueError, match="larger than"):
        read_text(Path("/dev/zero"), largest=1 << 20)


@pytest.mark.parametrize("name", ["cuda:99", "meta", "toaster", "-1"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="no device"):
        usable_device(name)


@pytest.mark.parametrize(
    "sizes", [{"encoder_layers": 10**9}, {"width": 2**40}, {"draws": 0}, {"dropout": 1.5}]
)
def test_sizes_that_no_network_has_are_refused_before_it_is_built(
    sizes: dict[str, int], tiny_pipe: DiffuSeqPipeline
) -> None:
    with pytest.raises(InputError, match=f"system.{next(iter(sizes))} is"):
        build(DiffuSeqConfig(**sizes), tiny_pipe.system.special)


def test_a_share_may_be_a_whole_number(tiny_pipe: DiffuSeqPipeline) -> None:
    sizes = {
        "encoder_layers": 1,
        "decoder_layers": 1,
        "heads": 2,
        "width": 8,
        "feed_forward": 8,
        "dropout": 0,
    }
    build(DiffuSeqConfig(**sizes, left_to_right=1, length_first=0), tiny_pipe.system.special)
    with pytest.raises(InputError, match="left_to_right is 2; give a number from 0 to 1"):
        build(DiffuSeqConfig(**sizes, left_to_right=2), tiny_pipe.system.special)


def test_heads_that_do_not_divide_the_width_are_refused(tiny_pipe: DiffuSeqPipeline) -> None:
    with pytest.raises(InputError, match="cannot be split"):
        build(TransformerConfig(width=16, heads=3), tiny_pipe.system.special)


def test_sizes_of_texts_have_bounds() -> None:
    with pytest.raises(InputError, match=r"text.max_source is"):
        check_text(TextConfig(max_source=2**64))


def test_a_setting_that_has_to_be_there_cannot_be_none() -> None:
    with pytest.raises(InputError, match="temperature is None"):
        check_generation(DiffusionGeneration(temperature=None))  # type: ignore[arg-type]


def test_a_config_that_is_no_object_is_refused() -> None:
    with pytest.raises(InputError, match="object with keys"):
        config_from_dict([1])  # type: ignore[arg-type]


def test_half_of_a_surrogate_pair_is_no_text(tiny_pipe: DiffuSeqPipeline) -> None:
    with pytest.raises(InputError, match="not valid Unicode"):
        tiny_pipe("a \ud800 b")
    with pytest.raises(InputError, match="not valid Unicode"):
        tiny_pipe("a b", template="[...]\ud800")


@pytest.mark.parametrize("ids", [{"[PAD]": 0, "[UNK]": 2**40}, {"[PAD]": 0, "[UNK]": -1}])
def test_a_vocabulary_with_damaged_numbers_is_refused(tmp_path: Path, ids: dict[str, int]) -> None:
    (tmp_path / "vocab.json").write_text(json.dumps(ids))
    with pytest.raises(InputError, match="does not number"):
        Tokenizer.load(tmp_path)


def test_a_checkpoint_whose_values_changed_is_passed_over(tmp_path: Path) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, step, {}, {"seconds": 12.5}, keep=2)
    marker = tmp_path / "step-2" / "state.json"
    marker.write_text(marker.read_text().replace("12.5", "13.5"))
    loaded = load_newest(tmp_path)
    assert loaded is not None and loaded[0] == 1 and "step-2" in loaded[3][0]


def test_a_message_stays_one_line_without_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["replay", "a\n\x1b[2Jb"])
    told = capsys.readouterr().err
    assert left.value.code == 2 and told.count("\n") == 1 and "\x1b" not in told and r"a\n\x1b[2Jb" in told


def test_a_name_too_long_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["generate", "x" * 5000])
    told = capsys.readouterr().err
    assert left.value.code == 2 and told.startswith("diffuseq: ") and told.count("\n") == 1


def test_too_little_memory_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(path: Path) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1e18 bytes")

    monkeypatch.setattr("diffuseq.cli.replay.read_traces", fails)
    with pytest.raises(SystemExit) as left:
        main(["replay", "a"])
    assert left.value.code == 2 and "not enough memory" in capsys.readouterr().err


@pytest.mark.parametrize("name", [".", "/"])
def test_a_folder_is_no_name_for_a_new_file(name: str) -> None:
    with pytest.raises(InputError, match="no name for something new"):
        write_text(Path(name), "text")
