"""Decoding of autoregressive systems: greedy, sampling, beam and diverse beam, batched and cached.

One search serves every system (GRU, Transformer, GPT-2, T5). transformers' `generate` cannot: it draws all
rows from one random stream, so that an answer would depend on its neighbours in the batch, and it shows no
drafts on the way. A system gives two things: a state for its rows and a step,

    step(tokens [n], state) -> (logits [n v], state)
    state.select(rows [n])  -> the state with row i replaced by row rows[i] of the same source

Legend: b sources, w beams (or candidates) a source, n = b·w rows, v vocabulary, t tokens so far, l longest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from diffuseq.baselines.configs import AutoregressiveGeneration
from diffuseq.errors import InputError
from diffuseq.sampling.noise import stratify
from diffuseq.system import Draft


class State(Protocol):
    """What a system remembers of the tokens that it has read."""

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""

    def select(self, rows: Tensor) -> State:
        """The state whose row i is this state's row `rows[i]`; both belong to the same source."""


Step = Callable[[Tensor, Any], tuple[Tensor, Any]]
Choose = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True)
class Rules:
    """What an answer may be: its special tokens, its greatest length, and pinned tokens.

    template: long [b l] or None. A token ≥ 0 is forced at its position, −1 leaves it free, and the answer
    has exactly l tokens.
    """

    start: int
    end: int
    pad: int
    banned: tuple[int, ...]
    max_length: int
    template: Tensor | None = None

    def restrict(self, log_probs: Tensor, position: int) -> Tensor:
        """Log-probabilities [n v] with what may not stand at `position` at minus infinity.

        They are not normalised again: a beam's score remains the model's own log-probability.
        """
        forbidden = list(self.banned) if self.template is None else [*self.banned, self.end]
        allowed = log_probs.clone()
        allowed[:, forbidden] = -torch.inf
        if self.template is None:
            return allowed
        copies = log_probs.shape[0] // self.template.shape[0]
        pinned = self.template[:, position].repeat_interleave(copies)[:, None]  # [n 1]
        only = torch.full_like(allowed, -torch.inf)
        only.scatter_(1, pinned.clamp(min=0), log_probs.gather(1, pinned.clamp(min=0)))
        return torch.where(pinned >= 0, only, allowed)


def check(settings: AutoregressiveGeneration, candidates: int) -> None:
    """Raise `InputError` for settings that do not go together."""
    if settings.max_length < 1:
        raise InputError(f"max_length is {settings.max_length}; an answer needs at least 1 token.")
    if settings.strategy == "greedy" and candidates > 1:
        raise InputError(
            f"Greedy decoding has one answer a source, but candidates is {candidates}; "
            "use strategy 'sample' or 'beam' for more."
        )
    if settings.strategy in ("beam", "diverse-beam") and settings.beams < candidates:
        raise InputError(
            f"A beam of width {settings.beams} cannot give {candidates} candidates; "
            "use beams of at least the number of candidates."
        )
    if settings.strategy == "diverse-beam" and (
        settings.beam_groups < 1 or settings.beams % settings.beam_groups
    ):
        raise InputError(
            f"{settings.beams} beams cannot be split into {settings.beam_groups} groups of equal size; "
            "choose a beam_groups that divides beams."
        )
    if settings.temperature <= 0:
        raise InputError(
            f"temperature is {settings.temperature}; it must be above 0 (greedy is its limit at 0)."
        )
    if not 0 < settings.top_p <= 1:
        raise InputError(
            f"top_p is {settings.top_p}; it must be above 0 and at most 1, which keeps every word."
        )
    if settings.top_k < 0:
        raise InputError(f"top_k is {settings.top_k}; it must be 0 (keep every word) or more.")


