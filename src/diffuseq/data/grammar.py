"""A corpus that we make ourselves: English questions, each in several wordings, with an exact verdict.

    grammar = Grammar()
    pair = grammar.pair(random.Random(0))                  # two wordings of one meaning
    grammar.verdict(pair.source, pair.target).valid        # True: it means the same, in other words
    write_corpus("data/demo")                              # train.jsonl, valid.jsonl, test.jsonl

Whole combinations of fillers are held out: a meaning of valid or test never occurs in train, though each
of its words does. So a good answer there is composed, not remembered. The grammar reads every sentence of
its language back, and therefore decides without a reference whether an answer is right.
"""

from __future__ import annotations

import itertools
import json
import random
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from diffuseq.data.grammar_words import INTENTS, VERBS, Intent, Slots
from diffuseq.errors import InputError

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")
HELD_OUT_PERCENT = 8
"""Share of all meanings that is kept for valid, and the same again for test."""

_SLOT = re.compile(r"\{(\w+)(?:\.(\w+))?\}")
_PUNCTUATION = re.compile(r"\s*([?,])\s*")


@dataclass(frozen=True)
class Meaning:
    """What a question asks: an intent and the fillers of its slots, in the order of the intent's slots.

    Two meanings are equal when intent and fillers are; `wording` (the index of the wording it was read
    from) and `swapped` (whether interchangeable fillers stood in the other order) do not count.
    """

    intent: str
    fillers: tuple[str, ...]
    wording: int = field(default=0, compare=False)
    swapped: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class Pair:
    """A question, and the same question in another wording."""

    source: str
    target: str


@dataclass(frozen=True)
class Verdict:
    """Whether an answer means the same as its source, and whether it is another wording."""

    same_meaning: bool
    worded_differently: bool

    @property
    def valid(self) -> bool:
        return self.same_meaning and self.worded_differently


