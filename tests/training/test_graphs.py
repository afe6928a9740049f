"""Forward and backward as CUDA graphs: what can be recorded, and that replaying computes the same."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import pytest
import torch
from accelerate.utils import DistributedType
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from diffuseq.baselines.configs import CMLMConfig, TransformerConfig
from diffuseq.config import DiffuSeqConfig, TrainingConfig
from diffuseq.data.batch import Batch, pad
from diffuseq.registry import build
from diffuseq.system import SpecialTokens
from diffuseq.training.chance import mix, seed_apart
from diffuseq.training.feed import Stream
from diffuseq.training.graphs import GraphedPasses, Passed, Recording, can_be_graphed
from diffuseq.training.loop import Training, prepare, train_steps

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
    alone = DistributedType.NO
    assert can_be_graphed(ours, gpu, alone)
    assert can_be_graphed(build(TRANSFORMER, SPECIAL), gpu, alone)
    assert not can_be_graphed(ours, torch.device("cpu"), alone)
    assert not can_be_graphed(build(replace(OURS, attention="all"), SPECIAL), gpu, alone)
    assert not can_be_graphed(build(CMLMConfig(width=32, heads=2, feed_forward=32), SPECIAL), gpu, alone)


@pytest.mark.parametrize("wrapped", [DistributedType.MULTI_GPU, DistributedType.FSDP])
def test_what_is_wrapped_for_several_processes_is_not_recorded(wrapped: DistributedType) -> None:
    assert not can_be_graphed(build(OURS, SPECIAL), torch.device("cuda"), wrapped)


def test_what_is_recorded_asks_no_tensor_what_is_in_it() -> None:
    with FakeTensorMode():  # raises where a value or a shape depends on data
        system = build(OURS, SPECIAL).train()
        for batch in batches():
            system(batch, torch.Generator()).value.backward()


def test_a_cpu_trains_without() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert prepare(build(OURS, SPECIAL), SETTINGS).graphed is None


class Narrow(GraphedPasses):
    """Where there is no room to record: memory ends with the warm-up."""

    def _warm_up_and_record(self, batch: Batch) -> Recording:
        self.passes(batch, self.generator)
        raise torch.OutOfMemoryError("CUDA out of memory.")


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> tuple[Training, list[str]]:
    """A training without room, and what it tells of that."""
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 0))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    torch.manual_seed(0)
    told: list[str] = []
    training = prepare(build(OURS, SPECIAL), replace(SETTINGS, cuda_graphs=False))
    training.model.train()
    training.graphed = Narrow(training.passes, training.parameters, torch.device("cpu"), told.append)
    return training, told


def gradients(training: Training) -> list[Tensor]:
    return [parameter.grad.clone() for parameter in training.parameters if parameter.grad is not None]


def computed(training: Training, batch: Batch, seed: int) -> tuple[Passed, list[Tensor]]:
    """By the passes themselves, from gradients of zero."""
    for parameter in training.parameters:
        parameter.grad = torch.zeros_like(parameter)
    generator = torch.Generator()
    seed_apart(seed, torch.device("cpu"), generator)
    passed = training.passes(batch, generator)
    return passed, gradients(training)


@pytest.mark.skipif(torch.cuda.is_available(), reason="stands in for a GPU on a machine without")
def test_where_memory_ends_the_rest_is_computed_to_the_same_numbers(
    narrow: tuple[Training, list[str]],
) -> None:
    training, told = narrow
    assert training.graphed is not None
    others = torch.Size([9, 9]), torch.Size([9, 9])
    training.graphed.recordings[others] = Recording(None, batches()[0], None)  # type: ignore[arg-type]
    for number, batch in enumerate([*batches(), *batches()]):
        expected, its_gradients = computed(training, batch, mix(0, number))
        for parameter in training.parameters:
            assert parameter.grad is not None
            parameter.grad.fill_(1.0)  # of the chunks before, which is kept
        passed = training.graphed(batch, mix(0, number))
        torch.testing.assert_close(passed.value, expected.value)
        torch.testing.assert_close(gradients(training), [1.0 + part for part in its_gradients])
    assert len(told) == 1 and "goes on without them" in told[0]
    assert not training.graphed.recordings


@pytest.mark.skipif(torch.cuda.is_available(), reason="stands in for a GPU on a machine without")
def test_recordings_and_their_memory_are_gone_at_the_end(narrow: tuple[Training, list[str]]) -> None:
    training, _ = narrow
    training.settings = replace(training.settings, steps=2)
    assert training.graphed is not None
    recorded = weakref.ref(training.graphed)
    gc.disable()  # whoever waits for it keeps a GPU's memory
    try:
        assert len(list(train_steps(training, Stream(lambda step: batches()[0], 2)))) == 2
        assert recorded() is None
    finally:
        gc.enable()


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
                generator = torch.Generator(device)
                seed_apart(seed, device, generator)
                passed = training.passes(batch.to(device), generator)
            else:
                passed = training.graphed(batch.to(device), seed)
            gradients = [p.grad.clone() for p in training.system.parameters() if p.grad is not None]
            found.append((graphs, passed.value.clone(), passed.weight.clone(), gradients))
    half = len(found) // 2
    for (_, *computed), (_, *replayed) in zip(found[:half], found[half:], strict=True):
        torch.testing.assert_close(replayed, computed)
