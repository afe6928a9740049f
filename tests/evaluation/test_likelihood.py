"""The bound of real systems at tiny size."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from diffuseq.cli import evaluate
from diffuseq.config import Config, DiffuSeqConfig, PublishedConfig
from diffuseq.data.batch import Batch, pad
from diffuseq.errors import InputError
from diffuseq.evaluation.bound import Bound, estimate_bound
from diffuseq.evaluation.likelihood import negative_log_likelihood, system_terms
from diffuseq.evaluation.predictions import Prediction, write_predictions
from diffuseq.pipeline import DiffuSeqPipeline
from diffuseq.registry import build
from diffuseq.system import SpecialTokens, System
from diffuseq.text.tokenizer import Tokenizer

SPECIAL = SpecialTokens(24, pad=0, start=1, end=2, unknown=3, mask=4)
BATCH = Batch(*pad([[10, 11, 12], [13], [14, 15]], 0), *pad([[20, 21], [22], [23, 20, 21]], 0))
OURS = DiffuSeqConfig(
    encoder_layers=1,
    decoder_layers=1,
    heads=2,
    width=16,
    feed_forward=16,
    embedding_width=8,
    dropout=0.0,
    max_length=6,
)
PUBLISHED = PublishedConfig(
    layers=1,
    heads=2,
    width=16,
    feed_forward=32,
    embedding_width=8,
    time_width=8,
    sequence_length=12,
    max_positions=12,
    diffusion_steps=20,
    dropout=0.0,
)


SEES_ALL = dataclasses.replace(OURS, attention="all")


def make(config: DiffuSeqConfig | PublishedConfig) -> System:
    torch.manual_seed(0)
    return build(config, SPECIAL)


@torch.no_grad()
def bound(system: System, calls: int | None = 10, rounds: int = 4) -> Bound:
    generator = torch.Generator().manual_seed(0)
    system.eval()
    return estimate_bound([system_terms(system, BATCH, calls, generator)] for _ in range(rounds))


@pytest.mark.parametrize("config", [OURS, SEES_ALL, PUBLISHED], ids=["ours", "sees-all", "published"])
def test_training_lowers_the_bound(config: DiffuSeqConfig | PublishedConfig) -> None:
    system = make(config)
    before = bound(system)
    optimizer = torch.optim.Adam(system.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(1)
    for _ in range(30):
        optimizer.zero_grad()
        system(BATCH, generator).value.backward()
        optimizer.step()
    after = bound(system)
    assert after.total < before.total - 3 * (before.standard_error + after.standard_error)


@torch.no_grad()
def test_in_order_the_bound_of_one_order_is_the_likelihood_word_by_word() -> None:
    """From left to right there is one order only: every draw gives −log p of words and end exactly."""
    system = make(dataclasses.replace(OURS, left_to_right=1.0, length_first=0.0))
    found = bound(system, 1, 4)
    assert found.prior == found.diffusion == 0 and found.rounding > 0
    assert found.standard_error < 1e-2 * found.total  # the noise is hardly read
    mixed = bound(make(OURS), 1, 4)
    assert mixed.standard_error > found.standard_error


def test_fewer_calls_give_the_same_bound_with_a_larger_error() -> None:
    system = make(PUBLISHED)
    whole, part = bound(system, None, 16), bound(system, 4, 16)
    assert abs(whole.total - part.total) < 4 * (whole.standard_error**2 + part.standard_error**2) ** 0.5
    assert part.standard_error > whole.standard_error


def test_words_are_counted_without_separators_and_padding() -> None:
    assert bound(make(PUBLISHED), 2, 2).tokens == bound(make(OURS), 2, 2).tokens == 6


def test_our_bound_pays_for_the_length_and_the_published_for_padding() -> None:
    assert bound(make(OURS), 2, 2).length > 0
    assert bound(make(PUBLISHED), 2, 2).length == 0


class StandIn(TorchFunctionMode):
    """Makes the device without numbers one that holds zeros and, as a GPU does, refuses generators of another."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.to and args[0].is_meta and args[1] == torch.device("cpu"):
            return torch.zeros(args[0].shape, dtype=args[0].dtype)
        made = func(*args, **(kwargs or {}))
        generator = (kwargs or {}).get("generator")
        if generator is not None and generator.device.type != made.device.type:
            raise RuntimeError(f"Expected a {made.device.type!r} device type for generator")
        return made


