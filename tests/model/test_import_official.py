from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from diffuseq.errors import InputError
from diffuseq.model.import_official import import_official
from diffuseq.sampling.noise import mix_seed
from diffuseq.system import Request

PUBLISHED = Path(__file__).parents[1] / "parity"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a published folder, to be spoiled."""
    names = ("bert_config.json", "ema_0.9999_000100.pt", "training_args.json", "vocab.json", "words.txt")
    for name in names:
        shutil.copy(PUBLISHED / "official-tiny" / name, tmp_path)
    return tmp_path


def change(folder: Path, file: str, **values: Any) -> None:
    """Set keys of a JSON file; None removes one."""
    content = json.loads((folder / file).read_text()) | values
    (folder / file).write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def test_the_arguments_become_our_config(folder: Path) -> None:
    config = import_official(folder).config
    assert (config.system.version, config.system.layers, config.system.heads) == (1, 2, 4)
    assert (config.system.sequence_length, config.system.diffusion_steps) == (24, 20)
    assert config.system.time_sampling == "loss-aware"
    assert (config.generation.sampler, config.generation.steps, config.generation.clamp_from) == (
        "ancestral",
        20,
        0.0,
    )
    assert (config.training.learning_rate, config.training.ema, config.training.clip) == (1e-4, 0.9999, None)
    assert config.text.published_layout


def test_version_2_is_known_by_its_absorbing_state() -> None:
    model = import_official(PUBLISHED / "official-v2-tiny")
    assert model.config.system.version == 2
    assert (model.config.system.absorb_rate, model.config.system.regularize) == (0.5, 0.01)
    assert model.config.generation.sampler == "dpm-solver"
    assert model.system.denoiser.mean_embed is not None


@pytest.mark.parametrize("name", ["official-tiny", "official-v2-tiny"])
def test_an_imported_model_answers_in_words(name: str) -> None:
    model = import_official(PUBLISHED / name)
    special = model.tokenizer.special
    assert (special.start, special.end, special.unknown, special.pad) == (0, 1, 2, 3)
    source = torch.tensor(model.tokenizer.encode(["ba du ki"]))
    seeds = [mix_seed(0, "ba du ki", candidate) for candidate in range(2)]
    asked = Request(source, torch.zeros_like(source, dtype=torch.bool), 2, seeds, model.config.generation)
    *_, last = model.system.generate(asked)
    texts = [
        model.tokenizer.decode(row[~p].tolist()) for row, p in zip(last.tokens, last.padding, strict=True)
    ]
    known = set((PUBLISHED / name / "words.txt").read_text().split()) | {"[UNK]"}
    assert all(set(text.split()) <= known for text in texts)


def test_the_word_list_alone_is_vocabulary_enough(folder: Path) -> None:
    (folder / "vocab.json").unlink()
    assert import_official(folder).tokenizer.encode(["ba be"]) == [[4, 5]]


def test_the_latest_averaged_checkpoint_is_taken(folder: Path) -> None:
    weights = torch.load(folder / "ema_0.9999_000100.pt", weights_only=True)
    later = weights | {"lm_head.bias": weights["lm_head.bias"] + 1}
    torch.save(later, folder / "ema_0.9999_000200.pt")
    torch.save(weights, folder / "model000300.pt")
    bias = import_official(folder).system.denoiser.lm_head.bias
    assert torch.equal(bias, later["lm_head.bias"])


def test_the_head_wins_over_the_embedding_as_in_the_released_code(folder: Path) -> None:
    path = folder / "ema_0.9999_000100.pt"
    weights = torch.load(path, weights_only=True)
    torch.save(weights | {"lm_head.weight": weights["lm_head.weight"] + 1}, path)
    table = import_official(folder).system.denoiser.word_embedding.weight
    assert torch.equal(table, weights["lm_head.weight"] + 1)


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("training_args.json", "training_args.json is missing"),
        ("ema_0.9999_000100.pt", "no ema_RATE_STEP.pt"),
        ("bert_config.json", "put its bert_config.json"),
    ],
)
def test_a_missing_file_is_named(folder: Path, file: str, says: str) -> None:
    (folder / file).unlink()
    with pytest.raises(InputError, match=says):
        import_official(folder)


def test_a_missing_vocabulary_is_named(folder: Path) -> None:
    for name in ("vocab.json", "words.txt"):
        (folder / name).unlink()
    with pytest.raises(InputError, match=r"words\.txt"):
        import_official(folder)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        import_official(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"noise_schedule": "sqtr"}, "sqrt"),
        ({"hidden_dim": 8}, "shape"),
        ({"hidden_dim": None}, "has no hidden_dim"),
        ({"predict_xstart": False}, "predict_xstart = False"),
        ({"seq_len": 400}, "max_positions"),
        ({"seq_len": "24"}, "sequence_length"),
        ({"dropout": 16}, "dropout probability"),
    ],
)
def test_arguments_that_do_not_fit_are_named(folder: Path, values: dict[str, Any], says: str) -> None:
    change(folder, "training_args.json", **values)
    with pytest.raises(InputError, match=says):
        import_official(folder)


def test_a_vocabulary_of_another_size_is_refused(folder: Path) -> None:
    with (folder / "words.txt").open("a") as file:
        file.write("extra\n")
    (folder / "vocab.json").unlink()
    with pytest.raises(InputError, match=r"98 words, but ema_0\.9999_000100\.pt has embeddings for 97"):
        import_official(folder)


class Foreign:
    """Something that weights_only refuses."""


@pytest.mark.parametrize("content", [{"a": Foreign()}, [1, 2], {"lr": 0.1}])
def test_a_pickle_that_is_no_state_dict_is_refused(folder: Path, content: Any) -> None:
    torch.save(content, folder / "ema_0.9999_000100.pt")
    with pytest.raises(InputError, match=r"more than tensors|no state dict"):
        import_official(folder)


@pytest.mark.parametrize("content", [b"", b"no zip and no pickle", b"PK\x03\x04 cut off"])
def test_a_broken_checkpoint_is_refused(folder: Path, content: bytes) -> None:
    (folder / "ema_0.9999_000100.pt").write_bytes(content)
    with pytest.raises(InputError, match=r"ema_0\.9999_000100\.pt"):
        import_official(folder)


def test_tensors_of_another_network_are_refused(folder: Path) -> None:
    path = folder / "ema_0.9999_000100.pt"
    weights = torch.load(path, weights_only=True)
    del weights["time_embed.0.bias"]
    torch.save(weights | {"decoder.bias": torch.zeros(3)}, path)
    with pytest.raises(InputError, match=r"missing time_embed\.0\.bias unknown decoder\.bias"):
        import_official(folder)


def test_a_checkpoint_is_read_in_single_precision_whatever_the_default_around_it(folder: Path) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        system = import_official(folder).system
    finally:
        torch.set_default_dtype(torch.float32)
    assert {parameter.dtype for parameter in system.parameters()} == {torch.float32}
