"""Systems that are trained already and say which words to expect: knowledge distillation.

A text has one target where many would do, and a network that has learned from the same pairs knows others: what
it expects in the place of every word says more than the word alone (Hinton et al., 2015, "Distilling the Knowledge
in a Neural Network"; Kim & Rush, 2016, "Sequence-Level Knowledge Distillation", section 3.1, word by word). Several
are better teachers than one, for they are wrong in different places: their mean is learned.

Legend: b pairs, l target length, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from diffuseq.checkpoint import find_model, load_model
from diffuseq.data.batch import Batch, with_end
from diffuseq.errors import InputError
from diffuseq.system import System
from diffuseq.text.tokenizer import Tokenizer


class Teachers:
    """The mean of what several systems expect, for a share of every label; the rest is the word itself."""

    def __init__(self, systems: Sequence[System], share: float) -> None:
        self.systems = [system.eval().requires_grad_(False) for system in systems]
        self.share = share

    @torch.no_grad()
    def label(self, batch: Batch, generator: torch.Generator | None = None) -> Batch:
        """The batch with labels. generator: what the teachers draw, on their device."""
        length = (~batch.target_padding).sum(1, keepdim=True)
        words = with_end(batch.target, batch.target_padding, self.systems[0].special.end)
        labels = sum(system.next_words(batch, generator) for system in self.systems)
        assert isinstance(labels, Tensor)
        place = torch.arange(words.shape[1], device=words.device)
        share = self.share * (place <= length)[..., None]  # nobody says what comes after the end
        labels.mul_(share / len(self.systems)).scatter_add_(-1, words[..., None], 1.0 - share)
        return replace(batch, labels=labels)


def load_teachers(
    names: Sequence[str],
    share: float,
    pupil: System,
    tokenizer: Tokenizer,
    device: torch.device,
    pairs: Sequence[tuple[int, int]] = (),
) -> Teachers:
    """The models of these names or folders. Raises `InputError` where one cannot be opened, does not say which
    words to expect, does in another vocabulary, or takes no pairs as long as these (lengths of source and target),
    and where the pupil cannot learn from them."""
    if not pupil.reads_in_order:
        raise InputError(
            "training.teachers is given, but this system learns no more than the words themselves; leave it "
            'out, or train a diffuseq with attention "settled" or an autoregressive system.'
        )
    return Teachers([_load(name, tokenizer, device, pairs) for name in names], share)


def _load(name: str, tokenizer: Tokenizer, device: torch.device, pairs: Sequence[tuple[int, int]]) -> System:
    system, own, _ = load_model(name, device)
    if own.fingerprint != tokenizer.fingerprint:
        raise InputError(
            f"The teacher {name} has another vocabulary than the training; train both on the same data, or "
            f"take the teacher's with --text.tokenizer {find_model(name)}."
        )
    if not system.reads_in_order:
        raise InputError(
            f"The teacher {name} has no probability of a word given those before it; give a diffuseq with "
            'attention "settled" or an autoregressive system.'
        )
    for source, target in pairs:
        try:
            system.check_lengths(source, target)
        except InputError as error:
            raise InputError(f"The teacher {name} does not take all pairs of the data. {error}") from None
    return system
