"""What holds for every autoregressive system: GRU, Transformer, GPT-2, GPVAE-T5."""

from __future__ import annotations

import dataclasses
from functools import partial

import pytest
import torch
from autoregressive_cases import CONFIGS, SPECIAL, answers, last, pairs, request, system, texts
from memorise import memorise
from torch.nn import functional as F

from diffuseq.baselines.autoregressive import Autoregressive, closed, opened
from diffuseq.baselines.configs import AutoregressiveGeneration
from diffuseq.data.batch import Batch, pad
from diffuseq.errors import InputError
from diffuseq.plain import from_dict, to_dict
from diffuseq.registry import SYSTEMS
from diffuseq.system import Request

every_system = pytest.mark.parametrize("kind", CONFIGS)


def without_latent(kind: str) -> Autoregressive:
    return system(kind, **({"scalar": 0.0} if kind == "gpvae-t5" else {}))


def repeated(batch: Batch, copies: int) -> Batch:
    return batch.map(lambda tensor: tensor.repeat_interleave(copies, dim=0))


@every_system
def test_cached_decoding_equals_teacher_forcing(kind: str) -> None:
    built = without_latent(kind)
    batch = pairs(5)
    copies = 3
    inputs, padding = opened(
        repeated(batch, copies).target, repeated(batch, copies).target_padding, built.start
    )
    with torch.no_grad():
        many = repeated(batch, copies)
        hidden = built.decode(many.source, many.source_padding, inputs, padding)
        state = built.begin(request(batch), copies, inputs.shape[1])
        for position in range(inputs.shape[1]):
            logits, state = built.step(inputs[:, position], state)
            real = ~padding[:, position]
            torch.testing.assert_close(
                logits[real], built.project(hidden[real, position]), atol=1e-5, rtol=1e-4
            )


@every_system
def test_selecting_rows_swaps_their_pasts_within_a_source(kind: str) -> None:
    built = without_latent(kind)
    batch = pairs(2)
    words = torch.tensor([7, 8, 9, 10])
    with torch.no_grad():
        _, state = built.step(words, built.begin(request(batch), 2, 4))
        swapped, _ = built.step(torch.tensor([5, 6, 5, 6]), state.select(torch.tensor([1, 0, 3, 2])))
        _, state = built.step(words[[1, 0, 3, 2]], built.begin(request(batch), 2, 4))
        direct, _ = built.step(torch.tensor([5, 6, 5, 6]), state)
    torch.testing.assert_close(swapped, direct, atol=1e-5, rtol=1e-4)


@every_system
def test_it_learns_64_pairs_by_heart(kind: str) -> None:
    built = system(kind)
    batch = pairs(64, longest=4)
    steps = 200 if kind == "gpvae-t5" else 150
    assert memorise(built, batch, steps, learning_rate=1e-2)[-1] < 0.05
    built.eval()
    if kind == "gpvae-t5":  # its latent is noise at generation; a standard deviation of 0 takes the mean
        built.config = dataclasses.replace(built.config, scalar=0.0)
    given = answers(built, request(batch))
    learned = sum(a == b for a, b in zip(given, texts(batch.target, batch.target_padding), strict=True))
    # T5 knows distances alone and miscounts a word that repeats.
    assert learned >= (60 if kind == "gpvae-t5" else 63)


