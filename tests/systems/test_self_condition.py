"""Self-conditioning in training: what share of the rows sees an estimate of the network's own."""

from dataclasses import replace

import pytest
import torch

from diffuseq.config import DiffuSeqConfig
from diffuseq.data.batch import Batch, pad
from diffuseq.system import SpecialTokens
from diffuseq.systems.diffuseq import DiffuSeq

SPECIAL = SpecialTokens(vocab_size=24, pad=0, start=1, end=2, unknown=3, mask=4)
CONFIG = DiffuSeqConfig(
    encoder_layers=1, decoder_layers=1, heads=2, width=16, feed_forward=16, embedding_width=8,
    dropout=0.0, max_length=8, attention="all", token_wise=0.5,
)  # fmt: skip


@pytest.mark.parametrize(("rows", "share"), [(1, 0.5), (3, 0.5), (2, 0.2), (4, 0.5), (5, 1.0)])
def test_the_share_holds_for_any_number_of_rows(
    rows: int, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    system = DiffuSeq(replace(CONFIG, self_condition=share), SPECIAL)
    counts: list[int] = []
    decode = system.denoiser.decode

    def watched(*given: object) -> torch.Tensor:
        estimate = given[-1]
        assert isinstance(estimate, torch.Tensor)
        counts.append(int(estimate.flatten(1).any(1).sum()))
        return decode(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(system.denoiser, "decode", watched)
    batch = Batch(*pad([[5, 6]] * rows, 0), *pad([[7, 8, 9]] * rows, 0))
    found = []
    for seed in range(60):
        counts.clear()
        system(batch, torch.Generator().manual_seed(seed))
        found.append(counts[-1])  # the first of two asks for the estimate itself
    assert set(found) <= {int(share * rows), -int(-share * rows // 1)}
    assert sum(found) / len(found) == pytest.approx(share * rows, abs=0.2)
