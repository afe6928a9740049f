"""Learning from systems that are trained already, and going on from one."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny_runs as tiny
import torch
from torch import Tensor

from diffuseq.checkpoint import find_model, load_model
from diffuseq.cli.train import parse
from diffuseq.config import Config, DiffuSeqConfig, DiffusionGeneration
from diffuseq.data.batch import Batch, pad
from diffuseq.errors import InputError
from diffuseq.model.denoiser import Denoiser
from diffuseq.model.word_losses import label_losses
from diffuseq.system import System
from diffuseq.systems.diffuseq import DiffuSeq
from diffuseq.training.feed import Stream
from diffuseq.training.loop import fit
from diffuseq.training.run import train
from diffuseq.training.teachers import Teachers

OURS = DiffuSeqConfig(
    encoder_layers=1, decoder_layers=1, heads=2, width=16, feed_forward=32, embedding_width=8,
    dropout=0.0, max_length=32,
)  # fmt: skip
REPEATED = Batch(*pad([[5, 6, 5, 7], [8, 9], [10]], 0), *pad([[5, 11], [12, 8, 8, 9], [13]], 0))


def ours(seed: int = 0, **changes: object) -> DiffuSeq:
    torch.manual_seed(seed)
    return DiffuSeq(dataclasses.replace(OURS, **changes), tiny.SPECIAL)  # type: ignore[arg-type]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("pupil", [ours(), ours(copy=False), tiny.system()], ids=["copy", "plain", "ar"])
def test_labels_that_are_the_words_themselves_change_nothing(pupil: System) -> None:
    labelled = Teachers([ours(1), tiny.system(2)], share=0.0).label(REPEATED)
    plain, taught = pupil(REPEATED, generator()), pupil(labelled, generator())
    torch.testing.assert_close(taught.value, plain.value)
    torch.testing.assert_close(taught.logs["nll"], plain.logs["nll"])


def test_labels_are_the_mean_of_what_the_teachers_expect() -> None:
    systems: Sequence[System] = [ours(1), tiny.system(2)]
    labels = Teachers(systems, share=0.75).label(REPEATED, generator()).labels
    assert labels is not None and labels.shape == (3, 5, tiny.SPECIAL.vocab_size)
    torch.testing.assert_close(labels.sum(-1), torch.ones(3, 5))
    draws = generator()
    with torch.no_grad():
        expected = torch.stack([system.next_words(REPEATED, draws) for system in systems]).mean(0)
    expected = 0.75 * expected
    expected[1, 2, 8] += 0.25
    torch.testing.assert_close(labels[1, 2], expected[1, 2])
    assert labels[2, 3].argmax() == tiny.SPECIAL.end and labels[2, 3].max() == 1.0  # beyond the end


def test_the_loss_is_the_cross_entropy_with_what_the_network_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pointer is asked for the words of the source alone, some of which stand there twice."""
    pupil = ours(left_to_right=1.0, length_first=0.0, vocabulary_loss=0.0)
    labelled = Teachers([ours(1)], share=1.0).label(REPEATED, generator())
    assert labelled.labels is not None
    loss = pupil(labelled, generator(3))
    seen: dict[str, Tensor] = {}

    def watch(network: Denoiser, hidden: Tensor, *given: Any, **named: Any) -> tuple[Tensor, Tensor]:
        everywhere = torch.ones(hidden.shape[:2], dtype=torch.bool)
        seen["p"] = network.distribution(hidden.detach(), given[0], everywhere)
        return label_losses(network, hidden, *given, **named)

    monkeypatch.setattr("diffuseq.systems.diffuseq.label_losses", watch)
    with torch.no_grad():
        again = pupil(labelled, generator(3))
    torch.testing.assert_close(again.value, loss.value.detach())
    words = -(labelled.labels.flatten(0, 1) * seen["p"].log()).sum() / (2 + 4 + 1 + 3)
    length = pupil.config.length_loss * again.logs["length"] * 3 / 10
    torch.testing.assert_close(again.value, words + length, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["ours", "transformer"])
def test_a_pupil_comes_to_expect_what_its_teachers_do(kind: str) -> None:
    batch = tiny.batch(16)
    teacher = tiny.system(5)
    fit(teacher, Stream(lambda step: batch, 16), tiny.settings(steps=40, learning_rate=1e-2))
    pupil: System = ours(left_to_right=1.0) if kind == "ours" else tiny.system(6)

    def distance() -> float:
        with torch.no_grad():
            wanted = teacher.next_words(batch)
            found = pupil.eval().next_words(batch, generator())
        inside = torch.arange(wanted.shape[1]) <= (~batch.target_padding).sum(1)[:, None]
        return float((wanted - found).abs().sum(-1)[inside].mean())

    before = distance()
    labelled = Teachers([teacher], share=1.0).label(batch)
    fit(pupil, Stream(lambda step: labelled, 16), tiny.settings(steps=80, learning_rate=1e-2))
    assert distance() < 0.5 * before


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_data(tmp_path_factory.mktemp("data") / "pairs")