class Grammar:
    """The language of the built-in corpus: makes questions, reads them, and judges paraphrases."""

    def __init__(self, intents: Sequence[Intent] = INTENTS) -> None:
        self.intents = {intent.name: intent for intent in intents}
        self._patterns = [
            (intent, index, _pattern(wording, slots))
            for intent in intents
            for slots in intent.domains
            for index, wording in enumerate(intent.wordings)
        ]

    @cached_property
    def meanings(self) -> dict[Split, dict[str, list[Meaning]]]:
        """All meanings there are: split → intent → meanings, always in the same order."""
        found: dict[Split, dict[str, list[Meaning]]] = {
            s: {name: [] for name in self.intents} for s in SPLITS
        }
        for intent in self.intents.values():
            for meaning in _enumerate(intent):
                found[split_of(meaning)][intent.name].append(meaning)
        return found

    def pair(self, rng: random.Random, split: Split = "train") -> Pair:
        """Two wordings of a meaning of the split; every intent is equally likely."""
        meaning = rng.choice(self.meanings[split][rng.choice(list(self.intents))])
        return self._pair_of(meaning, rng)

    def wordings(self, meaning: Meaning) -> list[str]:
        """All ways to ask it, by wording index; interchangeable fillers stand as `meaning.swapped` says."""
        return [self._word(meaning, index) for index in range(len(self.intents[meaning.intent].wordings))]

    def parse(self, text: str) -> Meaning | None:
        """What the text asks, or None if it is no sentence of the language. Case and spacing are free."""
        spaced = _space(text)
        for intent, wording, pattern in self._patterns:
            if found := pattern.fullmatch(spaced):
                meaning = _read(intent, wording, found.groupdict())
                if meaning is not None:
                    return meaning
        return None

    def verdict(self, source: str, output: str) -> Verdict:
        """Judge an answer to a source. Raises `InputError` if the source is no sentence of the language."""
        asked = self.parse(source)
        if asked is None:
            raise InputError(
                f"{source!r} is no question of the built-in grammar, so answers cannot be judged."
            )
        answer = self.parse(output)
        if answer is None:
            return Verdict(same_meaning=False, worded_differently=_space(output) != _space(source))
        return Verdict(
            same_meaning=answer == asked,
            worded_differently=(answer.intent, answer.wording) != (asked.intent, asked.wording),
        )

    def score_answers(
        self, sources: Sequence[str], candidates: Sequence[Sequence[str]], chosen: Sequence[str] | None = None
    ) -> dict[str, float]:
        """Judge candidates[i] as answers to sources[i]; `chosen` is the first candidate unless given.

        Returns means over the sources: `valid` (of the chosen answer), `valid_candidates` (share of all
        candidates), `distinct_valid` (different valid wordings among the candidates) and `coverage` (the same
        as a share of the wordings that a source has besides its own). Raises `InputError` when the lists are
        empty or differ in length.
        """
        chosen = [answers[0] if answers else "" for answers in candidates] if chosen is None else chosen
        if not len(sources) == len(candidates) == len(chosen):
            raise InputError(
                f"There are {len(sources)} sources, {len(candidates)} lists of candidates and {len(chosen)} "
                "chosen answers; give one of each for every source."
            )
        if not sources:
            raise InputError("There are no answers to judge; give at least one source.")
        valid, valid_candidates, distinct, coverage = 0, 0, 0, 0.0
        for source, answers, choice in zip(sources, candidates, chosen, strict=True):
            valid += self.verdict(source, choice).valid
            right = [answer for answer in answers if self.verdict(source, answer).valid]
            asked, *read = [self.parse(text) for text in (source, *right)]
            wordings = {meaning.wording for meaning in read if meaning is not None}
            valid_candidates += len(right)
            distinct += len(wordings)
            coverage += len(wordings) / (len(self.intents[asked.intent].wordings) - 1) if asked else 0.0
        return {
            "valid": valid / len(sources),
            "valid_candidates": valid_candidates / max(1, sum(map(len, candidates))),
            "distinct_valid": distinct / len(sources),
            "coverage": coverage / len(sources),
        }

    def _pair_of(self, meaning: Meaning, rng: random.Random) -> Pair:
        if self.intents[meaning.intent].symmetric:
            meaning = replace(meaning, swapped=rng.random() < 0.5)
        source, target = rng.sample(range(len(self.intents[meaning.intent].wordings)), 2)
        return Pair(self._word(meaning, source), self._word(meaning, target))

    def _word(self, meaning: Meaning, wording: int) -> str:
        intent = self.intents[meaning.intent]
        values = dict(zip(intent.domains[0], meaning.fillers, strict=True))
        if meaning.swapped:
            values["a"], values["b"] = values["b"], values["a"]
        return _SLOT.sub(lambda slot: _inflect(values[slot[1]], slot[2]), intent.wordings[wording])


def split_of(meaning: Meaning) -> Split:
    """The split that a meaning belongs to, decided by a hash of its intent and fillers alone."""
    bucket = zlib.crc32("|".join((meaning.intent, *meaning.fillers)).encode()) % 100
    return "test" if bucket < HELD_OUT_PERCENT else "valid" if bucket < 2 * HELD_OUT_PERCENT else "train"


def build_corpus(
    num_train: int = 100_000, num_valid: int = 1_000, num_test: int = 1_000, seed: int = 0
) -> dict[Split, list[dict[str, Any]]]:
    """Rows {"src", "trg"} for train; valid and test have one row a meaning and all right answers as "refs".

    Train holds no row twice. From about 10,000 rows on it holds every word of the grammar.
    Raises `InputError` if a number is negative or more rows are asked for than there are.
    """
    grammar = Grammar()
    rng = random.Random(seed)
    return {
        "train": _training_rows(grammar, num_train, rng),
        "valid": _held_out_rows(grammar, "valid", num_valid, rng),
        "test": _held_out_rows(grammar, "test", num_test, rng),
    }


