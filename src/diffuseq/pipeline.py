"""Text in, text out, for every system of the house.

pipe = DiffuSeqPipeline.from_pretrained("models/qqp")
print(pipe("How do I learn to play the guitar?").text)
for draft in pipe.stream("How do I learn to play the guitar?"):
    print(draft.index, draft.text)
pipe("How do I learn to play the guitar?", template="What is [MASK] [MASK] way to learn [...]?")
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, overload

import numpy as np
import torch

from diffuseq.answers import Answer, TextDraft
from diffuseq.blocked import block_weights
from diffuseq.checks import check_changes, check_generation
from diffuseq.closing import closed_at_exit
from diffuseq.config import Config, Generation, Precision, Runtime
from diffuseq.cuts import warn_of_cuts
from diffuseq.data.batch import pad
from diffuseq.decoding.mbr import choose
from diffuseq.errors import InputError, unknown_name
from diffuseq.following import OnStep, Streamed, Streamer
from diffuseq.memory import FreedMemory
from diffuseq.precision import (
    GENERATION_WIDTH,
    each_within,
    fp32_by_default,
    in_bf16,
    round_matrices,
    use_bf16,
    width_of,
)
from diffuseq.prompts import Prompt, batches, read_sources, with_template
from diffuseq.sampling.noise import mix_seed
from diffuseq.system import Draft, Request, System
from diffuseq.text.template import one_template

if TYPE_CHECKING:
    from diffuseq.text.tokenizer import Tokenizer


class DiffuSeqPipeline:
    """A system with its tokenizer and its settings."""

    def __init__(
        self, system: System, tokenizer: Tokenizer, config: Config, folder: Path | None = None
    ) -> None:
        """folder: where the model was opened from; its model card is kept when the model is saved."""
        self.system, self.tokenizer, self.config, self.folder = system, tokenizer, config, folder
        self.bf16 = False

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        device: str | torch.device | None = None,
        runtime: Runtime = "torch",
        precision: Precision = "auto",
    ) -> DiffuSeqPipeline:
        """Open a model folder, a hub name, or a model that comes with the package (`qqp`, `qqp-large`,
        `qqp-pair`, `qqp-transformer`, `qqp-three`, `grammar`).

        runtime: "onnx" computes with ONNX Runtime on the CPU, for a folder that `diffuseq export` has written.
        precision: bf16 rounds the weights and computes in it; auto does so where it is faster, but for small models
        and for those that were trained with `training.precision` fp32. The words that are drawn differ a little.
        Raises `InputError` when it is none of them, or is damaged.
        """
        from diffuseq.checkpoint import find_model, load_model

        if runtime not in get_args(Runtime):
            raise unknown_name("runtime", runtime, get_args(Runtime))
        _check_precision(precision)
        if runtime == "onnx" and precision == "bf16":
            raise InputError("The runtime onnx computes in fp32; leave the precision out.")
        if runtime == "onnx" and device not in (None, "cpu", torch.device("cpu")):
            raise InputError(f"The runtime onnx computes on the CPU, not on {device}; leave the device out.")
        device = device or ("cuda" if torch.cuda.is_available() and runtime == "torch" else "cpu")
        folder = find_model(name_or_path)
        system, tokenizer, config = load_model(folder, device)
        if runtime == "onnx":
            from diffuseq.onnx_runtime import use_onnx

            use_onnx(system, folder)
        pipe = cls(system, tokenizer, config, folder)
        if runtime == "torch":
            pipe._make_fast(precision)
        return pipe

    @classmethod
    def ensemble(
        cls,
        models: Sequence[str | Path],
        weights: Sequence[float] = (),
        device: str | torch.device | None = None,
        precision: Precision = "auto",
    ) -> DiffuSeqPipeline:
        """Several models as one that draws every word from the mixture of what they expect: first a diffuseq, then
        more of these or autoregressive ones of the same vocabulary. It generates as the first does, by fixed-point.

        weights: what each counts for; all the same by default. device and precision as in `from_pretrained`.
        Raises `InputError` for models that cannot be opened or mixed.
        """
        from diffuseq.ensembles import load_ensemble

        _check_precision(precision)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        pipe = cls(*load_ensemble(models, weights, device))
        pipe._make_fast(precision)
        return pipe

    def _make_fast(self, precision: Precision) -> None:
        """Prepare a model that was opened to answer."""
        if _pays(precision, self.system, self.config):
            self.compute_in_bf16()
        block_weights(self.system)

    def compute_in_bf16(self) -> None:
        """Round the weights to bf16, and compute in it from now on. Such a model cannot be saved."""
        round_matrices(self.system)
        self.bf16 = True

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model folder: config, weights, generation settings, tokenizer, model card."""
        from diffuseq.checkpoint import save_model

        self._check_is_whole()
        save_model(folder, self.system, self.config, self.tokenizer, self._card())

    def push_to_hub(self, name: str, **options: Any) -> str:
        """Upload the folder to the hub as `name`; options go to `huggingface_hub`. Gives the address.

        Raises `InputError` for a model that was rounded to bf16, and where the hub refuses."""
        from diffuseq.checkpoint import push_model

        self._check_is_whole()
        return push_model(name, self.system, self.config, self.tokenizer, self._card(), **options)

    def _check_is_whole(self) -> None:
        if self.bf16:
            raise InputError(
                "This model's weights were rounded to bf16 for speed; to save it, open it with precision='fp32'."
            )

    def _card(self) -> str | None:
        """The card of the model that was opened, with a scores.json beside it; None for a new model."""
        from diffuseq.model_card import current_card

        return None if self.folder is None else current_card(self.folder)

    def settings(self, **changes: Any) -> Generation:
        """The model's generation settings with some changed; numbers may be numpy's.

        Raises `InputError` for an unknown name, and for a change that does nothing with the sampler that is chosen;
        whether the values can be used is checked where they are.
        """
        known = {f.name for f in dataclasses.fields(self.config.generation)}
        for name in changes:
            if name not in known:
                raise unknown_name("generation setting", name, known)
        plain = {n: value.item() if isinstance(value, np.generic) else value for n, value in changes.items()}
        settings: Generation = dataclasses.replace(self.config.generation, **plain)
        check_changes(self.config.system, self.config.generation, settings)
        return settings

    @overload
    def __call__(self, source: str, **options: Any) -> Answer: ...
    @overload
    def __call__(self, source: Sequence[str], **options: Any) -> list[Answer]: ...

    def __call__(
        self,
        source: str | Sequence[str],
        *,
        template: str | None = None,
        prefix: str = "",
        suffix: str = "",
        streamer: Streamer | None = None,
        callback_on_step_end: OnStep | None = None,
        **changes: Any,
    ) -> Answer | list[Answer]:
        """Answer one source or many; other keyword arguments change the generation settings.

        template: text with slots, whose words appear in the answer (see `diffuseq.text.template`); prefix
        and suffix: how the answer begins and ends. streamer: of transformers, shown the first candidate on
        its way and the chosen one at the end. callback_on_step_end(pipe, index, draft) returns True to stop.
        Raises `InputError` for settings, sources or templates that cannot be used.
        """
        settings = self.settings(**changes)
        template = one_template(template, prefix, suffix)
        if not isinstance(source, str):
            if streamer is not None or callback_on_step_end is not None:
                raise InputError(
                    "streamer and callback_on_step_end follow one source; give one text, not a list."
                )
            return self.answer_all(_as_list(source), settings, template=template)
        if streamer is None and callback_on_step_end is None:
            return self.answer_all([source], settings, template=template)[0]
        return self._answer_followed(source, settings, template, streamer, callback_on_step_end)

    def answer_all(
        self,
        sources: Sequence[str],
        settings: Generation,
        progress: Callable[[int], None] | None = None,
        template: str | None = None,
    ) -> list[Answer]:
        """Answers in the order of the sources; `progress` is told how many more are done. Raises `InputError` as
        `prepare` does."""
        if progress is not None and not callable(progress):
            raise InputError(
                f"progress is of the type {type(progress).__name__}; give a function of a number."
            )
        answers: dict[int, Answer] = {}
        for batch in self.answer_batches(sources, settings, template):
            answers |= batch
            if progress is not None:
                progress(len(batch))
        return [answers[row] for row in range(len(answers))]

    def answer_batches(
        self,
        sources: Sequence[str],
        settings: Generation,
        template: str | None = None,
        done: Container[int] = (),
        turn: tuple[int, int] = (0, 1),
    ) -> Iterator[dict[int, Answer]]:
        """The answers batch by batch, as {row: answer}, sources of about one length together.

        done: rows that are answered already. A batch of which some row is not is answered as a whole, so
        that going on after a stop gives the very answers of a call that was not stopped. turn: (i, n) answers
        batch i of every n, as one of n processes. Raises `InputError` as `prepare` does.
        """
        prompts = self._prepare_and_warn(sources, settings, template)
        freed = FreedMemory(self.system.device.type)
        for rows in itertools.islice(batches(prompts, settings.batch_size), turn[0], None, turn[1]):
            if all(row in done for row in rows):
                continue
            batch = [prompts[row] for row in rows]
            began = time.perf_counter()
            answers, _ = self._answers(_last(self.run(batch, settings)), batch, settings, began)
            freed.give_back()
            yield dict(zip(rows, answers, strict=True))

    def stream(
        self, source: str, *, template: str | None = None, prefix: str = "", suffix: str = "", **changes: Any
    ) -> Iterator[TextDraft]:
        """Every state of one source's candidates on the way from noise to text; the last is the answer.

        Raises `InputError` as a call does.
        """
        settings = self.settings(**changes)
        prompts = self._prepare_and_warn([source], settings, one_template(template, prefix, suffix))
        return (self.readable(draft, prompts)[0] for draft in self.run(prompts, settings))

    def prepare(
        self,
        sources: Sequence[str],
        settings: Generation,
        template: str | None = None,
        seeds: Sequence[int] | None = None,
    ) -> list[Prompt]:
        """Check and encode sources, so that `run` can answer those of one shape together.

        seeds: one a source instead of the settings'. Raises `InputError` for settings that make no sense, and for
        sources and templates that cannot be read or do not fit the model.
        """
        self._check_settings(settings)
        sources = sources if isinstance(sources, str) else _as_list(sources)
        seeds = [settings.seed] * len(sources) if seeds is None else seeds
        prompts = read_sources(sources, seeds, self.tokenizer, self.config.text)
        template, longest = one_template(template), self.config.text.max_target
        if template is None:
            return prompts
        return [
            with_template(prompt, template, self.tokenizer, settings, longest, self._likely_length)
            for prompt in prompts
        ]

    def _check_settings(self, settings: Any) -> None:
        """Raise `InputError` for settings of another kind of system, and for such as make no sense."""
        own = type(self.config.generation)
        if not isinstance(settings, own):
            raise InputError(
                f"The settings are of the type {type(settings).__name__}, but this model generates by a "
                f"{own.__name__}; give what pipe.settings() gives, or changes to it: pipe.settings(candidates=3)."
            )
        check_generation(settings)
        asked, longest = getattr(settings, "length", None), self.config.text.max_target
        if asked is not None and asked > longest:
            raise InputError(f"length is {asked}; this model writes up to {longest} tokens: ask for fewer.")

    def _prepare_and_warn(
        self, sources: Sequence[str], settings: Generation, template: str | None
    ) -> list[Prompt]:
        """`prepare` for callers who may not look at what is left unread."""
        prompts = self.prepare(sources, settings, template)
        warn_of_cuts([len(prompt.ids) + prompt.unread for prompt in prompts], self.config.text.max_source)
        return prompts

    def run(self, prompts: Sequence[Prompt], settings: Generation) -> Iterator[Draft]:
        """Drafts of prompts of one shape; candidate j of prompt i is in row i·candidates + j."""
        k, device = settings.candidates, self.system.device
        seeds = [mix_seed(prompt.seed, prompt.source, j) for prompt in prompts for j in range(k)]
        num_templates = len(prompts[0].templates)
        alone = (
            k if num_templates > 1 else 1
        )  # with a template of its own, a candidate is a source of its own
        source, padding = pad(
            [prompt.ids for prompt in prompts for _ in range(alone)], self.tokenizer.special.pad
        )
        template = None
        if num_templates:
            template = torch.tensor([ids for prompt in prompts for ids in prompt.templates], device=device)
        self.system.eval()
        request = Request(source.to(device), padding.to(device), k // alone, seeds, settings, template)
        drafts = closed_at_exit(self.system.generate(request))
        return each_within(fp32_by_default, in_bf16(device, drafts) if self.bf16 else drafts)

    def texts(self, draft: Draft, num_prompts: int) -> list[list[str]]:
        """The candidates of each prompt."""
        tokens, padding = draft.tokens.tolist(), draft.padding.tolist()
        rows = [
            self.tokenizer.decode([t for t, gone in zip(row, row_padding, strict=True) if not gone])
            for row, row_padding in zip(tokens, padding, strict=True)
        ]
        k = len(rows) // num_prompts
        return [rows[i * k : (i + 1) * k] for i in range(num_prompts)]

    def log_p(self, draft: Draft, num_prompts: int) -> list[list[float]]:
        """The log-probabilities of each prompt's candidates, in nats."""
        values: list[list[float]] = draft.log_p.view(num_prompts, -1).tolist()
        return values

    def readable(self, draft: Draft, prompts: Sequence[Prompt]) -> list[TextDraft]:
        """The draft of each prompt, in text."""
        k = len(draft.tokens) // len(prompts)
        tokens, padding = draft.tokens.tolist(), draft.padding.tolist()
        sure, log_p = draft.confidence.tolist(), self.log_p(draft, len(prompts))
        drafts = []
        for i, (prompt, texts) in enumerate(zip(prompts, self.texts(draft, len(prompts)), strict=True)):
            words, confidences, pinned = [], [], []
            for candidate, row in enumerate(range(i * k, (i + 1) * k)):
                kept = [place for place, gone in enumerate(padding[row]) if not gone]
                words.append(self.tokenizer.tokens([tokens[row][place] for place in kept]))
                confidences.append([sure[row][place] for place in kept])
                if prompt.templates:
                    pinned.append(prompt.pinned(candidate, kept))
            drafts.append(
                TextDraft(
                    draft.index,
                    draft.total,
                    draft.forwards,
                    texts,
                    log_p[i],
                    words,
                    confidences,
                    pinned,
                    prompt.unread,
                )
            )
        return drafts

    def _likely_length(self, prompt: Prompt) -> int:
        """The likeliest length of an answer, in tokens."""
        source, padding = pad([prompt.ids], self.tokenizer.special.pad)
        device = self.system.device
        with fp32_by_default(), torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
            return int(self.system.answer_length(source.to(device), padding.to(device)))

    def _answers(
        self, draft: Draft, prompts: Sequence[Prompt], settings: Generation, began: float
    ) -> tuple[list[Answer], list[int]]:
        """The answers that a last draft holds, and which of its candidates each of them is."""
        sources, groups = [prompt.source for prompt in prompts], self.texts(draft, len(prompts))
        log_p = self.log_p(draft, len(prompts))
        chosen = choose(
            groups,
            log_p,
            settings.likelihood_weight,
            sources,
            source_weight=settings.source_weight,
            copies=settings.copies,
        )
        seconds = (time.perf_counter() - began) / len(prompts)
        answers = [
            Answer(prompt.source, group[best], group, values, seconds, draft.forwards, prompt.unread)
            for prompt, group, values, best in zip(prompts, groups, log_p, chosen, strict=True)
        ]
        return answers, chosen

    def _answer_followed(
        self,
        source: str,
        settings: Generation,
        template: str | None,
        streamer: Streamer | None,
        callback: OnStep | None,
    ) -> Answer:
        """Answer one source while a streamer and a callback look on."""
        if callback is not None and not callable(callback):
            kind = type(callback).__name__
            raise InputError(
                f"callback_on_step_end is of the type {kind}; give a function of (pipe, index, draft)."
            )
        prompts, streamed = self._prepare_and_warn([source], settings, template), Streamed(streamer)
        streamed.begin()
        began, draft = time.perf_counter(), None
        for draft in self.run(prompts, settings):
            streamed.show(draft)
            if callback is not None and callback(self, draft.index, self.readable(draft, prompts)[0]):
                break
        assert draft is not None, "a system yields at least one draft"
        (answer,), (chosen,) = self._answers(draft, prompts, settings, began)
        streamed.end(draft, chosen)
        return answer


def _as_list(sources: Any) -> list[Any]:
    """Several sources, in whatever they come. Raises `InputError` for what holds no texts one after the other: of a
    table, whose columns have names, only these would be answered."""
    if not isinstance(sources, bytes | bytearray | Mapping) and getattr(sources, "ndim", 1) == 1:
        with suppress(TypeError):
            return list(sources)
    raise InputError(
        f"The source is of the type {type(sources).__name__}; give a text (str), or a list of texts."
    )


def _check_precision(precision: str) -> None:
    if precision not in get_args(Precision):
        raise unknown_name("precision", precision, get_args(Precision))


def _pays(precision: Precision, system: System, config: Config) -> bool:
    """Whether to compute in bf16; what was trained in fp32 stays in it."""
    if precision == "auto" and config.training.precision == "fp32":
        return False
    return use_bf16(precision, system.device, width_of(system), GENERATION_WIDTH)


def _last(drafts: Iterator[Draft]) -> Draft:
    draft = None
    for draft in drafts:  # noqa: B007
        pass
    assert draft is not None, "a system yields at least one draft"
    return draft
