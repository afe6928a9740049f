"""What a training logs as nats a word is that, whatever batches are padded to."""

from __future__ import annotations

import pytest
import torch

from diffuseq.config import DiffuSeqConfig
from diffuseq.data.batch import Batch, pad
from diffuseq.system import SpecialTokens
from diffuseq.systems.diffuseq import DiffuSeq

SPECIAL = SpecialTokens(vocab_size=40, pad=0, start=2, end=3, unknown=1, mask=4)
SOURCES, TARGETS = [[5, 6, 7], [8, 9]], [[10, 11], [12, 13, 14, 15]]


@pytest.mark.parametrize("width", [4, 12])
def test_words_and_ends_are_counted_and_what_is_beyond_them_is_not(width: int) -> None:
    torch.manual_seed(0)
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "heads": 2, "width": 32, "feed_forward": 32}
    system = DiffuSeq(DiffuSeqConfig(**sizes, embedding_width=16, label_smoothing=0.1), SPECIAL).eval()
    batch = Batch(*pad(SOURCES, 0), *pad(TARGETS, 0, width))
    logged = system(batch, torch.Generator().manual_seed(1)).logs["nll"]
    rank, noise, _ = system._draw(batch.target_padding, torch.Generator().manual_seed(1))
    words, length = system.with_end(batch.target, batch.target_padding)
    encoded = system.denoiser.encode(batch.source, batch.source_padding)
    log_p = system.log_p_by_rank(words, length, encoded, rank, noise)
    torch.testing.assert_close(logged, -log_p.sum() / (2 + 1 + 4 + 1))
