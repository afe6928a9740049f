"""A whole run in a folder: stopped, resumed, refused, and what it leaves."""

import dataclasses
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_runs as tiny
import torch

from diffuseq.baselines.configs import CMLMConfig, DiffusionLMConfig, Gpt2Config
from diffuseq.checkpoint import load_model
from diffuseq.config import (
    BertSizes,
    Config,
    DiffuSeqConfig,
    DiffusionGeneration,
    Precision,
    PublishedConfig,
)
from diffuseq.data.batch import Batch
from diffuseq.errors import InputError
from diffuseq.registry import entry
from diffuseq.system import Loss
from diffuseq.text.tokenizer import Tokenizer
from diffuseq.training.ema import AveragedWeights
from diffuseq.training.run import train
from diffuseq.training.signals import SIGNALS, TrainingStopped
from diffuseq.training.tracking import Event


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_data(tmp_path_factory.mktemp("data") / "pairs")


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tiny.config(), data, tmp_path_factory.mktemp("runs") / "undisturbed")


def at(step: int, act: Callable[[], None]) -> Callable[[Event], None]:
    def on_event(event: Event) -> None:
        if event.kind == "step" and event.values["step"] == step:
            act()

    return on_event


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_a_model_its_metrics_and_its_cost(undisturbed: Path) -> None:
    system, _, config = load_model(undisturbed)
    assert config == tiny.config()
    assert system.num_parameters() == json.loads((undisturbed / "training.json").read_text())["parameters"]
    assert [line["step"] for line in lines(undisturbed)] == [4, 6, 8, 12, 12]
    evaluation = lines(undisturbed)[-1]
    assert 0 <= evaluation["valid_bleu"] <= 1 and len(evaluation["samples"]) == 2
    assert json.loads((undisturbed / "training.json").read_text())["pairs_seen"] == 12 * 8
    assert [path.name for path in (undisturbed / "resume").glob("step-*")] == ["step-12"]
    assert "| valid_bleu |" in (undisturbed / "README.md").read_text()


@pytest.mark.parametrize("step", [5, 6], ids=["between looks", "before a look"])
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_saves_and_resuming_gives_the_undisturbed_weights_bit_for_bit(
    data: Path, undisturbed: Path, tmp_path: Path, number: int, step: int
) -> None:
    handlers = [signal.getsignal(each) for each in SIGNALS]
    with pytest.raises(TrainingStopped) as stopped:
        train(tiny.config(), data, tmp_path, on_event=at(step, lambda: os.kill(os.getpid(), number)))
    assert stopped.value.code == 128 + number
    assert [signal.getsignal(each) for each in SIGNALS] == handlers
    assert load_model(tmp_path)[0].num_parameters() > 0
    train(tiny.config(), data, tmp_path, resume=True)
    assert tiny.same_weights(tmp_path, undisturbed)


def test_what_is_to_outlive_its_terminal_trains_on_when_that_closes(
    data: Path, undisturbed: Path, tmp_path: Path
) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup starts it
    try:
        train(tiny.config(), data, tmp_path, on_event=at(5, lambda: os.kill(os.getpid(), signal.SIGHUP)))
    finally:
        signal.signal(signal.SIGHUP, before)
    assert tiny.same_weights(tmp_path, undisturbed)


