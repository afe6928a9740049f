"""A pretrained BERT that reads the source in the place of our own encoder.

Legend: b rows, s source length, w our width, u BERT's width, v vocabulary, d embedding width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from diffuseq.errors import InputError
from diffuseq.system import SpecialTokens


class BertEncoder(nn.Module):
    """transformers' BertModel, its states brought to our width."""

    def __init__(self, bert: Any, width: int, special: SpecialTokens) -> None:
        super().__init__()
        self.bert, self.special = bert, special
        self.bring = nn.Linear(bert.config.hidden_size, width, bias=False)

    def check_length(self, source: int) -> None:
        """Raise `InputError` for a source of more tokens than BERT has positions for."""
        most = self.bert.config.max_position_embeddings - 2
        if source > most:
            raise InputError(
                f"A source has up to {source} tokens, but the BERT that reads it takes {most}; shorten it "
                "(text.max_source), or take an encoder of our own (system.pretrained none)."
            )

    def forward(self, ids: Tensor, padding: Tensor) -> Tensor:
        """Source ids [b s] → states [b s w]; BERT sees them between the marks that it was trained with.

        Raises `InputError` for sources that are too long.
        """
        self.check_length(ids.shape[1])
        start = torch.full_like(ids[:, :1], self.special.start)
        marked = torch.cat((start, ids, torch.full_like(start, self.special.pad)), dim=1)
        lengths = (~padding).sum(1, keepdim=True)
        marked = marked.scatter(1, lengths + 1, self.special.end)
        visible = torch.arange(marked.shape[1], device=ids.device) < lengths + 2
        states = self.bert(input_ids=marked, attention_mask=visible.long()).last_hidden_state
        return self.bring(states[:, 1:-1])


@torch.no_grad()
def principal_directions(table: Tensor, width: int, scale: float) -> Tensor:
    """A word table [v u] in its first `width` principal components [v d], of standard deviation `scale`.

    Words that BERT holds to be alike begin as neighbours. Where the table is narrower, noise fills the rest.
    """
    table = table.float() - table.float().mean(0)
    _, _, directions = torch.linalg.svd(table.T @ table)
    reduced = table @ directions[:width].T
    reduced = reduced / reduced.std()
    missing = width - reduced.shape[1]
    if missing > 0:
        reduced = torch.cat((reduced, torch.randn(len(reduced), missing)), dim=1)
    return scale * reduced
