"""What is shown of a generation, frame by frame: in the terminal, in the browser, and in a trace file.

    recording = Recording(pipe, "How do I learn to cook?", pipe.settings(steps=20))
    for frame in recording:
        print(frame.index, frame.text)
    append_trace(Path("trace.jsonl"), recording.trace)

A trace file is jsonl: for every source a line {"source", "settings"}, a line a frame {"index", "total",
"forwards", "seconds", "rows"} and a line {"text", "candidates", "chosen", "agreement", …} at its end.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar, get_args

from diffuseq.config import Generation
from diffuseq.data.pairs import BadRowError, decode, numbered_lines, parse_json
from diffuseq.errors import InputError
from diffuseq.plain import to_dict

if TYPE_CHECKING:
    from diffuseq.answers import TextDraft
    from diffuseq.pipeline import DiffuSeqPipeline

T = TypeVar("T")
State = Literal["noise", "new", "changed", "settled", "pinned"]

LARGEST = 1e12
"""Numbers of a trace (seconds, calls, BLEU) stay far below."""
UNSURE = 0.2
"""A word that the network gives less than this probability, and has not yet been surer of, is still noise."""


class Piece(NamedTuple):
    """A piece of text with a leading space where it begins a word, the network's confidence in it (0…1),
    and what became of it since the frame before."""

    text: str
    confidence: float
    state: State


@dataclass(frozen=True)
class Frame:
    """One state of all candidates of a source; seconds since the start, forwards: network calls so far."""

    index: int
    total: int
    forwards: int
    seconds: float
    rows: list[list[Piece]]

    @property
    def text(self) -> str:
        """The first candidate."""
        return "".join(piece.text for piece in self.rows[0]).strip()


@dataclass(frozen=True)
class Choice:
    """The end of a trace: which candidate was chosen and why.

    agreement: BLEU of every candidate (row) with every other as its reference; log_p: their log-probabilities in
    nats; likelihood_weight: what these count; to_source: their BLEU with the source; source_weight: what that
    costs; passed_over: candidates that are the source itself, where that may not be chosen. Of the others the one
    with the largest `score` is chosen.
    """

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

    def mean_agreement(self, row: int) -> float:
        """Mean BLEU of a candidate with the others; 0 for the only one."""
        others = [value for column, value in enumerate(self.agreement[row]) if column != row]
        return sum(others) / len(others) if others else 0.0

    @property
    def terms(self) -> list[tuple[str, float, list[float]]]:
        """What counts beside the mean agreement: its name, its signed weight, and a number for each candidate."""
        both = [
            ("log p", self.likelihood_weight, self.log_p),
            ("BLEU with the source", -self.source_weight, self.to_source),
        ]
        return [term for term in both if term[1]]

    def score(self, row: int) -> float:
        """What decides: the mean agreement and the terms, weighted."""
        return self.mean_agreement(row) + sum(weight * numbers[row] for _, weight, numbers in self.terms)


@dataclass(frozen=True)
class Trace:
    """A whole generation: the source, the settings, the frames and the end."""

    source: str
    settings: dict[str, Any]
    frames: list[Frame] = field(default_factory=list)
    choice: Choice | None = None


class Recording:
    """A generation that is looked at while it runs: iterate over its frames, then read `trace`."""

    def __init__(
        self, pipe: DiffuSeqPipeline, source: str, settings: Any, template: str | None = None
    ) -> None:
        self.pipe, self.source, self.settings, self.template = pipe, source, settings, template
        self.trace = Trace(source, to_dict(settings))
        self.unread = 0  # tokens at the end of the source that the model did not read

    def __iter__(self) -> Iterator[Frame]:
        drafts = self.pipe.stream(self.source, **self._changes())
        # systems that write a word once (they have no steps) have no noise to show
        unsure = UNSURE if hasattr(self.settings, "steps") else 0.0
        for draft, frame in frames(drafts, unsure):  # noqa: B007
            self.trace.frames.append(frame)
            yield frame
        settings, self.unread = self.settings, draft.unread
        choice = explain(self.source, draft.texts, draft.log_p, settings, frame.seconds, frame.forwards)
        self.trace = dataclasses.replace(self.trace, choice=choice)

    @property
    def choice(self) -> Choice:
        """The end; there is one once the last frame was looked at."""
        assert self.trace.choice is not None, "the recording is still running"
        return self.trace.choice

    def _changes(self) -> dict[str, Any]:
        given = {} if self.template is None else {"template": self.template}
        return vars(self.settings) | given


def frames(drafts: Iterable[TextDraft], unsure: float = UNSURE) -> Iterator[tuple[TextDraft, Frame]]:
    """Each draft with its frame, which knows what changed. `seconds` counts the making of drafts alone."""
    seconds = 0.0
    before: list[list[Piece]] = []
    iterator = iter(drafts)
    while True:
        began = time.perf_counter()
        draft = next(iterator, None)
        seconds += time.perf_counter() - began
        if draft is None:
            return
        frame = make_frame(draft, before, seconds, unsure)
        before = frame.rows
        yield draft, frame


def make_frame(draft: TextDraft, before: list[list[Piece]], seconds: float, unsure: float = UNSURE) -> Frame:
    """The frame of a draft, given the rows of the frame before (none, at the start)."""
    threshold = 0.0 if draft.index + 1 == draft.total else unsure
    rows = []
    for i, words in enumerate(draft.all_words):
        last = before[i] if i < len(before) else []
        pinned = draft.all_pinned[i] if draft.all_pinned else [False] * len(words)
        parts = enumerate(zip(words, draft.all_confidence[i], pinned, strict=True))
        rows.append(
            [
                Piece(word, round(sure, 4), _state(word, sure, last[j : j + 1], is_pinned, threshold))
                for j, (word, sure, is_pinned) in parts
            ]
        )
    return Frame(draft.index, draft.total, draft.forwards, seconds, rows)


def _state(word: str, confidence: float, before: list[Piece], is_pinned: bool, threshold: float) -> State:
    """`before` holds what stood at the position in the last frame, or nothing."""
    if is_pinned:
        return "pinned"
    was_noise = not before or before[0].state == "noise"
    same = bool(before) and before[0].text == word
    if same and not was_noise:
        return "settled"
    if confidence < threshold:
        return "noise"
    return "new" if was_noise else "changed"


def explain(
    source: str,
    candidates: list[str],
    log_p: list[float],
    settings: Generation,
    seconds: float,
    forwards: int,
) -> Choice:
    """Choose one of the candidates (`diffuseq.decoding.mbr`), and keep what decided."""
    from diffuseq.decoding.mbr import barred_copies, bleu_to_source, bonus, choose_from, pairwise_bleu

    agreement, to_source = pairwise_bleu(candidates), bleu_to_source(candidates, source)
    passed_over = [] if settings.copies else barred_copies([source], [candidates])[0]
    extra = bonus(log_p, settings.likelihood_weight, to_source, settings.source_weight)
    chosen = choose_from(agreement[None], [len(candidates)], [extra], [passed_over])[0]
    return Choice(
        text=candidates[chosen],
        candidates=candidates,
        chosen=chosen,
        agreement=agreement.tolist(),
        log_p=log_p,
        likelihood_weight=settings.likelihood_weight,
        to_source=to_source,
        source_weight=settings.source_weight,
        passed_over=passed_over,
        seconds=seconds,
        forwards=forwards,
    )


def append_trace(path: Path, trace: Trace) -> None:
    """Add a trace to a file. Raises `InputError` when it cannot be written."""
    lines: list[Any] = [{"source": trace.source, "settings": trace.settings}]
    lines += [asdict(frame) for frame in trace.frames]
    lines += [asdict(trace.choice)] if trace.choice is not None else []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as stream:
            stream.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    except OSError as error:
        raise InputError(
            f"The trace {path} cannot be written ({error.strerror}); give another file."
        ) from None


def read_traces(path: Path) -> list[Trace]:
    """All traces of a file. Raises `InputError` with file and line where it is none."""
    traces: list[Trace] = []
    for place, line in numbered_lines(path):
        if not line.strip():
            continue
        try:
            _add_line(traces, parse_json(decode(line)))
        except (BadRowError, ValueError, TypeError, KeyError, IndexError):
            raise InputError(f"{place} is no line of a trace; give a file that --trace wrote.") from None
    if not traces or not any(trace.frames for trace in traces):
        raise InputError(f"{path} holds no trace; give a file that --trace wrote.")
    return traces


def _add_line(traces: list[Trace], values: dict[str, Any]) -> None:
    """Raises one of the errors that `read_traces` explains if the line is none that `append_trace` writes."""
    if "source" in values:
        traces.append(Trace(_is(str, values["source"]), dict(values["settings"])))
        return
    last = traces[-1]
    if "rows" in values:
        last.frames.append(_frame(**values))
        return
    traces[-1] = Trace(last.source, last.settings, last.frames, _choice(**values))


def _frame(*, index: Any, total: Any, forwards: Any, seconds: Any, rows: Any) -> Frame:
    if not rows:
        raise ValueError("a frame has at least one candidate")
    pieces = [
        [Piece(_is(str, text), _number(sure), _one_of(get_args(State), state)) for text, sure, state in row]
        for row in rows
    ]
    return Frame(_is(int, index), _is(int, total), _is(int, forwards), _number(seconds), pieces)


def _choice(
    *,
    text: Any,
    candidates: Any,
    chosen: Any,
    agreement: Any,
    log_p: Any,
    likelihood_weight: Any,
    to_source: Any,
    source_weight: Any,
    passed_over: Any,
    seconds: Any,
    forwards: Any,
) -> Choice:
    texts = [_is(str, candidate) for candidate in _is(list, candidates)]
    numbers = [[_number(value) for value in row] for row in agreement]
    if [len(row) for row in numbers] != [len(texts)] * len(texts):
        raise ValueError("the agreement is one number for each two candidates")
    chosen = _one_of(range(len(texts)), chosen)
    likelihoods, nearness = ([_number(value) for value in _is(list, part)] for part in (log_p, to_source))
    if not len(likelihoods) == len(nearness) == len(texts):
        raise ValueError("there is a log-probability and a BLEU with the source for each candidate")
    return Choice(
        text=_is(str, text),
        candidates=texts,
        chosen=chosen,
        agreement=numbers,
        log_p=likelihoods,
        likelihood_weight=_number(likelihood_weight),
        to_source=nearness,
        source_weight=_number(source_weight),
        passed_over=[_one_of(range(len(texts)), index) for index in _is(list, passed_over)],
        seconds=_number(seconds),
        forwards=_is(int, forwards),
    )


def _is(kind: type[T], value: Any) -> T:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    if isinstance(value, int) and not 0 <= value <= LARGEST:
        raise ValueError(f"{value!r} counts nothing")
    if isinstance(value, str):
        value.encode()  # raises ValueError for half of a surrogate pair
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
        raise TypeError(f"{value!r} is no number")
    return float(value)


def _one_of(allowed: Sequence[T], value: Any) -> T:
    if isinstance(value, bool) or value not in allowed:
        raise ValueError(f"{value!r} is none of {allowed}")
    return allowed[allowed.index(value)]
