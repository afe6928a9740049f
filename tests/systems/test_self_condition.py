"""A network that is told its own estimate, for a share of the rows it learns from."""

from __future__ import annotations

import pytest
import torch

from diffuseq.config import DiffuSeqConfig
from diffuseq.data.batch import Batch, pad
from diffuseq.system import SpecialTokens
from diffuseq.systems.diffuseq import DiffuSeq

SPECIAL = SpecialTokens(vocab_size=40, pad=0, start=2, end=3, unknown=1, mask=4)
CONFIG = DiffuSeqConfig(
    encoder_layers=1, decoder_layers=1, heads=2, width=32, feed_forward=32, embedding_width=16,
    dropout=0.0, attention="all", self_condition=0.5, max_length=16,
)  # fmt: skip
BATCH = Batch(*pad([[5, 6, 7], [8, 9]], 0), *pad([[10, 11], [12, 13, 14, 15]], 0))


def test_the_loss_in_bf16_is_nearly_that_in_single_precision() -> None:
    torch.manual_seed(0)
    system, losses = DiffuSeq(CONFIG, SPECIAL).train(), []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = system(BATCH, torch.Generator().manual_seed(0)).value
        loss.backward()
        losses.append(loss.item())
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
