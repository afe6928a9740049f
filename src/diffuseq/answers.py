"""What comes of a source: states on the way out of noise, and the answer."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Answer:
    """What came of one source: the chosen text, all candidates with their log-probabilities, and what it cost.

    log_p is in nats (`diffuseq.system.Draft`); seconds is the source's share of its batch; forwards counts the
    network calls for one candidate; unread: tokens at the end of the source that the model did not read, for it
    reads no longer ones.
    """

    source: str
    text: str
    candidates: list[str]
    log_p: list[float]
    seconds: float
    forwards: int
    unread: int = 0

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class TextDraft:
    """One state of the candidates of one source on their way: a text, its log-probability in nats, its words and
    their confidences for each candidate (`text`, `words`, `confidence` are those of the first).

    all_pinned: which of the words were given by a template; empty without one. unread: as in `Answer`.
    """

    index: int
    total: int
    forwards: int
    texts: list[str]
    log_p: list[float]
    all_words: list[list[str]]
    all_confidence: list[list[float]]
    all_pinned: list[list[bool]] = field(default_factory=list)
    unread: int = 0

    @property
    def text(self) -> str:
        return self.texts[0]

    @property
    def words(self) -> list[str]:
        return self.all_words[0]

    @property
    def confidence(self) -> list[float]:
        return self.all_confidence[0]
