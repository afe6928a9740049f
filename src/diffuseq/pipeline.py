"""Text in, text out, for every system of the house.

    pipe = DiffuSeqPipeline.from_pretrained("models/qqp")
    print(pipe("How do I learn to play the guitar?").text)
    for draft in pipe.stream("How do I learn to play the guitar?"):
        print(draft.index, draft.text)
"""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import torch

from diffuseq.config import Config
from diffuseq.data.batch import pad
from diffuseq.decoding.mbr import choose
from diffuseq.errors import InputError, unknown_name
from diffuseq.sampling.noise import mix_seed
from diffuseq.system import Draft, Request, System

if TYPE_CHECKING:
    from diffuseq.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Answer:
    """What came of one source: the chosen text, all candidates, and what it cost.

    seconds is the source's share of its batch; forwards counts the network calls for one candidate.
    """

    source: str
    text: str
    candidates: list[str]
    seconds: float
    forwards: int

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class TextDraft:
    """One state of the candidates of one source on their way: a text, its words and their confidences
    for each candidate (`text`, `words`, `confidence` are those of the first)."""

    index: int
    total: int
    forwards: int
    texts: list[str]
    all_words: list[list[str]]
    all_confidence: list[list[float]]
    all_pinned: list[list[bool]] = field(default_factory=list)

    @property
    def text(self) -> str:
        return self.texts[0]

    @property
    def words(self) -> list[str]:
        return self.all_words[0]

    @property
    def confidence(self) -> list[float]:
        return self.all_confidence[0]


class DiffuSeqPipeline:
    """A system with its tokenizer and its settings."""

    def __init__(self, system: System, tokenizer: Tokenizer, config: Config) -> None:
        self.system, self.tokenizer, self.config = system, tokenizer, config

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, device: str | torch.device | None = None) -> DiffuSeqPipeline:
        """Open a model folder or a hub name. Raises `InputError` when it is neither, or is damaged."""
        from diffuseq.checkpoint import load_model

        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        return cls(*load_model(name_or_path, device))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model folder: config, weights (safetensors), generation settings, tokenizer, model card."""
        from diffuseq.checkpoint import save_model

        save_model(folder, self.system, self.config, self.tokenizer)

    def push_to_hub(self, name: str, **options: Any) -> str:
        """Upload the model folder to the hub under `name`; options go to `huggingface_hub`. Returns its address."""
        from diffuseq.checkpoint import push_model

        return push_model(name, self.system, self.config, self.tokenizer, **options)

    def settings(self, **changes: Any) -> Any:
        """The model's generation settings with some changed. Raises `InputError` for an unknown name."""
        known = {f.name for f in dataclasses.fields(self.config.generation)}
        for name in changes:
            if name not in known:
                raise unknown_name("generation setting", name, known)
        return dataclasses.replace(self.config.generation, **changes)

    @overload
    def __call__(self, source: str, **changes: Any) -> Answer: ...
    @overload
    def __call__(self, source: Sequence[str], **changes: Any) -> list[Answer]: ...

    def __call__(self, source: str | Sequence[str], **changes: Any) -> Answer | list[Answer]:
        """Answer one source or many; keyword arguments change the generation settings."""
        if isinstance(source, str):
            return self.answer_all([source], self.settings(**changes))[0]
        return self.answer_all(list(source), self.settings(**changes))

    def answer_all(
        self, sources: Sequence[str], settings: Any, progress: Callable[[int], None] | None = None
    ) -> list[Answer]:
        """Answers in the order of the sources; `progress` is told how many more are done."""
        ids = self._encode(sources)
        order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
        answers: dict[int, Answer] = {}
        for start in range(0, len(order), settings.batch_size):
            rows = order[start : start + settings.batch_size]
            began = time.perf_counter()
            draft = self._last_draft([ids[row] for row in rows], [sources[row] for row in rows], settings)
            texts = self._texts(draft)
            k = settings.candidates
            groups = [texts[i * k : (i + 1) * k] for i in range(len(rows))]
            chosen = choose(groups)
            seconds = (time.perf_counter() - began) / len(rows)
            for row, group, best in zip(rows, groups, chosen, strict=True):
                answers[row] = Answer(sources[row], group[best], group, seconds, draft.forwards)
            if progress is not None:
                progress(len(rows))
        return [answers[row] for row in range(len(sources))]

    def stream(self, source: str, **changes: Any) -> Iterator[TextDraft]:
        """Every state of one source's candidates on the way from noise to text; the last is the answer."""
        settings = self.settings(**changes)
        for draft in self._drafts(self._encode([source]), [source], settings):
            yield self._readable(draft)

    def _encode(self, sources: Sequence[str]) -> list[list[int]]:
        for row, source in enumerate(sources):
            if not isinstance(source, str) or not source.strip():
                raise InputError(f"Source {row + 1} is empty; give it some text, or leave it out.")
        ids = self.tokenizer.encode(list(sources))
        longest = self.config.text.max_source
        long_rows = [row for row, row_ids in enumerate(ids) if len(row_ids) > longest]
        if long_rows and self.config.text.overlong == "refuse":
            raise InputError(
                f"Source {long_rows[0] + 1} has {len(ids[long_rows[0]])} tokens; this model reads up to {longest}: shorten it."
            )
        if long_rows:
            warnings.warn(f"{len(long_rows)} sources were cut to {longest} tokens, the first is source {long_rows[0] + 1}.", stacklevel=3)
        for row, row_ids in enumerate(ids):
            if not row_ids:
                raise InputError(f"Source {row + 1} ({sources[row][:40]!r}) has nothing this model's tokenizer can read.")
        return [row_ids[:longest] for row_ids in ids]

    def _drafts(self, ids: list[list[int]], sources: Sequence[str], settings: Any) -> Iterator[Draft]:
        source, padding = pad(ids, self.tokenizer.special.pad)
        seeds = [
            mix_seed(settings.seed, text, candidate) for text in sources for candidate in range(settings.candidates)
        ]
        device = self.system.device
        request = Request(source.to(device), padding.to(device), settings.candidates, seeds, settings)
        self.system.eval()
        return self.system.generate(request)

    def _last_draft(self, ids: list[list[int]], sources: Sequence[str], settings: Any) -> Draft:
        draft = None
        for draft in self._drafts(ids, sources, settings):  # noqa: B007
            pass
        assert draft is not None, "a system must yield at least one draft"
        return draft

    def _texts(self, draft: Draft) -> list[str]:
        tokens, padding = draft.tokens.tolist(), draft.padding.tolist()
        return [
            self.tokenizer.decode([t for t, gone in zip(row, row_padding, strict=True) if not gone])
            for row, row_padding in zip(tokens, padding, strict=True)
        ]

    def _readable(self, draft: Draft) -> TextDraft:
        words, confidences = [], []
        for i, row in enumerate(draft.tokens.tolist()):
            kept = [j for j, gone in enumerate(draft.padding[i].tolist()) if not gone]
            words.append(self.tokenizer.tokens([row[j] for j in kept]))
            confidence = draft.confidence[i].tolist() if draft.confidence is not None else [1.0] * len(row)
            confidences.append([confidence[j] for j in kept])
        return TextDraft(draft.index, draft.total, draft.forwards, self._texts(draft), words, confidences)