@torch.no_grad()
def test_what_a_seed_draws_is_drawn_where_its_generator_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that it is the same for every device."""
    system, asked = make(OURS).eval().to("meta"), []

    def log_p_by_rank(*given: Any) -> Tensor:
        asked.append({part.device.type for part in given if isinstance(part, Tensor)})
        return torch.zeros(given[0].shape, device="meta")

    monkeypatch.setattr(system, "log_p_by_rank", log_p_by_rank)
    with StandIn():
        found = system_terms(system, BATCH.to("meta"), 2, torch.Generator().manual_seed(0))
    assert asked == [{"meta"}] * 2
    assert found.rounding.device.type == "meta"


def test_systems_without_a_bound_are_refused() -> None:
    generator = torch.Generator()
    with pytest.raises(InputError, match="v2 is not defined"):
        system_terms(make(dataclasses.replace(PUBLISHED, version=2)), BATCH, 2, generator)
    other = make(PUBLISHED)
    other.config = dataclasses.replace(PUBLISHED, kind="transformer")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="'transformer' has no variational bound"):
        system_terms(other, BATCH, 2, generator)


@pytest.mark.parametrize("counts", [{"calls": -5}, {"calls": 0}, {"rounds": 1}, {"batch_size": 0}])
def test_numbers_that_bound_nothing_are_refused(
    ordered_pipe: DiffuSeqPipeline, counts: dict[str, int]
) -> None:
    (name, count), *_ = counts.items()
    with pytest.raises(InputError, match=f"{name} is {count}; give a whole number of at least"):
        negative_log_likelihood(ordered_pipe, ["tea"], ["coffee"], **counts)


def test_the_verb_bounds_a_model_folder_on_the_references(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = [(f"how can i learn {word}", f"what is {word}") for word in ("chess", "to cook", "music")]
    tokenizer = Tokenizer.train((text for pair in pairs for text in pair), vocab_size=80)
    pipeline = DiffuSeqPipeline(build(OURS, tokenizer.special), tokenizer, Config(OURS))
    pipeline.save_pretrained(tmp_path / "model")
    rows = [Prediction(source, (target,), (target,)) for source, target in pairs]
    write_predictions(tmp_path / "predictions.jsonl", rows)
    options = ["--nll", str(tmp_path / "model"), "--nll-calls", "2", "--nll-rounds", "2", "--bootstrap", "0"]
    out = tmp_path / "scores.json"
    assert evaluate.main([str(tmp_path / "predictions.jsonl"), *options, "--json", str(out)]) == 0
    assert "Bound on −log p of the references" in capsys.readouterr().out
    found = json.loads(out.read_text())["nll"]
    parts = sum(found[name] for name in ("prior", "diffusion", "rounding", "length"))
    assert found["total"] == pytest.approx(parts) and found["tokens"] >= 6


def test_the_bound_is_the_same_whatever_the_default_dtype_around_it() -> None:
    def bound() -> Bound:
        return negative_log_likelihood(pipe, ["what is music?"], ["what is it?"], calls=3, rounds=2)

    pipe = DiffuSeqPipeline.from_pretrained("grammar", "cpu")
    usual = bound()
    torch.set_default_dtype(torch.float64)
    try:
        assert bound() == usual
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    ("sources", "targets", "said"),
    [
        (["a"], ["a", "b"], "1 sources and 2 targets"),
        ([], [], "0 sources and 0 targets"),
        ("a", ["b"], "sources is one text"),
    ],
)
def test_texts_that_are_no_pairs_are_one_sentence(sources: Any, targets: Any, said: str) -> None:
    pipe = DiffuSeqPipeline.from_pretrained("grammar", "cpu")
    with pytest.raises(InputError, match=said):
        negative_log_likelihood(pipe, sources, targets, calls=2, rounds=2)
