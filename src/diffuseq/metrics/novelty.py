"""How far an answer goes from its source: a paraphrase that copies scores well and is worth nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

IBLEU_WEIGHT = 0.8


def ibleu(reference_bleu: Floats, source_bleu: Floats, weight: float = IBLEU_WEIGHT) -> Floats:
    """weight · BLEU(answer; reference) − (1 − weight) · BLEU(answer; source): [n] (Sun and Zhou 2012)."""
    return weight * reference_bleu - (1 - weight) * source_bleu


def exact_match(texts: Sequence[str], targets: Sequence[Sequence[str]]) -> Floats:
    """1 where a text equals one of its targets but for white space, else 0: [n]."""
    return np.array(
        [
            float(text.split() in [target.split() for target in allowed])
            for text, allowed in zip(texts, targets, strict=True)
        ]
    )