def test_a_signal_while_the_average_leaves_its_place_costs_no_weight(
    data: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap, calls = AveragedWeights._swap, []

    def disturbed(average: AveragedWeights) -> None:
        calls.append(average)
        if len(calls) == 4:  # two of saving after step 4, two of the look after step 6
            os.kill(os.getpid(), signal.SIGTERM)
        swap(average)

    monkeypatch.setattr(AveragedWeights, "_swap", disturbed)
    with pytest.raises(TrainingStopped):
        train(tiny.config(), data, tmp_path)
    train(tiny.config(), data, tmp_path, resume=True)
    assert tiny.same_weights(tmp_path, undisturbed)


def test_a_run_that_was_stopped_before_its_last_look_takes_it_when_it_goes_on(
    data: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """Else the scores that stay would be those of an earlier look."""
    stop = at(12, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(TrainingStopped, match="after step 12"):
        train(tiny.config(), data, tmp_path, on_event=stop)
    assert not (tmp_path / "training.json").exists()
    train(tiny.config(), data, tmp_path, resume=True)
    found, calm = (json.loads((out / "training.json").read_text()) for out in (tmp_path, undisturbed))
    assert {**found, "seconds": 0} == {**calm, "seconds": 0}
    assert [line["step"] for line in lines(tmp_path)] == [4, 6, 8, 12, 12]
    assert tiny.same_weights(tmp_path, undisturbed)


def test_a_crash_between_checkpoints_costs_only_the_steps_since_the_last(
    data: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """Muon, EMA and time go with it; the metrics of the lost steps are written once."""

    def crash() -> None:
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        train(tiny.config(), data, tmp_path, on_event=at(7, crash))
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 8, "los')
    events: list[Event] = []
    train(tiny.config(), data, tmp_path, resume=True, on_event=events.append)
    assert next(e for e in events if e.kind == "start").values["resumed_at"] == 4
    assert [line["step"] for line in lines(tmp_path)] == [4, 6, 8, 12, 12]
    assert [line.get("loss") for line in lines(tmp_path)] == [line.get("loss") for line in lines(undisturbed)]
    assert tiny.same_weights(tmp_path, undisturbed)


def test_a_look_at_the_answers_that_fails_costs_no_step(
    data: Path, undisturbed: Path, tmp_path: Path
) -> None:
    def fail(event: Event) -> None:
        if event.kind == "evaluation":
            raise RuntimeError("the metrics broke")

    with pytest.raises(RuntimeError, match="the metrics broke"):
        train(tiny.config(), data, tmp_path, on_event=fail)
    events: list[Event] = []
    train(tiny.config(), data, tmp_path, resume=True, on_event=events.append)
    assert next(e for e in events if e.kind == "start").values["resumed_at"] == 6
    assert tiny.same_weights(tmp_path, undisturbed)


def test_muon_resumes_bit_for_bit_too(data: Path, tmp_path: Path) -> None:
    config = tiny.config(optimizer="muon", steps=6, evaluate_rows=0)
    train(config, data, tmp_path / "undisturbed")
    with pytest.raises(TrainingStopped):
        stop = at(2, lambda: os.kill(os.getpid(), signal.SIGTERM))
        train(config, data, tmp_path / "stopped", on_event=stop)
    train(config, data, tmp_path / "stopped", resume=True)
    assert tiny.same_weights(tmp_path / "stopped", tmp_path / "undisturbed")


def test_a_system_with_a_memory_of_its_own_resumes_bit_for_bit(data: Path, tmp_path: Path) -> None:
    config = tiny.published()
    train(config, data, tmp_path / "undisturbed")
    with pytest.raises(TrainingStopped):
        stop = at(9, lambda: os.kill(os.getpid(), signal.SIGTERM))
        train(config, data, tmp_path / "stopped", on_event=stop)
    train(config, data, tmp_path / "stopped", resume=True)
    assert tiny.same_weights(tmp_path / "stopped", tmp_path / "undisturbed")


def test_a_finished_run_is_neither_trained_on_nor_overwritten_by_accident(data: Path, tmp_path: Path) -> None:
    config = tiny.config(steps=2, evaluate_rows=0)
    train(config, data, tmp_path)
    with pytest.raises(InputError, match=r"finished run.*--resume.*--overwrite"):
        train(config, data, tmp_path)
    before = (tmp_path / "metrics.jsonl").read_text()
    heard: list[Event] = []
    train(config, data, tmp_path, resume=True, on_event=heard.append)
    assert (tmp_path / "metrics.jsonl").read_text() == before
    assert any("nothing is left to train" in event.text for event in heard)
    longer = tiny.config(steps=4, evaluate_rows=0)
    train(longer, data, tmp_path, resume=True)
    assert json.loads((tmp_path / "training.json").read_text())["steps"] == 4
    names = ("notes.txt", "tokenizer-before.json", "model-best.safetensors", "README.md")
    for name in names:
        (tmp_path / name).write_text("mine")
    told: list[Event] = []
    train(config, data, tmp_path, overwrite=True, on_event=told.append)
    assert json.loads((tmp_path / "training.json").read_text())["steps"] == 2
    assert [(tmp_path / name).read_text() for name in names] == ["mine"] * 4
    assert any("README.md is not as diffuseq wrote it" in event.text for event in told)


def test_notes_in_the_card_stay_when_a_run_goes_on_and_a_card_of_ours_is_written_anew(
    data: Path, tmp_path: Path
) -> None:
    card = tmp_path / "README.md"
    train(tiny.config(steps=2, evaluate_rows=0), data, tmp_path)
    first = card.read_text()
    train(tiny.config(steps=4, evaluate_rows=0), data, tmp_path, resume=True)
    second = card.read_text()
    assert "2 steps" in first and "4 steps" in second
    card.write_text(second.replace("## Limits\n", "## Limits\n\nNot for poems.\n"))
    notes = card.read_text()
    train(tiny.config(steps=6, evaluate_rows=0), data, tmp_path, resume=True)
    assert card.read_text() == notes != second
    card.unlink()
    train(tiny.config(steps=8, evaluate_rows=0), data, tmp_path, resume=True)
    assert "8 steps" in card.read_text()


@pytest.mark.parametrize("lost", [("resume",), ("resume", "training.json", "metrics.jsonl")])
def test_a_model_without_its_checkpoints_is_not_trained_anew_as_if_it_went_on(
    lost: tuple[str, ...], data: Path, tmp_path: Path
) -> None:
    config = tiny.config(steps=2, evaluate_rows=0)
    out = train(config, data, tmp_path / "run")
    before = (out / "model.safetensors").read_bytes()
    for name in lost:
        shutil.rmtree(out / name) if (out / name).is_dir() else (out / name).unlink()
    with pytest.raises(InputError, match=r"no checkpoint to go on from.*--training\.start-from .*run"):
        train(config, data, out, resume=True)
    assert (out / "model.safetensors").read_bytes() == before


def test_overwriting_deletes_nothing_that_the_new_run_needs(data: Path, tmp_path: Path) -> None:
    config = tiny.config(steps=2, evaluate_rows=0)
    out = train(config, data, tmp_path / "run")
    for changes in ({"start_from": str(out)}, {"teachers": (str(tmp_path / "run" / "." / ".." / "run"),)}):
        begun = tiny.config(steps=2, evaluate_rows=0, **changes)
        with pytest.raises(InputError, match=r"--overwrite would delete .*run, which the training needs"):
            train(begun, data, out, overwrite=True)
    with pytest.raises(InputError, match="There is no folder"):
        train(config, tmp_path / "nowhere", out, overwrite=True)
    assert (out / "model.safetensors").is_file() and (out / "training.json").is_file()


def test_overwriting_deletes_nothing_before_the_new_run_can_begin(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny.config(steps=2, evaluate_rows=0)
    out = train(config, data, tmp_path / "run")
    cased = dataclasses.replace(config, text=dataclasses.replace(config.text, lowercase=False))
    other = train(cased, data, tmp_path / "other")
    before = {path.name: path.read_bytes() for path in out.glob("*.*")}
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    changes: list[tuple[dict[str, Any], str]] = [
        ({"teachers": ("qqp-lrge",)}, "There is no model folder 'qqp-lrge'"),
        ({"teachers": (str(other),)}, "has another vocabulary than the training"),
        ({"tensorboard": True}, "tensorboard is not installed"),
    ]
    for change, problem in changes:
        with pytest.raises(InputError, match=problem):
            train(tiny.config(steps=2, evaluate_rows=0, **change), data, out, overwrite=True)
        assert {path.name: path.read_bytes() for path in out.glob("*.*")} == before
        assert (out / "resume" / "step-2").is_dir()


def test_what_a_missing_teacher_costs_is_no_reading_of_the_data(data: Path, tmp_path: Path) -> None:
    heard: list[Event] = []
    with pytest.raises(InputError, match="There is no model folder"):
        train(tiny.config(teachers=("qqp-lrge",)), data, tmp_path / "run", on_event=heard.append)
    assert heard == []


@pytest.mark.parametrize(
    ("system", "problem"),
    [
        (DiffuSeqConfig(width=34, heads=4), "width is 34, which cannot be split into 4 heads"),
        (DiffuSeqConfig(width=100, heads=4), "width is 100, of which each of 4 heads gets 25.*multiple of 8"),
        (DiffuSeqConfig(token_wise=0.5), "token_wise is 0.5"),
        (DiffusionLMConfig(classifier_width=34), "classifier_width is 34, .* 8 heads"),
        (PublishedConfig(time_width=1), "time_width is 1; give a whole number from 2"),
    ],
)
def test_a_system_that_cannot_be_is_refused_before_anything_is_read(
    system: Any, problem: str, tmp_path: Path
) -> None:
    config = dataclasses.replace(tiny.config(), system=system)
    with pytest.raises(InputError, match=rf"^system\.{problem}"):
        train(config, tmp_path / "no data", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("system", "problem"),
    [
        (
            dataclasses.replace(tiny.NETWORK, max_length=4),
            "source has up to 6 tokens, but this system takes 4",
        ),
        (CMLMConfig(max_length=4), "source has up to 6 tokens, but this system takes 4"),
        (
            Gpt2Config(weights="random", max_length=9),
            "Source, separator and target have up to 13 tokens together",
        ),
        (DiffusionLMConfig(sequence_length=7), "target has up to 6 tokens"),
        (
            DiffuSeqConfig(bert=BertSizes(positions=7), attention="all", token_wise=0.5),
            "source has up to 6 tokens, but the BERT",
        ),
    ],
)
def test_texts_longer_than_the_network_takes_are_refused_before_the_first_step(
    system: Any, problem: str, data: Path, tmp_path: Path
) -> None:
    sizes = {"layers": 1, "encoder_layers": 1, "decoder_layers": 1, "classifier_layers": 1}
    system = dataclasses.replace(
        system, **{name: size for name, size in sizes.items() if hasattr(system, name)}
    )
    generation = entry(system.kind).generation()
    events: list[Event] = []
    with pytest.raises(InputError, match=problem):
        train(
            dataclasses.replace(tiny.config(), system=system, generation=generation),
            data,
            tmp_path,
            on_event=events.append,
        )
    assert "start" not in [event.kind for event in events]


@pytest.mark.parametrize(
    ("kind", "settings", "problem"),
    [
        ("transformer", {"max_length": 64}, "target"),
        ("diffuseq", {"length": 64, "sampler": "settle"}, "An answer of 64 tokens"),
        ("published", {"length": 64}, "64"),
    ],
)
def test_generation_that_the_network_has_no_room_for_is_refused_before_the_first_step(
    kind: str, settings: dict[str, Any], problem: str, data: Path, tmp_path: Path
) -> None:
    found, small = entry(kind), {"max_length": 32, "sequence_length": 64}
    fields = {field.name for field in dataclasses.fields(found.config)}
    system = found.config(**{name: size for name, size in small.items() if name in fields})
    config = dataclasses.replace(tiny.config(), system=system, generation=found.generation(**settings))
    events: list[Event] = []
    with pytest.raises(InputError, match=problem):
        train(config, data, tmp_path, on_event=events.append)
    assert "start" not in [event.kind for event in events]


def test_more_micro_batches_than_pairs_of_a_step_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"A step has 8 pairs for 9 micro-batches .* larger training.batch_size"
    ):
        train(tiny.config(accumulate=9), tmp_path / "no data", tmp_path / "out")


def test_generation_that_does_not_fit_the_network_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    seeing_all = DiffuSeqConfig(attention="all")
    by_reading = DiffusionGeneration(sampler="fixed-point")
    config = dataclasses.replace(tiny.config(), system=seeing_all, generation=by_reading)
    with pytest.raises(InputError, match=r"in training --generation\.sampler settle"):
        train(config, tmp_path / "no data", tmp_path / "out")
    with pytest.raises(InputError, match="steps is 0"):
        train(
            dataclasses.replace(config, generation=DiffusionGeneration(steps=0)), tmp_path, tmp_path / "out"
        )
    assert not (tmp_path / "out").exists()


def test_generation_settings_of_another_kind_of_system_are_refused(tmp_path: Path) -> None:
    config = Config(tiny.NETWORK)  # with a diffusion's, by default
    with pytest.raises(InputError, match=r"is a DiffusionGeneration, but a transformer.*AutoregressiveGen"):
        train(config, tmp_path / "no data", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("part", "changes", "says"),
    [
        ("training", {"optimizer": "adam"}, r"Unknown training.optimizer 'adam'; .* Did you mean 'adamw'"),
        ("training", {"steps": "12"}, "training.steps is '12'; it must be a int"),
        ("training", {"both_directions": "no"}, "training.both_directions is 'no'; it must be a bool"),
        ("text", {"overlong": "drop"}, "Unknown text.overlong 'drop'; choose one of: cut, refuse"),
        ("text", {"max_target": 8.5}, "text.max_target is 8.5; it must be a int"),
        ("system", {"width": 16.0}, "system.width is 16.0; it must be a int"),
    ],
)
def test_a_config_that_could_not_be_opened_again_is_refused(
    part: str, changes: dict[str, Any], says: str, tmp_path: Path
) -> None:
    config = tiny.config()
    config = dataclasses.replace(config, **{part: dataclasses.replace(getattr(config, part), **changes)})
    with pytest.raises(InputError, match=says):
        train(config, tmp_path / "no data", tmp_path / "out")


def test_paths_and_numbers_of_numpy_may_be_in_a_config(data: Path, tmp_path: Path) -> None:
    first = tiny.config(steps=np.int64(2), evaluate_rows=0)
    train(first, data, tmp_path / "first")
    text = dataclasses.replace(first.text, tokenizer=tmp_path / "first")
    second = dataclasses.replace(first, text=text)
    model = train(second, data, tmp_path / "second")
    assert load_model(model)[2].text.tokenizer == str(tmp_path / "first")


def test_what_is_no_config_and_no_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config is of the type str; give a Config, such as .*recipe"):
        train("tiny", tmp_path, tmp_path / "out")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="config is of the type str; give a Config"):
        train(Config("tiny"), tmp_path, tmp_path / "out")
    with pytest.raises(InputError, match="The data is of the type list; give a path"):
        train(tiny.config(), [("a", "b")], tmp_path / "out")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="The folder out is empty; give a path"):
        train(tiny.config(), tmp_path, "")


@pytest.mark.parametrize("attention", ["settled", "all"])
def test_texts_without_a_token_are_told_and_stop_no_run(attention: str, data: Path, tmp_path: Path) -> None:
    """A source and a target of nothing but a control character, in both splits."""
    folder = tmp_path / "data"
    folder.mkdir()
    for split in ("train", "valid"):
        rows = (data / f"{split}.jsonl").read_text().splitlines()
        empty = [{"src": "\x7f", "trg": "alpha"}, {"src": "beta", "trg": "\x7f"}]
        (folder / f"{split}.jsonl").write_text("\n".join([*map(json.dumps, empty), *rows]) + "\n")
    config = Config(
        DiffuSeqConfig(
            encoder_layers=1, decoder_layers=1, heads=2, width=16, feed_forward=16, embedding_width=8,
            max_length=8, attention=attention,  # type: ignore[arg-type]
        ),
        tiny.config().text,
        tiny.settings(),
        DiffusionGeneration(sampler="settle", steps=2, candidates=1),
    )  # fmt: skip
    events: list[Event] = []
    out = train(config, folder, tmp_path / "out", on_event=events.append)
    assert any("2 texts have no token at all" in event.text for event in events)
    assert all(0 < line["valid_loss"] < 100 for line in lines(out) if "valid_loss" in line)
    (look, *_) = [event.values for event in events if event.kind == "evaluation"]
    assert len(look["samples"]) == 2 and look["samples"][0]["source"] == "beta"


def test_resuming_with_another_network_or_other_data_is_refused_by_name(data: Path, tmp_path: Path) -> None:
    config = tiny.config(steps=2, evaluate_rows=0)
    train(config, data, tmp_path / "out")
    wider = dataclasses.replace(config, system=dataclasses.replace(config.system, width=32))
    with pytest.raises(InputError, match=r"system\.width is 32.*16"):
        train(wider, data, tmp_path / "out", resume=True)
    other_optimizer = tiny.config(steps=4, evaluate_rows=0, optimizer="muon")
    with pytest.raises(InputError, match=r"training\.optimizer is 'muon'.*'adamw'"):
        train(other_optimizer, data, tmp_path / "out", resume=True)
    other = tiny.write_data(tmp_path / "other", rows=61)
    with pytest.raises(InputError, match="data or the tokenizer"):
        train(config, other, tmp_path / "out", resume=True)


@pytest.mark.parametrize(("asked", "expected"), [("auto", True), ("fp32", False)])
def test_a_run_in_bf16_goes_on_in_the_precision_that_is_asked_for(
    asked: Precision, expected: bool, data: Path, tmp_path: Path
) -> None:
    train(tiny.config(steps=2, evaluate_rows=0, precision="bf16"), data, tmp_path)
    heard: list[Event] = []
    longer = tiny.config(steps=4, evaluate_rows=0, precision=asked)
    train(longer, data, tmp_path, resume=True, on_event=heard.append)
    assert [event.values["bf16"] for event in heard if event.kind == "start"] == [expected]


def test_a_run_without_averaging_goes_on_without_it(data: Path, tmp_path: Path) -> None:
    train(tiny.config(steps=2, evaluate_rows=0, ema=0.0), data, tmp_path / "out")
    with pytest.raises(InputError, match=r"training\.ema is 0\.9.*started with 0\.0"):
        train(tiny.config(steps=4, evaluate_rows=0, ema=0.9), data, tmp_path / "out", resume=True)
    train(tiny.config(steps=4, evaluate_rows=0, ema=0.0), data, tmp_path / "out", resume=True)


def test_a_loss_that_is_no_number_keeps_the_last_good_checkpoint(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffuseq.baselines.transformer import Transformer

    calls, forward = iter(range(100)), Transformer.forward

    def overflow(self: Transformer, batch: Batch, generator: torch.Generator | None = None) -> Loss:
        loss = forward(self, batch, generator)
        return dataclasses.replace(loss, value=loss.value * (float("nan") if next(calls) == 6 else 1.0))

    monkeypatch.setattr(Transformer, "forward", overflow)
    with pytest.raises(InputError, match=r"Step 7: the loss is nan, on training rows \d+"):
        train(tiny.config(evaluate_every=100, evaluate_rows=0), data, tmp_path)
    assert [path.name for path in (tmp_path / "resume").glob("step-*")] == ["step-4"]


def test_one_file_is_enough_and_its_every_twentieth_row_is_held_out(data: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    config = tiny.config(steps=1, evaluate_rows=0)
    train(config, data / "train.jsonl", tmp_path, on_event=events.append)
    assert next(e for e in events if e.kind == "start").values["pairs"] == 57


def test_epochs_are_counted_in_the_pairs_that_are_there(data: Path, tmp_path: Path) -> None:
    for name, both, steps in (("one", False, 4), ("both", True, 8)):
        out = train(tiny.config(epochs=0.5, steps=99, both_directions=both), data, tmp_path / name)
        done = json.loads((out / "training.json").read_text())
        assert (done["steps"], done["pairs_seen"]) == (steps, 8 * steps)  # of 60 pairs, eight a step
        assert "0.5 times through the pairs" in (out / "README.md").read_text()
    assert train(tiny.config(epochs=0.5, both_directions=True), data, out, resume=True) == out


def test_a_folder_that_cannot_be_written_is_one_sentence(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"Cannot write into .*--out"):
        train(tiny.config(), data, tmp_path / "file")


def test_data_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no folder"):
        train(tiny.config(), tmp_path / "nowhere", tmp_path / "out")


def test_tensorboard_is_written_where_asked(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    train(tiny.config(steps=1, evaluate_rows=0, tensorboard=True), data, tmp_path)
    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_lines_of_metrics_stay_whole_whatever_the_texts_hold(data: Path, tmp_path: Path) -> None:
    """JSON escapes no line separator (U+2028) and no next line (U+0085), which end a line for Python."""
    train(tiny.config(steps=4, log_every=2), data, tmp_path)
    metrics = tmp_path / "metrics.jsonl"
    kept = '{"step": 3, "samples": [{"source": "one\u2028two\u0085three"}]}\n'
    metrics.write_text(metrics.read_text(encoding="utf-8") + kept, encoding="utf-8")
    train(tiny.config(steps=6, log_every=2), data, tmp_path, resume=True)
    assert kept in metrics.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("rows", "why"), [([], "it has no row"), ([{"src": "a"}], "skipped 1 row: the field 'trg'")]
)
def test_a_split_without_pairs_is_named(
    rows: list[dict[str, str]], why: str, data: Path, tmp_path: Path
) -> None:
    for split, text in (
        ("train", (data / "train.jsonl").read_text()),
        ("valid", "".join(json.dumps(row) + "\n" for row in rows)),
    ):
        (tmp_path / f"{split}.jsonl").write_text(text)
    for given in (tmp_path, tmp_path / "valid.jsonl"):
        with pytest.raises(InputError, match=rf"valid.jsonl gives no pair \({why}"):
            train(tiny.config(), given, tmp_path / "out", skip_bad_rows=True)
    assert not (tmp_path / "out" / "cache" / "tokenizer").exists()


def test_targets_longer_than_answers_can_be_are_told(tmp_path: Path) -> None:
    rows = [{"src": "a b", "trg": " ".join("abcdefgh"[: 3 + i % 6])} for i in range(20)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    small = {"encoder_layers": 1, "decoder_layers": 1, "heads": 2, "width": 16, "feed_forward": 16}
    for room, count in ((6, 6), (8, 0)):
        config = dataclasses.replace(
            tiny.config(steps=1, evaluate_rows=0),
            system=DiffuSeqConfig(max_length=room, **small),
            generation=DiffusionGeneration(sampler="fixed-point"),
        )
        events: list[Event] = []
        train(config, tmp_path / "pairs.jsonl", tmp_path / f"{room}", on_event=events.append)
        told = [event.text for event in events if "--system.max-length" in event.text]
        assert len(told) == bool(count) and all(text.startswith(f"{count} training targets") for text in told)


def test_the_case_of_a_named_tokenizer_is_told(data: Path, tmp_path: Path) -> None:
    for number, lowercase in enumerate((True, False)):
        Tokenizer.train(["alpha beta Gamma"] * 3, 60, lowercase=lowercase).save(tmp_path / f"{number}")
        config = tiny.config(steps=1, evaluate_rows=0)
        text = dataclasses.replace(
            config.text, tokenizer=str(tmp_path / f"{number}"), lowercase=not lowercase
        )
        events: list[Event] = []
        model = train(
            dataclasses.replace(config, text=text), data, tmp_path / f"run{number}", on_event=events.append
        )
        assert any("lower-cases all text" in event.text for event in events) == lowercase
        assert ("writes lower case only" in (model / "README.md").read_text()) == lowercase


@pytest.mark.parametrize(
    ("target", "changes", "warned"),
    [
        ("no no", {}, True),
        ("no no", {"repeats": True}, False),
        ("no no", {"sampler": "ddim"}, False),
        ("no", {}, False),
    ],
)
def test_targets_that_answers_could_not_have_are_told(
    target: str, changes: dict[str, Any], warned: bool, tmp_path: Path
) -> None:
    rows = [{"src": f"q{i}", "trg": target} for i in range(20)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    small = {"encoder_layers": 1, "decoder_layers": 1, "heads": 2, "width": 16, "feed_forward": 16}
    levels = {"attention": "all", "token_wise": 0.5} if "sampler" in changes else {}
    config = dataclasses.replace(
        tiny.config(steps=1, evaluate_rows=0),
        system=DiffuSeqConfig(**small, **levels),  # type: ignore[arg-type]
        generation=DiffusionGeneration(**{"sampler": "fixed-point", **changes}),
    )
    events: list[Event] = []
    train(config, tmp_path / "pairs.jsonl", tmp_path / "out", on_event=events.append)
    told = [event.text for event in events if "--generation.repeats" in event.text]
    assert [text[: text.index(",")] for text in told] == (
        ["100% of the training targets have a token twice in a row"] if warned else []
    )


def test_a_run_is_the_same_whatever_the_default_dtype_around_it(data: Path, tmp_path: Path) -> None:
    usual = train(tiny.config(steps=4), data, tmp_path / "usual")
    torch.set_default_dtype(torch.float64)
    try:
        other = train(tiny.config(steps=4), data, tmp_path / "other")
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert tiny.same_weights(other, usual)