def search(
    step: Step,
    state: Any,
    sources: int,
    width: int,
    rules: Rules,
    settings: AutoregressiveGeneration,
    seeds: list[int],
) -> Iterator[Draft]:
    """Decode `sources` · `width` rows by the strategy of `settings`, a draft a token.

    The state holds `rows(settings, width)` rows for every source, side by side. The drafts have `width`
    rows for every source: the best of a beam first. `seeds` (one a row) matter to "sample" only.
    """
    if settings.strategy == "greedy":
        return walk(step, state, sources, rules, lambda log_probs, position: log_probs.argmax(-1))
    if settings.strategy == "sample":
        return walk(step, state, sources * width, rules, sampler(settings, seeds, width, rules.max_length))
    groups = settings.beam_groups if settings.strategy == "diverse-beam" else 1
    return beam_search(step, state, sources, width, rules, settings, groups)


def rows(settings: AutoregressiveGeneration, width: int) -> int:
    """How many rows of state the strategy needs for every source."""
    return {"greedy": 1, "sample": width}.get(settings.strategy, settings.beams)


def walk(step: Step, state: Any, count: int, rules: Rules, choose: Choose) -> Iterator[Draft]:
    """Extend `count` rows one token at a time by `choose(log_probs [n v], position) -> tokens [n]`."""
    current = _starts(count, rules, state)
    done = torch.zeros_like(current, dtype=torch.bool)
    tokens, padding, confidence = _blank((count,), rules, current.device)
    log_p = torch.zeros(count, device=current.device)
    for position in range(rules.max_length):
        logits, state = step(current, state)
        log_probs = rules.restrict(logits.float().log_softmax(-1), position)
        current = choose(log_probs, position)
        drawn = log_probs.gather(1, current[:, None])[:, 0]
        log_p = log_p + drawn.masked_fill(done, 0.0)
        if rules.template is None:
            done = done | (current == rules.end)
        current = current.masked_fill(done, rules.pad)
        tokens[:, position] = current
        padding[:, position] = done
        confidence[:, position] = drawn.exp().masked_fill(done, 1.0)
        seen = slice(0, position + 1)
        text = tokens[:, seen].clone(), padding[:, seen].clone(), confidence[:, seen].clone()
        yield Draft(*text, log_p, position, rules.max_length, position + 1)
        if done.all():
            return


def sampler(settings: AutoregressiveGeneration, seeds: list[int], width: int, length: int) -> Choose:
    """Draw words with temperature, top-k (Fan et al., 2018) and top-p (Holtzman et al., 2020).

    Every row has its own stream of one uniform number a token, made on the CPU from its seed, so that
    neither the batch nor the device changes what it draws by; where `stratified`, the `width` rows of a source
    depend on one another.
    """
    streams = [torch.rand(length, generator=torch.Generator().manual_seed(seed % 2**63)) for seed in seeds]
    uniforms = torch.stack(streams)  # [n l]
    if settings.stratified:
        uniforms = stratify(uniforms, seeds, width)

    def choose(log_probs: Tensor, position: int) -> Tensor:
        uniform = uniforms[:, position].to(log_probs.device)
        return draw(log_probs / settings.temperature, uniform, settings.top_k, settings.top_p)

    return choose