@pytest.fixture(scope="module")
def teacher(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tiny.config(), data, tmp_path_factory.mktemp("runs") / "teacher")


def our_config(**changes: object) -> Config:
    generation = DiffusionGeneration(candidates=1, steps=2, sampler="fixed-point")
    return dataclasses.replace(tiny.config(**changes), system=OURS, generation=generation)


def test_a_run_learns_from_teachers_and_goes_on_as_if_it_had_not_stopped(
    data: Path, teacher: Path, tmp_path: Path
) -> None:
    taught = our_config(teachers=(str(teacher),), steps=8)
    train(taught, data, tmp_path / "whole")
    train(our_config(steps=8), data, tmp_path / "alone")
    assert not tiny.same_weights(tmp_path / "whole", tmp_path / "alone")
    half = dataclasses.replace(taught, training=dataclasses.replace(taught.training, schedule="constant"))
    whole = train(half, data, tmp_path / "constant")
    short = dataclasses.replace(half, training=dataclasses.replace(half.training, steps=4))
    train(short, data, tmp_path / "resumed")
    assert tiny.same_weights(train(half, data, tmp_path / "resumed", resume=True), whole)


def test_a_run_goes_on_from_a_model_with_other_data(teacher: Path, tmp_path: Path) -> None:
    rows = [{"src": f"alpha {word}", "trg": f"{word} alpha"} for word in tiny.WORDS] * 4
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = parse("tiny", ["--training.start-from", str(teacher), "--data", str(tmp_path / "mine.jsonl")])
    assert (options.system, options.text) == (tiny.config().system, tiny.config().text)
    settings = tiny.settings(start_from=str(teacher), steps=1, learning_rate=1e-9)
    config = Config(options.system, options.text, settings, options.generation)
    out = train(config, tmp_path / "mine.jsonl", tmp_path / "out")
    (system, tokenizer, saved), (before, own, _) = load_model(out), load_model(teacher)
    assert tokenizer.fingerprint == own.fingerprint
    assert saved.text.tokenizer is None and saved.training.start_from == str(teacher)
    for name, value in before.state_dict().items():
        torch.testing.assert_close(system.state_dict()[name], value, atol=1e-6, rtol=0)


def test_a_run_that_began_with_a_model_is_resumed_without_it(
    data: Path, teacher: Path, tmp_path: Path
) -> None:
    start, out = tmp_path / "start", tmp_path / "out"
    shutil.copytree(teacher, start)
    given = ["--training.start-from", str(start), "--data", str(data), "--out", str(out)]

    def go_on(steps: int, *more: str) -> Path:
        options = parse("tiny", [*given, *more])
        settings = tiny.settings(start_from=str(start), steps=steps, schedule="constant", warmup=0.0)
        config = Config(options.system, options.text, settings, options.generation)
        return train(config, data, out, resume="--resume" in more)

    go_on(2)
    shutil.rmtree(start)
    with pytest.raises(InputError, match="There is no model folder"):
        parse("tiny", given)
    assert json.loads((go_on(4, "--resume") / "training.json").read_text())["steps"] == 4


def test_what_does_not_go_together_is_refused(data: Path, teacher: Path, tmp_path: Path) -> None:
    def refused(config: Config, match: str) -> None:
        with pytest.raises(InputError, match=match):
            train(config, data, tmp_path / "out", overwrite=True)

    name = str(teacher)
    refused(tiny.config(teaching=1.5), "teaching is 1.5; give a share")
    refused(tiny.config(teachers=("nowhere",)), "no model folder 'nowhere'")
    refused(
        tiny.config(teachers=("qqp",)), "teacher qqp has another vocabulary.*--text.tokenizer .*models/qqp"
    )
    refused(tiny.published(teachers=(name,)), "learns no more than the words themselves")
    refused(our_config(start_from=name), "the system has other sizes; take that model's settings")
    other = dataclasses.replace(tiny.config(start_from=name).text, tokenizer=str(find_model("qqp")))
    refused(
        dataclasses.replace(tiny.config(start_from=name), text=other), "start_from is .* another vocabulary"
    )
    published = train(tiny.published(steps=1), data, tmp_path / "published")
    refused(tiny.config(teachers=(str(published),)), "no probability of a word given those before it")


def test_a_teacher_that_does_not_take_all_pairs_is_refused_before_the_first_step(
    data: Path, teacher: Path, tmp_path: Path
) -> None:
    text = dataclasses.replace(tiny.config().text, tokenizer=str(teacher))
    short = dataclasses.replace(
        tiny.config(steps=1, evaluate_rows=0),
        system=dataclasses.replace(tiny.NETWORK, max_length=4),
        text=dataclasses.replace(text, max_source=3, max_target=3),
        generation=dataclasses.replace(tiny.config().generation, max_length=4),
    )
    name = str(train(short, data, tmp_path / "short"))
    taught = dataclasses.replace(tiny.config(teachers=(name,)), text=text)
    with pytest.raises(InputError, match=r"teacher .*short does not take all pairs.* takes 4"):
        train(taught, data, tmp_path / "out")
    assert not (tmp_path / "out" / "metrics.jsonl").exists()
