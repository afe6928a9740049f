"""The denoiser on ONNX Runtime: the same answers as PyTorch's, and clear words where it cannot be had."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from diffuseq import onnx_runtime
from diffuseq.cli import main
from diffuseq.errors import InputError
from diffuseq.pipeline import DiffuSeqPipeline

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
from diffuseq.onnx_runtime import ONNX, export_onnx, use_onnx

SOURCES = ["how do i learn to cook rice?", "music", "what is the best way to learn python?", "why tea?", "a"]


@pytest.fixture(scope="module")
def exported(tiny_pipe: DiffuSeqPipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with graphs."""
    folder = tmp_path_factory.mktemp("exported")
    tiny_pipe.save_pretrained(folder)
    export_onnx(DiffuSeqPipeline.from_pretrained(folder).system, folder)
    return folder


@pytest.fixture(scope="module")
def on_onnx(exported: Path) -> DiffuSeqPipeline:
    return DiffuSeqPipeline.from_pretrained(exported, runtime="onnx")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"candidates": 1, "length": 1},
        {"length": 24, "steps": 7, "temperature": 0.3},
        {"cache": False},
        {"guidance": 1.5},
        {"sampler": "ddim", "churn": 0.5},
        {"sampler": "dpm-solver", "guidance": 2.0},
        {"template": "what [...] tea [MASK]?"},
    ],
    ids=str,
)
def test_answers_are_those_of_pytorch(
    tiny_pipe: DiffuSeqPipeline, on_onnx: DiffuSeqPipeline, options: dict[str, object]
) -> None:
    for sources in (SOURCES[:1], SOURCES):
        ours, theirs = tiny_pipe(sources, **options), on_onnx(sources, **options)
        assert [answer.candidates for answer in ours] == [answer.candidates for answer in theirs]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda pipe: pickle.loads(pickle.dumps(pipe))])
def test_a_copy_answers_as_the_original(
    on_onnx: DiffuSeqPipeline, copied: Callable[[DiffuSeqPipeline], DiffuSeqPipeline]
) -> None:
    other = copied(on_onnx)
    assert other.system is not on_onnx.system
    assert [answer.candidates for answer in other(SOURCES)] == [a.candidates for a in on_onnx(SOURCES)]


def test_graphs_that_are_in_no_file_are_copied_but_not_pickled(exported: Path, tmp_path: Path) -> None:
    shutil.copytree(exported, tmp_path / "model")
    pipe = DiffuSeqPipeline.from_pretrained(tmp_path / "model", runtime="onnx")
    kept = pickle.dumps(pipe)
    shutil.rmtree(tmp_path / "model" / ONNX)
    assert copy.deepcopy(pipe)("music").candidates == pipe("music").candidates
    with pytest.raises(InputError, match="in no file cannot be pickled; write them with `diffuseq export`"):
        pickle.dumps(pipe)
    with pytest.raises(InputError, match="is no graph that ONNX Runtime opens"):
        pickle.loads(kept)


