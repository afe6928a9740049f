"""What the API takes and gives, and its limits."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from diffuseq.config import Sampler
from diffuseq.errors import InputError

LARGEST_SEED = 2**53 - 1
"""The largest whole number that every JSON reader keeps."""


@dataclass(frozen=True)
class Limits:
    """What one request may ask for."""

    characters: int = 2000
    """In a source or a template."""
    sources: int = 64
    """In one request."""
    candidates: int = 20
    calls: int = 100
    """Steps of the sampler."""
    length: int = 256
    """Tokens of an answer."""
    body_bytes: int = 1_000_000
    waiting: int = 512
    """Sources in the line, of all requests."""


Text = Annotated[str, StringConstraints(min_length=1, max_length=Limits.characters)]


class Dials(BaseModel):
    """Generation settings that differ from the model's own; GET /v1/models tells which of them it has."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    candidates: int | None = Field(
        None, ge=1, le=Limits.candidates, description="Answers drawn; MBR chooses one."
    )
    steps: int | None = Field(
        None, ge=1, le=Limits.calls, description="Steps of the sampler, a network call each."
    )
    sampler: Sampler | None = None
    grid: Literal["uniform-time", "uniform-log-snr", "trailing"] | None = None
    temperature: float | None = Field(None, ge=0, le=100)
    churn: float | None = Field(None, ge=0, le=1, description="ddim: share of fresh noise.")
    eta: float | None = Field(None, ge=0, le=1, description="ddim: η of its paper, instead of churn.")
    rescore: bool | None = Field(
        None, description="settle: the last call rates every candidate from left to right."
    )
    order_noise: float | None = Field(
        None, ge=0, le=100, description="settle: chance in which words settle first."
    )
    likelihood_weight: float | None = Field(
        None,
        ge=0,
        le=1000,
        description="The choice: what a candidate's log-probability counts beside its BLEU.",
    )
    source_weight: float | None = Field(
        None, ge=0, le=1000, description="The choice: what a candidate's BLEU with the source costs."
    )
    copies: bool | None = Field(None, description="The choice: whether the source itself may be the answer.")
    guidance: float | None = Field(None, ge=0, le=100)
    order: Literal[1, 2] | None = Field(None, description="dpm-solver.")
    stochastic: bool | None = Field(None, description="dpm-solver.")
    clamp_from: float | None = Field(None, ge=0, le=0.999)
    truncate: float | None = Field(None, ge=1e-3, le=100)
    length: int | None = Field(None, ge=1, le=Limits.length, description="Tokens of the answer.")
    length_beam: int | None = Field(None, ge=1, le=Limits.candidates)
    seed: int | None = Field(None, ge=0, le=LARGEST_SEED)

    def applied_to(self, defaults: Any) -> Any:
        """The model's settings with what is given changed. Raises `InputError` for what the model has not."""
        given = self.model_dump(exclude_none=True)
        known = {field.name for field in dataclasses.fields(defaults)}
        for name in given:
            if name not in known:
                has = ", ".join(sorted(known & set(Dials.model_fields)))
                raise InputError(f"This model has no {name}; it has: {has}.")
        return dataclasses.replace(defaults, **given)


class Ask(BaseModel):
    """One source to be watched."""

    model_config = ConfigDict(extra="forbid")

    source: Text
    template: Text | None = Field(
        None, description="Words of the answer, [MASK] for a free token, [...] for any number of them."
    )
    model: Literal["main", "compare"] = "main"
    settings: Dials = Dials()  # type: ignore[call-arg]


class AskMany(Ask):
    """One source or several to be answered."""

    source: Text | Annotated[list[Text], Field(min_length=1, max_length=Limits.sources)]  # type: ignore[assignment]

    @field_validator("source", mode="before")
    @classmethod
    def _one_text_or_several(cls, given: Any) -> Any:
        """Say what is wrong in one sentence; of a union, each member would say why it is not that one."""
        texts = given if isinstance(given, list) else [given]
        if not 1 <= len(texts) <= Limits.sources:
            raise ValueError(f"The list has {len(texts)} texts; give 1 to {Limits.sources}")
        for number, text in enumerate(texts, start=1):
            which = f"Text {number} of the list" if isinstance(given, list) else "It"
            if not isinstance(text, str):
                raise ValueError(f"{which} is no text; give a text, or a list of 1 to {Limits.sources} texts")
            if any("\ud800" <= letter <= "\udfff" for letter in text):
                raise ValueError(f"{which} has half of a surrogate pair, which is no letter; take it out")
            if not 1 <= len(text) <= Limits.characters:
                raise ValueError(f"{which} has {len(text)} characters; give 1 to {Limits.characters}")
        return given


class AskInQuery(Dials):
    """As `Ask`, in the query of a URL."""

    source: Text
    template: Text | None = None
    model: Literal["main", "compare"] = "main"


class AnswerOut(BaseModel):
    """agreement: BLEU of each candidate (row) with each other (column); log_p: log-probabilities in nats;
    to_source: BLEU with the source. The largest mean agreement + likelihood_weight · log_p − source_weight ·
    to_source is chosen, but none of passed_over, which are copies of the source. unread: tokens at the end of the
    source that the model did not read, for it reads no longer ones."""

    source: str
    unread: int
    text: str
    candidates: list[str]
    chosen: int
    agreement: list[list[float]]
    log_p: list[float]
    likelihood_weight: float
    to_source: list[float]
    source_weight: float
    passed_over: list[int]
    seconds: float
    forwards: int


class Answers(BaseModel):
    answers: list[AnswerOut]


class ModelOut(BaseModel):
    """A model that is served: its kind, its size, its own settings for each dial that it has, and sources that
    it is good at (none where nobody has named any)."""

    name: str
    title: str
    kind: str
    parameters: int
    dials: dict[str, Any]
    samplers: list[str]
    can_guide: bool
    longest_answer: int
    examples: list[str]


class Models(BaseModel):
    models: list[ModelOut]
    limits: dict[str, int]


class Health(BaseModel):
    status: Literal["ok"]
    waiting: int
    version: str


class Problem(BaseModel):
    """What is wrong with a request, in one sentence."""

    detail: str
