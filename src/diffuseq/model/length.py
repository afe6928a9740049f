"""How long the answer is: a classifier over the difference between target and source length.

Non-autoregressive systems must fix the length before they write. What is predicted is target − source
length, not the length itself: the difference has the same few likely values for short and for long sources
(around 0 for paraphrases), so that lengths rarely seen in training are served as well (Difformer, Gao et
al., 2022, predicts the difference too; Ghazvininejad et al., 2019, the length, from a token of its own).

Legend: b sources, s source positions, d width, k lengths a source, m largest length.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffuseq.errors import InputError


class LengthHead(nn.Module):
    """p(target − source length | source), over the differences −m…m."""

    def __init__(self, width: int, max_length: int) -> None:
        super().__init__()
        self.max_length = max_length
        self.offset = nn.Linear(width, 2 * max_length + 1)

    def forward(self, states: Tensor, source_padding: Tensor) -> Tensor:
        """Logits of the differences, [b 2m+1].

        states: [b s d], the encoded source (specials may be among it); source_padding: [b s].
        """
        kept = (~source_padding).unsqueeze(-1).to(states.dtype)
        pooled = (states * kept).sum(1) / kept.sum(1).clamp(min=1)
        return self.offset(pooled).float()

    def loss(
        self, states: Tensor, source_padding: Tensor, source_lengths: Tensor, target_lengths: Tensor
    ) -> Tensor:
        """Mean negative log-likelihood of the differences; lengths are long [b], beyond m they count as m.

        All differences compete, those too that would make this answer shorter than a token: otherwise
        they would stay untrained and win for longer sources, for which they are possible.
        """
        most = self.max_length
        offsets = target_lengths.clamp(max=most) - source_lengths.clamp(max=most)
        return F.cross_entropy(self(states, source_padding), offsets + most)

    def log_probs(self, states: Tensor, source_padding: Tensor, source_lengths: Tensor) -> Tensor:
        """Log-probability of the lengths 1…m, normalised over them, [b m]."""
        lengths = torch.arange(1, self.max_length + 1, device=states.device)
        # A source beyond m counts as m, so that every length stays within reach of an offset.
        offsets = lengths - source_lengths.clamp(max=self.max_length).unsqueeze(1)
        return self(states, source_padding).gather(1, offsets + self.max_length).log_softmax(-1)

    def top(
        self, states: Tensor, source_padding: Tensor, source_lengths: Tensor, k: int
    ) -> tuple[Tensor, Tensor]:
        """The k likeliest lengths, long [b k], likeliest first, and their log-probabilities [b k].

        Raises `InputError` when there are not k lengths to choose from.
        """
        if not 1 <= k <= self.max_length:
            raise InputError(
                f"{k} different lengths were asked for; the model knows the lengths 1 to {self.max_length}, "
                f"so give a length beam from 1 to {self.max_length}."
            )
        log_probs, ranks = self.log_probs(states, source_padding, source_lengths).topk(k, dim=-1)
        return ranks + 1, log_probs