def draw(scores: Tensor, uniform: Tensor, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """Words [n] at the quantiles `uniform` [n] of softmax(scores [n v]) after top-k and top-p."""
    words = None
    if 0 < top_k < scores.shape[1]:
        scores, words = scores.topk(top_k, dim=-1)
    elif top_p < 1:
        scores, words = scores.sort(dim=-1, descending=True)
    probs = scores.softmax(-1)
    if top_p < 1:
        before = probs.cumsum(-1) - probs
        probs = probs.masked_fill(before >= top_p, 0.0)
    cumulated = probs.cumsum(-1)
    total = cumulated[:, -1:]
    # Stay below the total, so that rounding never lands past the last word that is possible.
    quantile = torch.minimum(uniform[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    index = torch.searchsorted(cumulated, quantile, right=True)
    return (index if words is None else words.gather(1, index))[:, 0]


@dataclass(frozen=True)
class Beam:
    """One group of beams for every source: the live hypotheses and the finished ones, best first.

    tokens, confidence [b w l] with scores [b w] (summed log-probabilities); ended_tokens, ended_confidence
    [b w l], ended_padding [b w l], ended_log_p [b w], ended_scores [b w] (the same normalised by length; −inf
    where there is none).
    """

    tokens: Tensor
    confidence: Tensor
    scores: Tensor
    ended_tokens: Tensor
    ended_padding: Tensor
    ended_confidence: Tensor
    ended_log_p: Tensor
    ended_scores: Tensor

    @staticmethod
    def empty(sources: int, width: int, rules: Rules, device: torch.device) -> Beam:
        tokens, padding, confidence = _blank((sources, width), rules, device)
        nothing = torch.full((sources, width), -torch.inf, device=device)
        # All beams start as the same empty text; only the first may be extended, or they would stay equal.
        scores = nothing.clone()
        scores[:, 0] = 0.0
        ended = (tokens.clone(), padding, confidence.clone())
        return Beam(tokens, confidence, scores, *ended, torch.zeros_like(nothing), nothing)

    @property
    def full(self) -> Tensor:
        """Whether every slot for a finished hypothesis is taken; bool [b]."""
        return self.ended_scores.isfinite().all(-1)

    @property
    def open(self) -> Tensor:
        """Which live hypotheses still count: none of a source that is finished; bool [b w]."""
        return self.scores.isfinite() & ~self.full[:, None]

    def finish(self, tokens: Tensor, confidence: Tensor, log_p: Tensor, scores: Tensor, length: int) -> Beam:
        """Take up hypotheses [b m l] of `length` tokens with `log_p` and normalised `scores` [b m]; keep w."""
        padding = torch.ones_like(tokens, dtype=torch.bool)
        padding[..., :length] = False
        all_scores = torch.cat([self.ended_scores, scores], 1)
        best, index = all_scores.topk(self.ended_scores.shape[1], dim=1)
        return replace(
            self,
            ended_tokens=_pick(torch.cat([self.ended_tokens, tokens], 1), index),
            ended_padding=_pick(torch.cat([self.ended_padding, padding], 1), index),
            ended_confidence=_pick(torch.cat([self.ended_confidence, confidence], 1), index),
            ended_log_p=torch.cat([self.ended_log_p, log_p], 1).gather(1, index),
            ended_scores=best,
        )


def advance(
    beam: Beam,
    log_probs: Tensor,
    position: int,
    rules: Rules,
    length_penalty: float,
    penalty: Tensor | None = None,
) -> tuple[Beam, Tensor]:
    """One step of a beam: the next `Beam` and parents [b w], the beam that each new one extends.

    log_probs [b w v]. `penalty` [b v] is subtracted for the choice alone (diverse beam); scores remain
    log-probabilities. A hypothesis ends when its end token is among the w best extensions, and a source
    whose w slots are full is left as it is: so a beam of width 1 is greedy decoding.
    """
    width, vocabulary = log_probs.shape[1:]
    total = (beam.scores[..., None] + log_probs).flatten(1)  # [b w·v]
    merit = total if penalty is None else total - penalty.repeat(1, width)
    # At most one end token a beam, so that twice the width always holds w extensions that go on.
    merit, index = merit.topk(min(2 * width, total.shape[1]), dim=1)
    parents, words = index // vocabulary, index % vocabulary
    total = total.gather(1, index)
    ends = (words == rules.end) if rules.template is None else torch.zeros_like(words, dtype=torch.bool)

    ended = ends[:, :width] & ~beam.full[:, None]
    log_p, stems = total[:, :width], parents[:, :width]
    normalised = (log_p / (position + 1) ** length_penalty).masked_fill(~ended, -torch.inf)
    beam = beam.finish(_pick(beam.tokens, stems), _pick(beam.confidence, stems), log_p, normalised, position)

    merit, going = merit.masked_fill(ends, -torch.inf).topk(width, dim=1)
    parents, words, total = (x.gather(1, going) for x in (parents, words, total))
    scores = total.masked_fill(merit == -torch.inf, -torch.inf)
    tokens, confidence = _pick(beam.tokens, parents), _pick(beam.confidence, parents)
    tokens[..., position] = words
    confidence[..., position] = (scores - beam.scores.gather(1, parents)).exp().nan_to_num(0.0)
    return replace(beam, tokens=tokens, confidence=confidence, scores=scores), parents


def beam_search(
    step: Step,
    state: Any,
    sources: int,
    candidates: int,
    rules: Rules,
    settings: AutoregressiveGeneration,
    groups: int = 1,
) -> Iterator[Draft]:
    """Beam search; with `groups` > 1 diverse beam search (Vijayakumar et al., 2018, Hamming diversity).

    The groups choose one after the other at each position, and a word costs `diversity` for each earlier
    group's beam that has just taken it. A source is finished when each of its slots holds a hypothesis that
    ended; what is still open at the greatest length counts as it stands. Candidates are the best of the
    beam; with groups, the best of each group first. A beam wider than there are texts repeats them.
    """
    width = settings.beams // groups
    current = _starts(sources * settings.beams, rules, state)
    beams = [Beam.empty(sources, width, rules, current.device) for _ in range(groups)]
    first = torch.arange(sources, device=current.device)[:, None] * settings.beams
    for position in range(rules.max_length):
        logits, state = step(current, state)
        log_probs = rules.restrict(logits.float().log_softmax(-1), position)
        log_probs = log_probs.unflatten(0, (sources, groups, width))
        used = torch.zeros_like(log_probs[:, 0, 0])  # [b v]
        chosen, origins = [], []
        for group in range(groups):
            beams[group], parents = advance(
                beams[group],
                log_probs[:, group],
                position,
                rules,
                settings.length_penalty,
                settings.diversity * used if group else None,
            )
            words = beams[group].tokens[..., position]
            used.scatter_add_(1, words, beams[group].open.to(used.dtype))
            chosen.append(words)
            origins.append(first + group * width + parents)
        current = torch.cat(chosen, 1).flatten()
        done = bool(torch.stack([beam.full for beam in beams]).all())
        last = done or position + 1 == rules.max_length
        yield _standing(beams, candidates, position, rules, settings.length_penalty)
        if last:
            return
        state = state.select(torch.cat(origins, 1).flatten())


def _standing(
    beams: list[Beam], candidates: int, position: int, rules: Rules, length_penalty: float
) -> Draft:
    """The best hypotheses at this moment, finished or open, as a draft with `candidates` rows a source; where there
    are fewer texts than that, these again from the best on."""
    length = position + 1
    closed = []
    for beam in beams:
        open_scores = (beam.scores / length**length_penalty).masked_fill(~beam.open, -torch.inf)
        closed.append(beam.finish(beam.tokens, beam.confidence, beam.scores, open_scores, length))
    ranks = range(beams[0].scores.shape[1])
    chosen = [(group, rank) for rank in ranks for group in range(len(beams))][:candidates]

    counts = [beam.ended_scores.isfinite().sum(1).clamp(min=1) for beam in closed]  # of texts, each [b]

    def gather(name: str) -> Tensor:
        rows = torch.arange(len(counts[0]), device=counts[0].device)
        parts = [getattr(closed[group], name)[rows, rank % counts[group]] for group, rank in chosen]
        return torch.stack(parts, 1).flatten(0, 1)

    padding = gather("ended_padding")[:, :length]
    tokens = gather("ended_tokens")[:, :length].masked_fill(padding, rules.pad)
    confidence = gather("ended_confidence")[:, :length].masked_fill(padding, 1.0)
    log_p = gather("ended_log_p")
    return Draft(tokens, padding, confidence, log_p, position, rules.max_length, length)


def _pick(values: Tensor, index: Tensor) -> Tensor:
    """values [b m l] at index [b w] of its second dimension: [b w l]."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[2]))


def _blank(shape: tuple[int, ...], rules: Rules, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Empty texts: tokens, padding and confidence, each [*shape l]."""
    size = (*shape, rules.max_length)
    tokens = torch.full(size, rules.pad, dtype=torch.long, device=device)
    return tokens, torch.ones(size, dtype=torch.bool, device=device), torch.ones(size, device=device)


def _starts(count: int, rules: Rules, state: Any) -> Tensor:
    return torch.full((count,), rules.start, dtype=torch.long, device=state.device)
