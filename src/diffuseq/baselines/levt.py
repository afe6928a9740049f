"""Levenshtein Transformer (Gu et al., 2019): text that is edited until it is right.

A round deletes tokens, opens placeholders between those that stay, and fills them with words. The three
heads share one decoder, which sees every position, and learn by imitating an expert (`edits`).

Legend: b sources, k candidates a source, n = b·k rows, l length with both boundaries, d width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffuseq.baselines.autoregressive import closed, opened
from diffuseq.baselines.configs import IterativeGeneration, LevTConfig
from diffuseq.baselines.edits import align, delete, insert, insertions
from diffuseq.baselines.nonautoregressive import Encoded, NonAutoregressive
from diffuseq.data.batch import Batch
from diffuseq.decoding.rounding import likeliest
from diffuseq.errors import InputError
from diffuseq.sampling.noise import RowNoise
from diffuseq.system import Draft, Loss, Request, SpecialTokens, log_p_of_words


@dataclass(frozen=True)
class Text:
    """Texts on their way: tokens long [n l] with start and end token, padding [n l], and the probability that
    each token had when it was written, [n l]."""

    tokens: Tensor
    padding: Tensor
    confidence: Tensor


class LevT(NonAutoregressive):
    """Deletion, placeholder and word policies, trained together on each other's states."""

    config: LevTConfig

    def __init__(self, config: LevTConfig, special: SpecialTokens) -> None:
        super().__init__(config, special)
        self.deletion_head = nn.Linear(config.width, 2)
        self.placeholder_head = nn.Linear(2 * config.width, config.max_insertions + 1)

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> Loss:
        """What the decisions of the expert cost in nats (section 3.2 of the paper), a mean over target tokens.

        Dual-policy learning: insertion is learned on targets with random deletions, deletion on what this
        very network writes into the expert's placeholders. Each meets the states its adversary leaves. Of a
        target's tokens half are missing there on average, so that the two policies of insertion have half as
        many decisions as deletion; they count double, which gives the three equal weight.
        """
        self.check_lengths(batch.source.shape[1], batch.target.shape[1])
        encoded = self.encode(batch.source, batch.source_padding)
        goal, goal_padding = self._bounded(batch.target, batch.target_padding)
        tokens, padding = self._shorten(goal, goal_padding, generator)
        counts = insertions(align(tokens, padding, goal, goal_padding), padding)
        placeholders = self._placeholder_loss(tokens, padding, counts, encoded)
        # The expert's placeholders leave a text as long as the goal, position for position, but for what is padding
        # in all rows.
        template, _ = insert(tokens, padding, counts, self.special.mask, self.special.pad)
        goal, goal_padding = goal[:, : template.shape[1]], goal_padding[:, : template.shape[1]]
        gaps = template == self.special.mask
        hidden = self.read(template, goal_padding, encoded)[gaps]
        words = self.word_losses(hidden, goal[gaps]).sum()
        written = template.masked_scatter(gaps, self._imagine(hidden, generator))
        deletion = self._deletion_loss(written, goal, goal_padding, encoded)
        count = (~batch.target_padding).sum() + len(batch)  # the end token is one of them
        terms = {
            "placeholders": 2 * placeholders / count,
            "words": 2 * words / count,
            "deletion": deletion / count,
        }
        total = terms["placeholders"] + terms["words"] + terms["deletion"]
        return Loss(total, {name: term.detach() for name, term in terms.items()}, weight=count)

    def _bounded(self, tokens: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        """Start token, text, end token."""
        return opened(*closed(tokens, padding, self.special), self.special.start)

    def _shorten(
        self, goal: Tensor, padding: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Delete a random part of the goal; the number of tokens that stay is uniform, from none to all, and none
        in the share `from_empty`."""
        inner = self._inner(goal, padding)
        count = inner.sum(1, keepdim=True)
        share = self.config.from_empty
        drawn = torch.rand(len(goal), 1, generator=generator, device=goal.device)
        number = ((drawn - share).clamp_min(0) / (1 - share + 1e-9) * (count + 1)).floor()
        order = torch.rand(goal.shape, generator=generator, device=goal.device).masked_fill(~inner, 2.0)
        return delete(
            goal, padding, inner & (order.argsort(dim=1).argsort(dim=1) >= number), self.special.pad
        )

    def _inner(self, tokens: Tensor, padding: Tensor) -> Tensor:
        """Where there are tokens other than the boundaries."""
        return ~padding & (tokens != self.special.start) & (tokens != self.special.end)

    def _placeholder_loss(self, tokens: Tensor, padding: Tensor, counts: Tensor, encoded: Encoded) -> Tensor:
        """Summed over slots, in nats."""
        logits = self._placeholder_logits(self.read(tokens, padding, encoded))
        slots, most = ~padding[:, 1:], self.config.max_insertions
        return F.cross_entropy(logits[slots], counts[slots].clamp(max=most), reduction="sum")

    def _placeholder_logits(self, hidden: Tensor) -> Tensor:
        """Scores [n l−1 max_insertions+1] of how many tokens each slot takes."""
        pairs = torch.cat((hidden[:, :-1], hidden[:, 1:]), dim=-1)
        return self.placeholder_head(pairs).float()

    @torch.no_grad()
    def _imagine(self, hidden: Tensor, generator: torch.Generator | None) -> Tensor:
        """Words [m] drawn from the network's distribution at states [m d], some of them at random."""
        logits = self.word_logits(hidden)
        if not len(logits):
            return logits.new_zeros(0, dtype=torch.long)
        if self.config.roll_in_noise:
            noised = torch.rand(len(logits), 1, generator=generator, device=logits.device)
            noised = noised < self.config.roll_in_noise
            logits = logits.masked_fill(noised & logits.isfinite(), 0.0)  # every word that may be written
        return torch.multinomial(logits.softmax(-1), 1, generator=generator).squeeze(1)

    def _deletion_loss(self, written: Tensor, goal: Tensor, padding: Tensor, encoded: Encoded) -> Tensor:
        """Summed over the words between the boundaries, in nats."""
        unwanted = align(written, padding, goal, padding) < 0
        decided = ~padding
        decided[:, 0] = False
        decided &= goal != self.special.end
        logits = self.deletion_head(self.read(written, padding, encoded)).float()
        return F.cross_entropy(logits[decided], unwanted[decided].long(), reduction="sum")

    def refine(self, request: Request, settings: IterativeGeneration) -> Iterator[Draft]:
        """Edit from the empty text until a round changes nothing, at most `steps` rounds.

        A candidate at rest stays as it is, and a source whose candidates all are is not computed any further.
        Raises `InputError` for a template or a given length: edits move positions.
        """
        if request.template is not None or settings.length is not None:
            raise InputError(
                "LevT writes by insertion and deletion and cannot pin positions or the length; "
                "use a system that can (diffuseq, published, cmlm) or leave the template and the length out."
            )
        k = request.candidates
        encoded = self.encode(request.source, request.source_padding)
        text = self._empty(len(request.source) * k)
        noise = RowNoise(request.seeds)
        resting = torch.zeros(len(text.tokens), dtype=torch.bool, device=self.device)
        forwards = 0
        for index in range(settings.steps):
            drawn = noise(text.confidence.new_empty(len(text.tokens), self.config.max_length + 2, 1))[..., 0]
            active = ~resting.view(-1, k).all(1)
            rows = active.repeat_interleave(k)
            before = _rows(text, rows)
            after, calls = self._round(before, encoded.select(active), drawn[rows], settings.temperature)
            # one at rest would move again by new noise, and only where another candidate keeps it company
            text = self._replace(text, ~resting, _rows(after, ~resting[rows]))
            forwards += calls
            yield self._draft(text, index, settings.steps, forwards)
            resting = resting.clone()
            resting[rows] |= ~_changed(before, after)
            if resting.all():
                return

    def _round(self, text: Text, encoded: Encoded, noise: Tensor, temperature: float) -> tuple[Text, int]:
        """One deletion, insertion and filling; also the number of decoder calls. Idle steps are left out."""
        calls = 1
        if self._inner(text.tokens, text.padding).any():
            text = self._delete(text, encoded)
            calls += 1
        text = self._open(text, encoded)
        gaps = text.tokens == self.special.mask
        if gaps.any():
            hidden = self.read(text.tokens, text.padding, encoded)
            words = self.choose(hidden, noise[:, : hidden.shape[1]], temperature)
            text = Text(
                torch.where(gaps, words.tokens, text.tokens),
                text.padding,
                torch.where(gaps, words.probability, text.confidence),
            )
            calls += 1
        return text, calls

    def _delete(self, text: Text, encoded: Encoded) -> Text:
        hidden = self.read(text.tokens, text.padding, encoded)
        unwanted = (self.deletion_head(hidden).argmax(-1) == 1) & self._inner(text.tokens, text.padding)
        confidence, _ = delete(text.confidence, text.padding, unwanted, 0)
        return Text(*delete(text.tokens, text.padding, unwanted, self.special.pad), confidence)

    def _open(self, text: Text, encoded: Encoded) -> Text:
        """Open placeholders, from left to right as long as the text stays within `max_length`. The end is as sure
        as the number of those right before it."""
        logits = self._placeholder_logits(self.read(text.tokens, text.padding, encoded))
        counts, sureness = likeliest(logits)
        is_end = ~text.padding & (text.tokens == self.special.end)
        known = torch.where(is_end, F.pad(sureness, (1, 0)), text.confidence)
        counts = counts.masked_fill(text.padding[:, 1:], 0)
        room = self.config.max_length + 2 - (~text.padding).sum(1, keepdim=True)
        total = torch.minimum(counts.cumsum(1), room)
        counts = total.diff(dim=1, prepend=torch.zeros_like(total[:, :1]))
        confidence, _ = insert(known, text.padding, counts, 0, 0)
        return Text(
            *insert(text.tokens, text.padding, counts, self.special.mask, self.special.pad), confidence
        )

    def _empty(self, rows: int) -> Text:
        tokens = torch.tensor([[self.special.start, self.special.end]], device=self.device).repeat(rows, 1)
        return Text(
            tokens, torch.zeros_like(tokens, dtype=torch.bool), torch.ones(tokens.shape, device=self.device)
        )

    def _replace(self, text: Text, rows: Tensor, new: Text) -> Text:
        """`text` with its `rows` (bool [n]) set to those of `new`; the width is the longest row's."""
        lengths = (~text.padding).sum(1)
        lengths[rows] = (~new.padding).sum(1)
        width = int(lengths.max())
        parts = []
        for old, fresh, blank in (
            (text.tokens, new.tokens, self.special.pad),
            (text.padding, new.padding, True),
            (text.confidence, new.confidence, 0.0),
        ):
            merged = F.pad(old, (0, max(0, width - old.shape[1])), value=blank)[:, :width].clone()
            merged[rows] = F.pad(fresh, (0, width - fresh.shape[1]), value=blank)
            parts.append(merged)
        return Text(*parts)

    def _draft(self, text: Text, index: int, total: int, forwards: int) -> Draft:
        """Without the boundaries; the end token becomes padding, but counts: without it an empty text would be
        certain."""
        tokens, confidence = text.tokens[:, 1:], text.confidence[:, 1:]
        gone = text.padding[:, 1:] | (tokens == self.special.end)
        width = max(1, int((~gone).sum(1).max()))
        return Draft(
            tokens.masked_fill(gone, self.special.pad)[:, :width],
            gone[:, :width],
            confidence.masked_fill(gone, 0.0)[:, :width],
            log_p_of_words(confidence, text.padding[:, 1:]),
            index,
            total,
            forwards,
        )


def _rows(text: Text, rows: Tensor) -> Text:
    """The chosen rows, as wide as the longest of them, so that the others cannot change what they get."""
    width = int((~text.padding[rows]).sum(1).max())
    return Text(text.tokens[rows, :width], text.padding[rows, :width], text.confidence[rows, :width])


def _changed(before: Text, after: Text) -> Tensor:
    """Which rows are not the text they were, bool [n]."""
    width = max(before.tokens.shape[1], after.tokens.shape[1])
    one, two = (
        F.pad(t.tokens.masked_fill(t.padding, -1), (0, width - t.tokens.shape[1]), value=-1)
        for t in (before, after)
    )
    return (one != two).any(1)
