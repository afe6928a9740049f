"""What is analysed: trained models by name, how each is asked for different candidates, and the test rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from diffuseq.baselines.configs import AutoregressiveGeneration, IterativeGeneration
from diffuseq.data.pairs import BadRows, find_split, read_pairs
from diffuseq.errors import InputError
from diffuseq.evaluation.names import names_of_places, split_name
from diffuseq.metrics.bleu import sentence_bleu
from diffuseq.pipeline import DiffuSeqPipeline

Family = Literal["diffusion", "iterative", "autoregressive"]
TEMPERATURE = 0.7
"""Of a system whose own settings give one and the same answer, where candidates have to differ."""


@dataclass(frozen=True)
class HeldOut:
    """The rows to answer: sources, and the (first) reference of each. lowercase: whether answers are compared in
    lower case."""

    name: str
    sources: list[str]
    references: list[str]
    lowercase: bool = False

    def bleu(self, answers: Sequence[str]) -> NDArray[np.float64]:
        """Sentence-BLEU of one answer a source: [n]."""
        return sentence_bleu(self.compared(answers), self.references)

    def compared(self, answers: Sequence[str]) -> list[str]:
        """Answers of any system as they are held against the references."""
        return [text.lower() if self.lowercase else text for text in answers]

    def lower_cased(self) -> HeldOut:
        """The same with references, and answers to them, in lower case, as systems with an uncased vocabulary
        answer."""
        return replace(self, references=[text.lower() for text in self.references], lowercase=True)


@dataclass(frozen=True)
class Subject:
    """A trained model under a name."""

    name: str
    pipe: DiffuSeqPipeline

    @property
    def own(self) -> Any:
        """The model's own generation settings."""
        return self.pipe.config.generation

    @property
    def family(self) -> Family:
        """What kind of generation it has; its line in every figure."""
        if isinstance(self.own, AutoregressiveGeneration):
            return "autoregressive"
        return "iterative" if isinstance(self.own, IterativeGeneration) else "diffusion"

    @property
    def has_temperature(self) -> bool:
        return any(f.name == "temperature" for f in fields(self.own))

    @property
    def is_deterministic(self) -> bool:
        """Whether its own settings take the likeliest answer, so that candidates would not differ."""
        if self.family == "autoregressive":
            return bool(self.own.strategy != "sample")
        return self.family == "iterative" and self.own.temperature == 0

    @property
    def is_uncased(self) -> bool:
        """Whether it can only write lower case."""
        return self.pipe.tokenizer.normalize("A") == "a"

    @property
    def own_way(self) -> str:
        """How its own settings choose words, in a word."""
        return str(self.own.strategy) if self.family == "autoregressive" else "likeliest words"

    def sampling(self, candidates: int, seed: int, temperature: float | None = None) -> Any:
        """Settings whose candidates differ: the model's own, or sampling where those are deterministic."""
        changes: dict[str, Any] = {"candidates": candidates, "seed": seed}
        if self.family == "autoregressive":
            changes["strategy"] = "sample"
        if temperature is None and self.is_deterministic:
            temperature = TEMPERATURE
        if temperature is not None:
            changes["temperature"] = temperature
        return replace(self.own, **changes)

    def accepts(self, settings: Any, source: str) -> str | None:
        """None if the model serves these settings, else why it does not; found out on one source."""
        try:
            self.pipe.answer_all([source], settings)
        except InputError as refusal:
            return str(refusal)
        return None


def open_subjects(texts: Sequence[str], device: str | None = None) -> list[Subject]:
    """Open models that are given as `PATH` or `NAME=PATH`. Raises `InputError`, also for a name twice."""
    if not texts:
        raise InputError("There is nothing to analyse; name at least one model folder.")
    given = [split_name(text) for text in texts]
    named = [(name or names_of_places([Path(path)])[0], path) for name, path in given]
    names = [name for name, _ in named]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"Two models are called {name!r}; tell them apart by NAME=PATH.")
    return [Subject(name, DiffuSeqPipeline.from_pretrained(path, device)) for name, path in named]


def read_test_set(
    data: Path, rows: int | None, skip_bad_rows: bool = False, report: BadRows | None = None
) -> HeldOut:
    """The first `rows` rows (all if None) of a jsonl file, or of the test split of a folder, else of valid.

    report: where skipped rows are counted. Raises `InputError` if there is no such file, or no row.
    """
    if rows is not None and rows < 1:
        raise InputError(f"rows is {rows}; give a number from 1 on, or none for all.")
    path = _file(data)
    pairs = list(islice(read_pairs(path, skip_bad_rows, report), rows))
    if not pairs:
        raise InputError(f"{path} holds no pair; an analysis needs sources with references.")
    name = f"{path.resolve().parent.name}/{path.name}"
    return HeldOut(name, [pair.source for pair in pairs], [pair.references[0] for pair in pairs])


def _file(data: Path) -> Path:
    if data.is_file():
        return data
    if not data.exists():
        raise InputError(
            f"There is no {data}; give a jsonl file, or a folder with test.jsonl or valid.jsonl."
        )
    try:
        return find_split(data, "test")
    except InputError:
        return find_split(data, "valid")
