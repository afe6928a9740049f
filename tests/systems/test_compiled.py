"""What a compiler makes of a training step: its blocks and its loss, once for all layers and lengths."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.fx.experimental._config

from diffuseq.config import DiffuSeqConfig
from diffuseq.data.batch import Batch, pad
from diffuseq.system import SpecialTokens
from diffuseq.systems.diffuseq import DiffuSeq

SPECIAL = SpecialTokens(vocab_size=40, pad=0, start=2, end=3, unknown=1, mask=4)
CONFIG = DiffuSeqConfig(
    encoder_layers=2,
    decoder_layers=3,
    heads=2,
    width=32,
    feed_forward=32,
    embedding_width=16,
    dropout=0.0,
    max_length=16,
)


BATCHES = [([[5, 6, 7], [8, 9]], [[10, 11], [12, 13, 14, 15]]), ([[5, 6, 7, 8, 9]] * 2, [[10, 11]] * 2)]


@pytest.mark.parametrize("attention", ["settled", "all"])
@torch.fx.experimental._config.patch(use_duck_shape=False)
def test_few_graphs_serve_all_layers_and_lengths(attention: str) -> None:
    torch.manual_seed(0)
    system = DiffuSeq(replace(CONFIG, attention=attention), SPECIAL).train()
    graphs: list[int] = []

    def count(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]):  # type: ignore[no-untyped-def]
        graphs.append(len(graph.graph.nodes))
        return graph.forward

    batches = [Batch(*pad(source, 0), *pad(target, 0)) for source, target in BATCHES]
    eager = [system(batch, torch.Generator().manual_seed(0)).value for batch in batches]
    system.compile(dynamic=True, backend=count)
    for batch, expected in zip(batches, eager, strict=True):
        torch.testing.assert_close(system(batch, torch.Generator().manual_seed(0)).value, expected)
    # the encoder's block, the decoder's (its last one is asked for fewer places, where words settle), and the loss
    assert len(graphs) == (4 if attention == "settled" else 3), graphs


def test_only_training_is_compiled() -> None:
    torch.manual_seed(0)
    system = DiffuSeq(CONFIG, SPECIAL).eval()
    graphs: list[int] = []

    def count(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]):  # type: ignore[no-untyped-def]
        graphs.append(len(graph.graph.nodes))
        return graph.forward

    system.compile(backend=count)
    system(Batch(*pad(BATCHES[0][0], 0), *pad(BATCHES[0][1], 0)), torch.Generator().manual_seed(0))
    assert not graphs