def write_corpus(
    folder: str | Path,
    num_train: int = 100_000,
    num_valid: int = 1_000,
    num_test: int = 1_000,
    seed: int = 0,
) -> Path:
    """Write train.jsonl, valid.jsonl and test.jsonl of `build_corpus` into the folder, which is returned."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in build_corpus(num_train, num_valid, num_test, seed).items():
        with open(folder / f"{split}.jsonl", "w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return folder


def _training_rows(grammar: Grammar, count: int, rng: random.Random) -> list[dict[str, Any]]:
    most = sum(
        len(meanings) * (n := len(grammar.intents[name].wordings)) * (n - 1)
        for name, meanings in grammar.meanings["train"].items()
    )
    # Intents are equally likely, so the last pairs of the large ones would take long to come up.
    _check_count("train", count, most // 2)
    pairs: dict[Pair, None] = {}
    while len(pairs) < count:
        pairs[grammar.pair(rng)] = None
    return [{"src": pair.source, "trg": pair.target} for pair in pairs]


def _held_out_rows(grammar: Grammar, split: Split, count: int, rng: random.Random) -> list[dict[str, Any]]:
    by_intent = grammar.meanings[split].values()
    _check_count(split, count, sum(map(len, by_intent)))
    shuffled = [rng.sample(meanings, len(meanings)) for meanings in by_intent]
    turns = (meaning for turn in itertools.zip_longest(*shuffled) for meaning in turn if meaning is not None)
    rows = []
    for meaning in itertools.islice(turns, count):
        pair = grammar._pair_of(meaning, rng)
        read = grammar.parse(pair.source)
        answers = [
            text for text in grammar.wordings(read or meaning) if text not in (pair.source, pair.target)
        ]
        rows.append({"src": pair.source, "trg": pair.target, "refs": [pair.target, *answers]})
    return rows


def _check_count(split: Split, count: int, most: int) -> None:
    if not 0 <= count <= most:
        raise InputError(f"{count} rows of {split} were asked for; the built-in grammar gives 0 to {most}.")


def _enumerate(intent: Intent) -> Iterator[Meaning]:
    """All meanings of an intent, each once."""
    for slots in intent.domains:
        for values in itertools.product(*slots.values()):
            meaning = _read(intent, 0, dict(zip(slots, values, strict=True)))
            if meaning is not None and not meaning.swapped:
                yield meaning


def _read(intent: Intent, wording: int, values: Mapping[str, str]) -> Meaning | None:
    """The meaning of a wording with these (uninflected or inflected) fillers; None if a and b are one."""
    found = {_slot_name(name): _base(value, _slot_form(name)) for name, value in values.items()}
    swapped = False
    if "a" in found:
        if found["a"] == found["b"]:
            return None
        if intent.symmetric and found["a"] > found["b"]:
            found["a"], found["b"], swapped = found["b"], found["a"], True
    return Meaning(intent.name, tuple(found[slot] for slot in intent.domains[0]), wording, swapped)


def _pattern(wording: str, slots: Slots) -> re.Pattern[str]:
    """A regular expression that matches the wording with any fillers; groups are named slot or slot__form."""
    parts, end = [], 0
    spaced = _space(wording)
    for slot in _SLOT.finditer(spaced):
        name, form = slot[1], slot[2]
        fillers = "|".join(re.escape(_inflect(filler, form)) for filler in slots[name])
        parts += [
            re.escape(spaced[end : slot.start()]),
            f"(?P<{name}{'__' + form if form else ''}>{fillers})",
        ]
        end = slot.end()
    return re.compile("".join([*parts, re.escape(spaced[end:])]))


def _slot_name(group: str) -> str:
    return group.partition("__")[0]


def _slot_form(group: str) -> str | None:
    return group.partition("__")[2] or None


def _inflect(filler: str, form: str | None) -> str:
    """The filler with its first word in the verb form asked for."""
    if form is None:
        return filler
    verb, space, rest = filler.partition(" ")
    return VERBS[verb][form] + space + rest


def _base(filler: str, form: str | None) -> str:
    """Undo `_inflect`."""
    if form is None:
        return filler
    verb, space, rest = filler.partition(" ")
    return _BASES[verb] + space + rest


_BASES = {inflected: base for base, forms in VERBS.items() for inflected in forms.values()}


def _space(text: str) -> str:
    """Lower case, one space between words and around punctuation, none at the ends."""
    return " ".join(_PUNCTUATION.sub(r" \1 ", text.lower()).split())