def test_a_self_conditioned_network_is_told_its_last_estimate(
    tiny_pipe: DiffuSeqPipeline, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    config = dataclasses.replace(
        tiny_pipe.config, system=dataclasses.replace(tiny_pipe.config.system, self_condition=0.5)
    )
    pipe = DiffuSeqPipeline(
        type(tiny_pipe.system)(config.system, tiny_pipe.tokenizer.special).eval(), tiny_pipe.tokenizer, config
    )
    pipe.save_pretrained(tmp_path)
    expected = [answer.candidates for answer in pipe(SOURCES)]
    export_onnx(pipe.system, tmp_path)
    again = DiffuSeqPipeline.from_pretrained(tmp_path, runtime="onnx")
    assert [answer.candidates for answer in again(SOURCES)] == expected


def test_a_network_in_order_sees_what_settled(ordered_pipe: DiffuSeqPipeline, tmp_path: Path) -> None:
    ordered_pipe.save_pretrained(tmp_path)
    export_onnx(DiffuSeqPipeline.from_pretrained(tmp_path).system, tmp_path)
    again = DiffuSeqPipeline.from_pretrained(tmp_path, runtime="onnx")
    for options in (
        {},
        {"guidance": 1.5, "settle_first": "leftmost"},
        {"template": "what [...] tea [MASK]?"},
        {"sampler": "fixed-point", "steps": 7},
        {"sampler": "fixed-point", "guidance": 1.5, "length": 9},
        {"sampler": "fixed-point", "template": "what [...] tea [MASK]?"},
    ):
        ours, theirs = ordered_pipe(SOURCES, **options), again(SOURCES, **options)  # type: ignore[call-overload]
        assert [answer.candidates for answer in ours] == [answer.candidates for answer in theirs]


def test_it_is_written_and_used_from_the_command_line(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.txt").write_text("\n".join(SOURCES) + "\n")
    texts = {}
    for arguments in (
        ["export", str(tiny_folder), "--out", str(tmp_path / "mine")],
        ["generate", str(tmp_path / "mine"), "--input", str(tmp_path / "in.txt"), "--runtime", "onnx"],
        ["generate", str(tmp_path / "mine"), "--input", str(tmp_path / "in.txt")],
    ):
        with pytest.raises(SystemExit) as left:
            main(arguments)
        assert not left.value.code
        texts[arguments[-1]] = capsys.readouterr().out
    assert "--runtime onnx" in texts[str(tmp_path / "mine")]
    assert texts["onnx"] == texts[str(tmp_path / "in.txt")] != ""


def test_graphs_of_other_weights_are_refused(
    tiny_pipe: DiffuSeqPipeline, exported: Path, tmp_path: Path
) -> None:
    torch.manual_seed(2)
    other = type(tiny_pipe.system)(tiny_pipe.config.system, tiny_pipe.tokenizer.special)
    DiffuSeqPipeline(other, tiny_pipe.tokenizer, tiny_pipe.config).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="diffuseq export"):
        DiffuSeqPipeline.from_pretrained(tmp_path, runtime="onnx")
    shutil.copytree(exported / ONNX, tmp_path / ONNX)
    with pytest.raises(InputError, match="other weights"):
        DiffuSeqPipeline.from_pretrained(tmp_path, runtime="onnx")


@pytest.mark.parametrize("content", [b"", b"no graph", b"\x08\x07" * 500], ids=["empty", "text", "bytes"])
def test_a_damaged_graph_is_a_sentence(exported: Path, tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(exported, folder)
    (folder / ONNX / "decoder.onnx").write_bytes(content)
    with pytest.raises(InputError, match=r"decoder\.onnx"):
        DiffuSeqPipeline.from_pretrained(folder, runtime="onnx")
    (folder / ONNX / "decoder.onnx").unlink()
    with pytest.raises(InputError, match=r"decoder\.onnx"):
        DiffuSeqPipeline.from_pretrained(folder, runtime="onnx")


def test_what_cannot_run_on_it_is_refused(exported: Path, tiny_pipe: DiffuSeqPipeline) -> None:
    with pytest.raises(InputError, match="tensorrt"):
        DiffuSeqPipeline.from_pretrained(exported, runtime="tensorrt")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="on the CPU, not on cuda"):
        DiffuSeqPipeline.from_pretrained(exported, "cuda", "onnx")
    from diffuseq.baselines.configs import GruConfig
    from diffuseq.registry import build

    gru = build(GruConfig(layers=1, width=8, hidden=8), tiny_pipe.tokenizer.special)
    for refused in (export_onnx, use_onnx):
        with pytest.raises(InputError, match="Only a diffuseq"):
            refused(gru, exported)


def test_what_cannot_be_exported_is_refused_before_a_model_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*words: str) -> str:
        with pytest.raises(SystemExit) as left:
            main(["export", *words])
        assert left.value.code == 2
        return capsys.readouterr().err

    assert "Only a diffuseq" in refused("qqp-transformer", "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    assert "name one to write to with --out" in refused("grammar")  # the package is no place to write to


def test_a_model_of_the_package_is_exported_to_a_folder_of_ones_own(exported: Path) -> None:
    with pytest.raises(InputError, match=r"`diffuseq export grammar --out FOLDER`, and answer with that"):
        DiffuSeqPipeline.from_pretrained("grammar", runtime="onnx")


def test_graphs_are_opened_in_a_folder_whose_name_is_not_utf_8(exported: Path, odd_folder: Path) -> None:
    shutil.copytree(exported, odd_folder, dirs_exist_ok=True)
    assert DiffuSeqPipeline.from_pretrained(odd_folder, runtime="onnx")(SOURCES[0]).text


def test_graphs_are_of_single_precision_whatever_the_program_around_computes_in(
    tiny_pipe: DiffuSeqPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = []

    def compute(graph: torch.nn.Module, example: list[tuple[torch.Tensor, object]], path: Path) -> None:
        kinds.extend(output.dtype for output in graph(*(value for value, _ in example)))

    monkeypatch.setattr(onnx_runtime, "_export", compute)
    torch.set_default_dtype(torch.float64)
    try:
        onnx_runtime._write_graphs(copy.deepcopy(tiny_pipe.system), tmp_path)
    finally:
        torch.set_default_dtype(torch.float32)
    assert set(kinds) == {torch.float32}