@every_system
def test_the_loss_is_the_cross_entropy_of_the_target_and_its_end(kind: str) -> None:
    changes = {"kl_weight": 0.0} if kind == "gpvae-t5" else {}
    built = system(kind, label_smoothing=0.1, **changes)
    batch = pairs(6)
    labels, hidden_labels = closed(batch.target, batch.target_padding, SPECIAL)
    inputs, padding = opened(batch.target, batch.target_padding, built.start)
    with torch.no_grad():
        loss = built(batch, torch.Generator().manual_seed(0))
        logits = built.project(built.decode(batch.source, batch.source_padding, inputs, padding))
    expected = {
        smoothing: F.cross_entropy(logits[~hidden_labels], labels[~hidden_labels], label_smoothing=smoothing)
        for smoothing in (0.0, 0.1)
    }
    # GPVAE-T5's latent is noise that its fresh output matrix hardly lets through.
    torch.testing.assert_close(loss.value, expected[0.1], atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(loss.logs["nll"], expected[0.0], atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_gpu_computes_padding_and_gets_the_same_loss(
    smoothing: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, batch, found = system("transformer", label_smoothing=smoothing).eval(), pairs(4), []
    for real_only in (True, False):
        monkeypatch.setattr(
            "diffuseq.baselines.autoregressive.leaves_padding_out", lambda device, only=real_only: only
        )
        network.zero_grad()
        loss = network(batch)
        loss.value.backward()
        gradients = [p.grad.clone() for p in network.parameters() if p.grad is not None]
        found.append((loss.value.detach(), loss.logs["nll"], torch.as_tensor(loss.weight), gradients))
    torch.testing.assert_close(found[0], found[1])
    assert batch.target_padding.any()


@every_system
def test_padding_changes_neither_the_loss_nor_the_answer(kind: str) -> None:
    built = without_latent(kind)
    batch = pairs(4)
    wider = Batch(*(F.pad(t, (0, 3), value=True if t.dtype == torch.bool else 9) for t in batch.tensors()))
    losses = [built(b, torch.Generator().manual_seed(0)).logs["nll"] for b in (batch, wider)]
    torch.testing.assert_close(*losses, atol=1e-4, rtol=1e-4)
    assert answers(built, request(batch)) == answers(built, request(wider))


@every_system
@pytest.mark.parametrize("strategy", ["sample", "beam"])
def test_an_answer_does_not_depend_on_the_batch(kind: str, strategy: str) -> None:
    built = system(kind)
    batch = pairs(5)
    asked = request(batch, candidates=3, strategy=strategy, temperature=1.5, beams=3)
    together = answers(built, asked)
    for row in range(5):
        alone = batch.map(partial(torch.narrow, dim=0, start=row, length=1))
        real = int((~alone.source_padding).sum())
        single = dataclasses.replace(
            asked,
            source=alone.source[:, :real],
            source_padding=alone.source_padding[:, :real],
            seeds=asked.seeds[3 * row : 3 * row + 3],
        )
        assert answers(built, single) == together[3 * row : 3 * row + 3]


@every_system
def test_samples_differ_by_their_seeds_alone(kind: str) -> None:
    built = system(kind)
    asked = request(pairs(2), candidates=4, strategy="sample", temperature=2.0)
    first = answers(built, asked)
    assert first == answers(built, asked)
    assert len({tuple(text) for text in first[:4]}) > 1
    assert answers(built, dataclasses.replace(asked, seeds=[7] * 8))[0] != first[0]


@every_system
def test_drafts_grow_by_a_token_and_the_last_is_the_answer(kind: str) -> None:
    built = system(kind)
    drafts = list(built.generate(request(pairs(3), candidates=2, strategy="sample")))
    for index, draft in enumerate(drafts):
        assert (draft.index, draft.forwards, draft.total) == (index, index + 1, 8)
        assert draft.tokens.shape == draft.padding.shape == (6, index + 1)
        assert (
            draft.confidence is not None and (draft.confidence >= 0).all() and (draft.confidence <= 1).all()
        )
        assert (draft.tokens[draft.padding] == SPECIAL.pad).all()
        # A sample is final as it is written.
        assert torch.equal(drafts[-1].tokens[:, : index + 1], draft.tokens)


@every_system
@pytest.mark.parametrize("strategy", ["greedy", "beam", "sample"])
def test_pinned_tokens_stand_where_they_were_pinned(kind: str, strategy: str) -> None:
    built = system(kind)
    template = torch.tensor([[9, -1, 11, -1], [-1, -1, -1, 12], [-1, -1, -1, -1]])
    candidates = 1 if strategy == "greedy" else 2
    draft = last(built, request(pairs(3), candidates, template, strategy=strategy, beams=2))
    assert not draft.padding.any()
    wanted = template.repeat_interleave(candidates, dim=0)
    assert draft.tokens.shape == wanted.shape
    assert torch.equal(draft.tokens[wanted >= 0], wanted[wanted >= 0])


@every_system
def test_special_tokens_are_never_written(kind: str) -> None:
    draft = last(system(kind), request(pairs(4), candidates=20, strategy="sample", temperature=50.0))
    written = draft.tokens[~draft.padding]
    forbidden = torch.tensor([SPECIAL.pad, SPECIAL.start, SPECIAL.end, SPECIAL.mask])
    assert not torch.isin(written, forbidden).any()


@every_system
def test_an_empty_source_gives_finite_numbers(kind: str) -> None:
    built = system(kind)
    batch = Batch(*pad([[], [5, 6]], SPECIAL.pad), *pad([[7], []], SPECIAL.pad))
    assert built(batch, torch.Generator().manual_seed(0)).value.isfinite()
    draft = last(built, request(batch))
    assert draft.confidence is not None and draft.confidence.isfinite().all()


@every_system
def test_generation_leaves_the_mode_as_it_was(kind: str) -> None:
    built = system(kind, dropout=0.5).train()
    asked = request(pairs(2))
    assert answers(built, asked) == answers(built, asked)
    assert built.training


@every_system
def test_gradients_are_off_inside_generation_and_on_between_its_drafts(kind: str) -> None:
    drafts = system(kind).generate(request(pairs(2)))
    first = next(drafts)
    assert torch.is_grad_enabled()
    assert first.confidence is not None and not first.confidence.requires_grad


@every_system
def test_a_config_survives_json(kind: str) -> None:
    config = CONFIGS[kind]
    assert from_dict(SYSTEMS[kind].config, to_dict(config)) == config


@pytest.mark.parametrize(
    ("settings", "candidates", "message"),
    [
        ({}, 3, "Greedy decoding has one answer"),
        ({"strategy": "beam", "beams": 2}, 3, "cannot give 3 candidates"),
        ({"strategy": "diverse-beam", "beams": 5, "beam_groups": 2}, 1, "cannot be split into 2 groups"),
        ({"strategy": "sample", "temperature": 0.0}, 1, "temperature is 0.0"),
        ({"strategy": "sample", "top_p": 0.0}, 1, "top_p is 0.0"),
        ({"strategy": "sample", "top_k": -1}, 1, "top_k is -1"),
        ({"max_length": 0}, 1, "at least 1 token"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: dict, candidates: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        answers(system("transformer"), request(pairs(2), candidates, **settings))


@pytest.mark.parametrize("kind", ["transformer", "gpt2"])
def test_texts_beyond_the_positions_are_refused(kind: str) -> None:
    built = system(kind, max_length=10)
    source, padding = pad([[5] * 11], SPECIAL.pad)
    asked = Request(source, padding, 1, [0], AutoregressiveGeneration(max_length=4))
    with pytest.raises(InputError, match="this system takes 10"):
        answers(built, asked)
    with pytest.raises(InputError, match="this system takes 10"):
        built(Batch(source, padding, source, padding))


@pytest.mark.parametrize(
    ("kind", "changes"), [("transformer", {"width": 30, "heads": 4}), ("gpt2", {"heads": 5})]
)
def test_a_width_that_its_heads_do_not_divide_is_refused(kind: str, changes: dict) -> None:
    with pytest.raises(InputError, match="cannot be split"):
        system(kind, **changes)
