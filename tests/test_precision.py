"""bf16: decided by machine, size and training; answers in it; and nothing is lost by it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from diffuseq import DiffuSeqPipeline, InputError
from diffuseq import pipeline as pipeline_module
from diffuseq.precision import in_bf16, round_matrices, use_bf16

SOURCE = "how do i learn to play the guitar?"


def test_who_takes_the_items_is_not_under_autocast() -> None:
    def items():  # type: ignore[no-untyped-def]
        for _ in range(3):
            yield torch.is_autocast_enabled("cpu")

    seen = []
    for inside in in_bf16(torch.device("cpu"), items()):
        seen.append((inside, torch.is_autocast_enabled("cpu")))
    assert seen == [(True, False)] * 3


def test_small_networks_are_left_in_single_precision() -> None:
    assert not use_bf16("auto", torch.device("cpu"), width=64)
    assert use_bf16("bf16", torch.device("cpu"), width=64)
    assert not use_bf16("fp32", torch.device("cpu"), width=4096)


def test_a_model_opened_in_bf16_is_rounded_and_is_not_saved(tiny_folder: Path, tmp_path: Path) -> None:
    exact = DiffuSeqPipeline.from_pretrained(tiny_folder, "cpu")
    assert not exact.bf16
    rounded = DiffuSeqPipeline.from_pretrained(tiny_folder, "cpu", precision="bf16")
    round_matrices(exact.system)
    for (name, ours), theirs in zip(
        exact.system.named_parameters(), rounded.system.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs), name
    assert rounded(SOURCE, template="what is [MASK] to [...]?").text.startswith("what is")
    with pytest.raises(InputError, match="precision='fp32'"):
        rounded.save_pretrained(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_model_trained_in_single_precision_stays_in_it(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline_module, "use_bf16", lambda *given: True)
    assert DiffuSeqPipeline.from_pretrained(tiny_folder, "cpu").bf16
    config = (tiny_folder / "config.json").read_text()
    assert '"precision": "auto"' in config
    (tiny_folder / "config.json").write_text(config.replace('"precision": "auto"', '"precision": "fp32"'))
    try:
        assert not DiffuSeqPipeline.from_pretrained(tiny_folder, "cpu").bf16
        assert DiffuSeqPipeline.from_pretrained(tiny_folder, "cpu", precision="bf16").bf16
    finally:
        (tiny_folder / "config.json").write_text(config)


def test_an_unknown_precision_is_explained(tiny_folder: Path) -> None:
    with pytest.raises(InputError, match="bf16"):
        DiffuSeqPipeline.from_pretrained(tiny_folder, precision="fp8")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="onnx"):
        DiffuSeqPipeline.from_pretrained(tiny_folder, runtime="onnx", precision="bf16")


@pytest.mark.parametrize("is_opened_in_double", [True, False])
def test_a_program_that_computes_in_double_precision_gets_the_same_answers(
    tiny_folder: Path, is_opened_in_double: bool
) -> None:
    ask = {"candidates": 2, "template": "what is [MASK] to [...]?"}
    expected = DiffuSeqPipeline.from_pretrained(tiny_folder, "cpu")(SOURCE, **ask)
    before = torch.get_default_dtype()
    try:
        if is_opened_in_double:
            torch.set_default_dtype(torch.float64)
        pipe = DiffuSeqPipeline.from_pretrained(tiny_folder, "cpu")
        torch.set_default_dtype(torch.float64)
        answer = pipe(SOURCE, **ask)
        for _ in pipe.stream(SOURCE):
            assert torch.get_default_dtype() == torch.float64, "it is the caller's between two drafts"
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(before)
    assert (answer.candidates, answer.log_p) == (expected.candidates, expected.log_p)
    assert all(parameter.dtype == torch.float32 for parameter in pipe.system.parameters())
