"""Several systems as one: their candidates together, of which minimum Bayes risk chooses.

Systems that err in different places are better judges of one another's candidates than of their own: what two
networks agree on is right more often than what one of them repeats (Kumar & Byrne, 2004, section 3.3; docs/log.md
has what it is worth). What is chosen can also be learned, so that one network answers as all of them do (minimum
Bayes risk distillation: Finkelstein & Freitag, 2024, "MBR and QE Finetuning").

Legend: k candidates of a source, of all systems.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffuseq.checks import check_number
from diffuseq.decoding.mbr import bare, utilities
from diffuseq.errors import InputError
from diffuseq.evaluation.predictions import Prediction, Predictions, check_predictions
from diffuseq.files import atomic_file
from diffuseq.names import refuse_alone

_AT_ONCE = 1000
"""Sources whose candidates are compared at once: their BLEU takes 8 k² bytes each."""


@dataclass(frozen=True)
class Combined:
    """What the systems answered to one source, with the chosen text. utility: of every candidate [k], −∞ where it
    cannot be chosen."""

    prediction: Prediction
    utility: NDArray[np.float64]

    def best(self, number: int) -> list[str]:
        """Up to so many different candidates, the best first; none that is the source itself."""
        seen, found = {bare(self.prediction.source)}, []
        for index in np.argsort(-self.utility, kind="stable"):
            text = self.prediction.candidates[index]
            if text.strip() and bare(text) not in seen and np.isfinite(self.utility[index]):
                seen.add(bare(text))
                found.append(text)
        return found[:number]


def combine(
    systems: Sequence[Predictions], *, source_weight: float = 0.0, copies: bool = True
) -> Iterator[Combined]:
    """The answers of all systems to each source, chosen as `decoding.mbr.choose` does without log-probabilities,
    which mean something else in every system. The references are the first system's.

    source_weight: what a candidate's BLEU with the source costs. copies: whether the source itself may be chosen.
    Raises `InputError` for systems that have not answered the same sources in the same order, and for a weight that
    generation does not have either.
    """
    check_number("source_weight", source_weight)
    refuse_alone(systems, "systems")
    for system in systems:
        check_predictions(system)
    for system in systems[1:]:
        _check_same(systems[0], system)
    rows = [_together(answers) for answers in zip(*(system.rows for system in systems), strict=True)]
    for start in range(0, len(rows), _AT_ONCE):
        yield from _chosen(rows[start : start + _AT_ONCE], source_weight, copies)


def _chosen(rows: Sequence[Prediction], source_weight: float, copies: bool) -> Iterator[Combined]:
    groups, sources = [row.candidates for row in rows], [row.source for row in rows]
    found = utilities(groups, sources=sources, source_weight=source_weight, copies=copies)
    for row, utility in zip(rows, found, strict=True):
        yield Combined(replace(row, chosen=row.candidates[int(utility.argmax())]), utility)


def write_pairs(path: Path, rows: Iterable[Combined], best: int) -> tuple[int, int]:
    """Write the `best` candidates of every source as pairs to train on, {"src", "trg"}, in one piece. Gives the
    number of pairs, and of sources with none, whose candidates are empty or copies of them."""
    pairs = without = 0
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for row in rows:
            texts = row.best(best)
            pairs, without = pairs + len(texts), without + (not texts)
            for text in texts:
                pair = {"src": row.prediction.source, "trg": text}
                stream.write(json.dumps(pair, ensure_ascii=False) + "\n")
    return pairs, without


def _check_same(first: Predictions, other: Predictions) -> None:
    files = f"{first.files[0]} and {other.files[0]}"
    if len(first.rows) != len(other.rows):
        raise InputError(
            f"{files} have {len(first.rows):,} and {len(other.rows):,} sources; give answers to the same ones."
        )
    for number, (one, two) in enumerate(zip(first.sources, other.sources, strict=True), start=1):
        if bare(one) != bare(two):
            raise InputError(
                f"Row {number} of {files} answers two sources, {one[:60]!r} and {two[:60]!r}; give answers to the "
                "same sources in the same order."
            )


def _together(answers: Sequence[Prediction]) -> Prediction:
    """The candidates of all systems. Their seconds add up; forwards is the mean over the candidates."""
    candidates = tuple(text for answer in answers for text in answer.candidates)
    seconds = [answer.seconds for answer in answers if answer.seconds is not None]
    calls = [answer.forwards * len(answer.candidates) for answer in answers if answer.forwards is not None]
    return Prediction(
        source=answers[0].source,
        references=answers[0].references,
        candidates=candidates,
        seconds=sum(seconds) if len(seconds) == len(answers) else None,
        forwards=sum(calls) / len(candidates) if len(calls) == len(answers) else None,
    )
