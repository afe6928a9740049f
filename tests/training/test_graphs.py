"""Forward and backward as CUDA graphs: what can be recorded, and that replaying computes the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from diffuseq.baselines.configs import CMLMConfig, TransformerConfig
from diffuseq.config import DiffuSeqConfig, TrainingConfig
from diffuseq.data.batch import Batch, pad
from diffuseq.registry import build
from diffuseq.system import SpecialTokens
from diffuseq.training.chance import mix
from diffuseq.training.graphs import can_be_graphed
from diffuseq.training.loop import prepare

SPECIAL = SpecialTokens(vocab_size=40, pad=0, start=2, end=3, unknown=1, mask=4)
OURS = DiffuSeqConfig(
    encoder_layers=1,
    decoder_layers=2,
    heads=2,
    width=32,
    feed_forward=32,
    embedding_width=16,
    wrong_words=0.3,
    label_smoothing=0.1,
    max_length=16,
)
TRANSFORMER = TransformerConfig(encoder_layers=1, decoder_layers=1, heads=2, width=32, feed_forward=32)
SETTINGS = TrainingConfig(batch_size=2, cuda_graphs=True)
BATCHES = [([[5, 6, 7], [8, 9]], [[10, 11], [12, 13, 14, 15]]), ([[5, 6, 7, 8, 9]] * 2, [[10, 11]] * 2)]


def batches() -> list[Batch]:
    return [Batch(*pad(source, 0), *pad(target, 0)) for source, target in BATCHES]


def test_what_never_waits_can_be_recorded_on_one_gpu() -> None:
    gpu, ours = torch.device("cuda"), build(OURS, SPECIAL)
    assert can_be_graphed(ours, gpu, 1)
    assert can_be_graphed(build(TRANSFORMER, SPECIAL), gpu, 1)
    assert not can_be_graphed(ours, gpu, 2)
    assert not can_be_graphed(ours, torch.device("cpu"), 1)
    assert not can_be_graphed(build(replace(OURS, attention="all"), SPECIAL), gpu, 1)
    assert not can_be_graphed(build(CMLMConfig(width=32, heads=2, feed_forward=32), SPECIAL), gpu, 1)


def test_what_is_recorded_asks_no_tensor_what_is_in_it() -> None:
    with FakeTensorMode():  # raises where a value or a shape depends on data
        system = build(OURS, SPECIAL).train()
        for batch in batches():
            system(batch, torch.Generator()).value.backward()


def test_a_cpu_trains_without() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert prepare(build(OURS, SPECIAL), SETTINGS).graphed is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("config", [OURS, TRANSFORMER])
def test_replaying_gives_the_gradients_of_computing(config: object) -> None:
    found = []
    for graphs in (False, True):
        torch.manual_seed(0)
        training = prepare(build(config, SPECIAL), replace(SETTINGS, cuda_graphs=graphs))
        device = training.accelerator.device
        training.model.train()
        for number, batch in enumerate([*batches(), *batches()]):
            for parameter in training.system.parameters():
                parameter.grad = (
                    torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.zero_()
                )
            seed = mix(0, number)
            if training.graphed is None:
                torch.manual_seed(seed)
                passed = training.passes(batch.to(device), torch.Generator(device).manual_seed(seed))
            else:
                passed = training.graphed(batch.to(device), seed)
            gradients = [p.grad.clone() for p in training.system.parameters() if p.grad is not None]
            found.append((graphs, passed.value.clone(), passed.weight.clone(), gradients))
    half = len(found) // 2
    for (_, *computed), (_, *replayed) in zip(found[:half], found[half:], strict=True):
        torch.testing.assert_close(replayed, computed)
