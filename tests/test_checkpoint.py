"""The model folder: what is saved loads equal, and what is damaged is refused in one sentence."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from launch import environment
from safetensors.torch import load_file, save_file

from diffuseq.baselines.configs import (
    AutoregressiveGeneration,
    DiffusionLMConfig,
    GuidedGeneration,
    TransformerConfig,
)
from diffuseq.checkpoint import load_model, push_model, save_model
from diffuseq.config import Config, DiffusionGeneration, PublishedConfig
from diffuseq.data.batch import Batch, pad
from diffuseq.errors import InputError
from diffuseq.registry import build
from diffuseq.system import System
from diffuseq.text.tokenizer import Tokenizer
from diffuseq.weights import SCALE, read_weights

CONFIG = Config(
    system=TransformerConfig(
        encoder_layers=1, decoder_layers=1, heads=2, width=16, feed_forward=32, max_length=32
    ),
    generation=AutoregressiveGeneration(candidates=3, strategy="sample"),
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["how do i learn to draw", "what is the way to draw"] * 4, vocab_size=60)


@pytest.fixture
def system(tokenizer: Tokenizer) -> System:
    torch.manual_seed(0)
    return build(CONFIG.system, tokenizer.special).eval()


@pytest.fixture
def folder(tmp_path: Path, system: System, tokenizer: Tokenizer) -> Path:
    return save_model(tmp_path / "model", system, CONFIG, tokenizer)


def loss(system: System) -> torch.Tensor:
    return system(Batch(*pad([[5, 6, 7], [8]], 0), *pad([[7, 6], [9, 10, 11]], 0))).value


def test_what_is_saved_loads_equal(folder: Path, system: System, tokenizer: Tokenizer) -> None:
    again, tokenizer_again, config = load_model(folder)
    assert config == CONFIG
    assert tokenizer_again.fingerprint == tokenizer.fingerprint
    assert not again.training
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), system.parameters(), strict=True))
    assert torch.equal(loss(again), loss(system))


@pytest.mark.parametrize("shard", [None, 5_000])
def test_a_folder_may_have_a_name_that_is_not_utf_8(
    odd_folder: Path, system: System, tokenizer: Tokenizer, shard: int | None
) -> None:
    save_model(odd_folder, system, CONFIG, tokenizer, max_shard_bytes=shard)
    assert torch.equal(loss(load_model(odd_folder)[0]), loss(system))
    assert read_weights(odd_folder)


def test_tied_weights_are_stored_once_and_are_still_tied(tmp_path: Path, tokenizer: Tokenizer) -> None:
    small = PublishedConfig(
        layers=1, heads=2, width=16, feed_forward=32, embedding_width=8, time_width=8, sequence_length=32
    )
    system = build(small, tokenizer.special)
    names = {name for name, _ in system.named_parameters(remove_duplicate=False)}
    alone = {name for name, _ in system.named_parameters()}
    assert names > alone, "the test needs a system with tied weights"
    save_model(tmp_path, system, Config(small), tokenizer)
    assert alone <= set(load_file(tmp_path / "model.safetensors")) < set(system.state_dict())
    again = load_model(tmp_path)[0]
    assert {name for name, _ in again.named_parameters()} == alone
    assert all(torch.equal(value, system.state_dict()[name]) for name, value in again.state_dict().items())


def test_whole_numbers_are_at_most_half_a_step_off(
    tmp_path: Path, system: System, tokenizer: Tokenizer
) -> None:
    save_model(tmp_path, system, CONFIG, tokenizer, dtype=torch.int8, max_shard_bytes=2000)
    shards = [load_file(file) for file in sorted(tmp_path.glob("*.safetensors"))]
    assert len(shards) > 2
    stored = {name: tensor for shard in shards for name, tensor in shard.items()}
    assert all({name.removesuffix(SCALE) for name in shard} <= set(shard) for shard in shards)
    again, *_ = load_model(tmp_path)
    rounded = 0
    for (name, mine), theirs in zip(again.named_parameters(), system.parameters(), strict=True):
        if stored[name].dtype == torch.int8:
            rounded += 1
            step = theirs.abs().amax(1, keepdim=True) / 127
            assert ((mine - theirs).abs() <= 0.51 * step).all()
            assert stored[name].abs().max() == 127
        else:
            assert torch.equal(mine, theirs.bfloat16().float())
    assert rounded > 5
    assert read_weights(tmp_path).keys() == stored.keys()


@pytest.mark.parametrize("damage", ["lost", "short"])
def test_whole_numbers_without_their_scales_are_refused(
    damage: str, tmp_path: Path, system: System, tokenizer: Tokenizer
) -> None:
    save_model(tmp_path, system, CONFIG, tokenizer, dtype=torch.int8)
    tensors = load_file(tmp_path / "model.safetensors")
    name = next(name for name in tensors if name.endswith(SCALE))
    scale = tensors.pop(name)
    if damage == "short":
        tensors[name] = scale[1:].clone()
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=f"no scale for every row of {name.removesuffix(SCALE)}"):
        load_model(tmp_path)


def test_shards_and_half_precision_load_too(tmp_path: Path, system: System, tokenizer: Tokenizer) -> None:
    save_model(tmp_path, system, CONFIG, tokenizer)
    save_model(tmp_path, system, CONFIG, tokenizer, dtype=torch.bfloat16, max_shard_bytes=2000)
    assert len(list(tmp_path.glob("model-*-of-*.safetensors"))) > 2
    assert not (tmp_path / "model.safetensors").exists()
    again = load_model(tmp_path)[0]
    for mine, theirs in zip(again.parameters(), system.parameters(), strict=True):
        assert torch.equal(mine, theirs.bfloat16().float())
    save_model(tmp_path, system, CONFIG, tokenizer)
    assert sorted(path.name for path in tmp_path.glob("model*")) == ["model.safetensors"]
    assert torch.equal(loss(load_model(tmp_path)[0]), loss(system))


def test_generation_settings_are_edited_in_their_own_file(folder: Path) -> None:
    path = folder / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "candidates": 7}))
    assert load_model(folder)[2].generation.candidates == 7
    path.unlink()  # the defaults may not even fit the model
    with pytest.raises(InputError, match=r"lacks generation_config.json"):
        load_model(folder)


def test_transformers_opens_the_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    transformers = pytest.importorskip("transformers")
    opened = transformers.AutoTokenizer.from_pretrained(str(folder))
    text = "how do i draw"
    assert opened(text, add_special_tokens=False)["input_ids"] == tokenizer.encode([text])[0]
    assert opened.pad_token_id == tokenizer.special.pad


def edit_config(**changes: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        values = json.loads((folder / "config.json").read_text())
        values["system"].update(changes)
        (folder / "config.json").write_text(json.dumps(values))

    return damage


def edit_weights(edit: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        edit(tensors)
        save_file(tensors, folder / "model.safetensors")

    return damage


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def first(tensors: dict[str, torch.Tensor]) -> str:
    return next(name for name, tensor in tensors.items() if tensor.ndim == 2)


def write(name: str, content: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        if name.endswith("index.json"):
            (folder / "model.safetensors").unlink()
        (folder / name).write_text(content)

    return damage


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (cut, "damaged"),
        (write("model.safetensors", "x" * 50), "damaged"),
        (lambda folder: (folder / "model.safetensors").unlink(), "lacks model.safetensors"),
        (lambda folder: (folder / "config.json").unlink(), "lacks config.json"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer"),
        (edit_weights(lambda t: t.pop(first(t))), "lack "),
        (edit_weights(lambda t: t.update({first(t): torch.zeros(2, 3)})), r"is \[2, 3\] instead of"),
        (edit_weights(lambda t: t.update({"intruder": torch.zeros(2)})), "knows nothing of: intruder"),
        (edit_config(width=32), "instead of"),
        (edit_config(width=10**6, feed_forward=10**6), "far more|instead of"),
        (edit_config(feed_forward=10**30), "far more"),
        (edit_config(encoder_layers=10**9), "far more"),
        (edit_config(heads=0), "cannot be built|heads"),
        (edit_config(width=-16), "cannot be built|width"),
        (edit_config(colour="red"), "Unknown key.*'colour'"),
        (edit_config(kind="gan"), "Unknown kind of system 'gan'"),
        (write("config.json", "{"), "not readable JSON"),
        (write("config.json", "[" * 100_000), "not readable JSON"),
        (write("config.json", "[]"), "object with keys"),
        (write("config.json", '{"format_version": 99}'), "format_version 99"),
        (write("generation_config.json", '{"candidates": "many"}'), "candidates"),
        (
            write("model.safetensors.index.json", '{"weight_map": {"a": "../../x.safetensors"}}'),
            "only .safetensors",
        ),
        (write("model.safetensors.index.json", '{"weight_map": {"a": "a.bin"}}'), "only .safetensors"),
        (write("model.safetensors.index.json", '{"weight_map": {"a": "gone.safetensors"}}'), "lacks gone"),
        (write("model.safetensors.index.json", "{}"), "no weight_map"),
    ],
)
def test_a_damaged_folder_is_refused_in_one_sentence(
    folder: Path, damage: Callable[[Path], object], says: str
) -> None:
    damage(folder)
    with pytest.raises(InputError, match=says):
        load_model(folder)


def test_loading_leaves_the_random_numbers_alone(folder: Path) -> None:
    before = torch.get_rng_state()
    load_model(folder)
    assert torch.equal(torch.get_rng_state(), before)


def test_no_model_waits_for_the_compiler_of_torch(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """Its import takes two seconds, and arithmetic on the meta device would ask for it."""
    sizes = {"layers": 1, "heads": 2, "width": 16, "feed_forward": 32, "embedding_width": 8, "time_width": 8}
    systems: list[tuple[Any, Any]] = [
        (CONFIG.system, CONFIG.generation),
        (PublishedConfig(**sizes), DiffusionGeneration()),
        (DiffusionLMConfig(**sizes), GuidedGeneration()),
    ]
    for number, (system, generation) in enumerate(systems):
        config = Config(system=system, generation=generation)
        save_model(tmp_path / str(number), build(system, tokenizer.special), config, tokenizer)
    code = (
        "import sys; from pathlib import Path; from diffuseq.checkpoint import load_model; "
        "opened = [load_model(each) for each in sorted(Path(sys.argv[1]).iterdir())]; "
        "assert len(opened) == 3 and 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment(), check=True)


def test_what_is_no_folder_and_not_on_the_hub_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="no model folder"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(InputError, match="hub"):
        load_model("nobody-at-all/no-such-model")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        load_model(tmp_path / "file")
    with pytest.raises(InputError, match="name of the model is empty; give the --out of a training"):
        load_model("")
    with pytest.raises(InputError, match="name of the model is of the type NoneType; give the --out"):
        load_model(None)  # type: ignore[arg-type]


def test_a_model_is_saved_in_a_folder_that_has_a_name(system: System, tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match="The model's folder is of the type NoneType; give a path"):
        save_model(None, system, CONFIG, tokenizer)  # type: ignore[arg-type]


def test_pushing_without_a_hub_is_one_sentence(
    system: System, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*arguments: object, **options: object) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", offline)
    with pytest.raises(InputError, match=r"Cannot push to 'me/model' .no network."):
        push_model("me/model", system, CONFIG, tokenizer)


def test_a_published_folder_names_the_command_that_reads_it(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "ema_0.9999_050000.pt").write_bytes(b"")
    with pytest.raises(InputError, match="diffuseq import"):
        load_model(folder)


def test_a_write_that_fails_leaves_the_old_model_whole(
    folder: Path, system: System, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("diffuseq.weights.write_tensors", full)
    with pytest.raises(InputError, match="No space left on device; free some space"):
        save_model(folder, system, dataclasses.replace(CONFIG), tokenizer)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
