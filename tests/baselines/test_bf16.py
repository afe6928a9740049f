"""Every system learns and answers in bf16."""

from __future__ import annotations

import pytest
import torch
from memorise import SPECIAL, pairs
from test_micro_batches import SYSTEMS

from diffuseq import DiffuSeqPipeline
from diffuseq.config import Config, DiffuSeqConfig
from diffuseq.registry import build, entry
from diffuseq.text.tokenizer import Tokenizer


@pytest.mark.parametrize("kind", SYSTEMS)
def test_a_system_answers_in_bf16(kind: str) -> None:
    tokenizer = Tokenizer.train(
        ["how do i learn it?", "what is the best way to learn it?"] * 3, vocab_size=300
    )
    torch.manual_seed(0)
    config = Config(system=SYSTEMS[kind], generation=entry(kind).generation())
    pipe = DiffuSeqPipeline(build(SYSTEMS[kind], tokenizer.special), tokenizer, config)
    pipe.compute_in_bf16()
    changes = {"steps": 3, "strategy": "sample", "candidates": 2, "max_length": 8}
    known = {name: value for name, value in changes.items() if hasattr(config.generation, name)}
    answer = pipe("how?", **known)
    assert len(answer.candidates) == 2
    assert all(torch.tensor(answer.log_p).isfinite())


LEARNING = {
    **SYSTEMS,
    "self-conditioned": DiffuSeqConfig(
        encoder_layers=1, decoder_layers=1, heads=2, width=32, feed_forward=32, embedding_width=16,
        dropout=0.0, attention="all", self_condition=0.5, max_length=32,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", LEARNING)
def test_the_loss_in_bf16_is_nearly_that_in_single_precision(kind: str) -> None:
    torch.manual_seed(0)
    system, batch = build(LEARNING[kind], SPECIAL), pairs(4)
    losses = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = system(batch, torch.Generator().manual_seed(0)).value
        loss.backward()
        losses.append(loss.item())
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    assert all(p.grad is None or p.grad.isfinite().all() for p in system.parameters())
