"""What a compiler makes of a training step: one graph, and chance before it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from diffuseq.config import DiffuSeqConfig
from diffuseq.data.batch import Batch, pad
from diffuseq.system import SpecialTokens
from diffuseq.systems.diffuseq import DiffuSeq

SPECIAL = SpecialTokens(vocab_size=40, pad=0, start=2, end=3, unknown=1, mask=4)
CONFIG = DiffuSeqConfig(
    encoder_layers=1,
    decoder_layers=2,
    heads=2,
    width=32,
    feed_forward=32,
    embedding_width=16,
    dropout=0.0,
    max_length=16,
)


def batch() -> Batch:
    source, target = pad([[5, 6, 7], [8, 9]], 0), pad([[10, 11], [12, 13, 14, 15]], 0)
    return Batch(*source, *target)


@pytest.mark.parametrize("attention", ["settled", "all"])
def test_a_step_is_one_graph_and_gives_the_same_loss(attention: str) -> None:
    torch.manual_seed(0)
    system = DiffuSeq(replace(CONFIG, attention=attention), SPECIAL)
    eager = system(batch(), torch.Generator().manual_seed(0)).value
    graphs: list[int] = []

    def count(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]):  # type: ignore[no-untyped-def]
        graphs.append(sum(node.op.startswith("call") for node in graph.graph.nodes))
        return graph.forward

    system.compile(backend=count)
    compiled = system(batch(), torch.Generator().manual_seed(0)).value
    torch.testing.assert_close(compiled, eager)
    if attention == "settled":
        assert len([size for size in graphs if size > 10]) == 1, graphs
