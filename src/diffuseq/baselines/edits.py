"""The expert of the Levenshtein Transformer: the fewest deletions, then insertions, from one text to another.

With deletions and insertions only (no substitution) the shortest script keeps a longest common subsequence:
everything else of the old text is deleted, everything else of the new one is inserted (Gu et al., 2019,
section 3.2: the expert of Levenshtein distance). Whole batches at a time, on any device.

Texts carry their boundaries (start and end token), which always match each other; a slot is the gap
between two neighbours. Legend: b rows, n tokens of the current text, m tokens of the goal.
"""

from __future__ import annotations

import torch
from torch import Tensor


def align(current: Tensor, current_padding: Tensor, goal: Tensor, goal_padding: Tensor) -> Tensor:
    """For every token of `current`, long [b n], the position in `goal` it is kept for, or −1: delete it.

    current: long [b n], goal: long [b m], with their paddings. The kept tokens are a longest common
    subsequence; positions rise from left to right. Padding is never kept.
    """
    same = current.unsqueeze(2) == goal.unsqueeze(1)
    same &= ~current_padding.unsqueeze(2) & ~goal_padding.unsqueeze(1)
    rows, length = current.shape
    # longest[i][:, j]: the length of the longest common subsequence of current[:i] and goal[:j]. Along j it
    # never falls, so that a whole line of the table is one running maximum.
    longest = [torch.zeros(rows, goal.shape[1] + 1, dtype=torch.long, device=current.device)]
    for i in range(length):
        extended = longest[i].clone()
        extended[:, 1:] = torch.maximum(longest[i][:, 1:], longest[i][:, :-1] + same[:, i].long())
        longest.append(extended.cummax(1).values)
    kept_for = torch.full_like(current, -1)
    reached = torch.full((rows, 1), goal.shape[1], dtype=torch.long, device=current.device)
    for i in reversed(range(length)):
        here = longest[i + 1].gather(1, reached)
        needed = here > longest[i].gather(1, reached)
        first = (longest[i + 1] < here).sum(1, keepdim=True)  # the first column that reaches `here`
        kept_for[:, i : i + 1] = torch.where(needed, first - 1, -1)
        reached = torch.where(needed, first - 1, reached)
    return kept_for


def insertions(kept_for: Tensor, padding: Tensor) -> Tensor:
    """How many tokens are missing after each token of a text without deletions, long [b n−1].

    kept_for: long [b n], rising positions in the goal (see `align`), none of them −1 outside the padding.
    """
    missing = kept_for[:, 1:] - kept_for[:, :-1] - 1
    return missing.masked_fill(padding[:, 1:], 0)


def delete(tokens: Tensor, padding: Tensor, unwanted: Tensor, pad: int) -> tuple[Tensor, Tensor]:
    """The text without its unwanted tokens, moved together: tokens [b n'], padding [b n']."""
    kept = ~unwanted & ~padding
    order = (~kept).long().argsort(dim=1, stable=True)
    lengths = kept.sum(1, keepdim=True)
    longest = int(lengths.max())
    positions = torch.arange(longest, device=tokens.device)
    gone = positions >= lengths
    return tokens.gather(1, order)[:, :longest].masked_fill(gone, pad), gone


def insert(
    tokens: Tensor, padding: Tensor, counts: Tensor, placeholder: int, pad: int
) -> tuple[Tensor, Tensor]:
    """`counts` [b n−1] placeholders after each token but the last: tokens [b n'], padding [b n']."""
    counts = counts.masked_fill(padding[:, 1:], 0)
    before = torch.cat((torch.zeros_like(counts[:, :1]), counts.cumsum(1)), dim=1)
    lengths = (~padding).sum(1, keepdim=True) + counts.sum(1, keepdim=True)
    longest = int(lengths.max())
    positions = torch.arange(longest, device=tokens.device)
    gone = positions >= lengths
    # One column more takes what the padding would write.
    places = (torch.arange(tokens.shape[1], device=tokens.device) + before).masked_fill(padding, longest)
    result = tokens.new_full((len(tokens), longest + 1), placeholder).scatter(1, places, tokens)
    return result[:, :longest].masked_fill(gone, pad), gone
