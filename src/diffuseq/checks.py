"""Which settings make sense: sizes that a network can have, numbers in their range, choices that go together.

The types are checked where a config is read (`diffuseq.plain`); these are the limits.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Iterable
from typing import Any, get_args, get_type_hints

from diffuseq.config import (
    WORD_BY_WORD,
    Config,
    DiffuSeqConfig,
    DiffusionGeneration,
    EnsembleConfig,
    PublishedConfig,
    TextConfig,
)
from diffuseq.errors import InputError, unknown_name
from diffuseq.plain import from_dict, to_dict

_WHOLE_NUMBERS = {
    "candidates": (1, 1000),
    "steps": (1, 10_000),
    "length": (1, 10_000),
    "max_length": (1, 10_000),
    "length_beam": (1, 1000),
    "batch_size": (1, 1_000_000),
    "beams": (1, 1000),
    "beam_groups": (1, 1000),
    "updates": (0, 1000),
}
"""Generation settings of any system that count something: from, to."""
_NUMBERS = {
    "temperature": (0.0, 100.0),
    "churn": (0.0, 1.0),
    "order_noise": (0.0, 100.0),
    "sure_enough": (0.0, 1.0),
    "likelihood_weight": (0.0, 1000.0),
    "source_weight": (0.0, 1000.0),
    "length_penalty": (-10.0, 10.0),
    "diversity": (0.0, 1000.0),
    "eta": (0.0, 1.0),
    "guidance": (0.0, 100.0),
    "update_rate": (0.0, 1000.0),
    "fluency": (0.0, 1e6),
    "clamp_from": (0.0, 0.999),
    "truncate": (1e-3, 100.0),
}
"""Generation settings of any system that measure something: from, to."""
COLDEST = 1e-6
"""The lowest temperature but 0, which takes the likeliest word as well: numbers divided by much less overflow."""


_SHARES = {
    *("dropout", "label_smoothing", "source_dropout", "word_dropout", "wrong_words", "absorb_rate"),
    *("token_wise", "left_to_right", "look_ahead", "length_first", "self_condition", "pretrained_rate"),
    *("from_empty", "roll_in_noise"),
}
"""Settings of any system that are a share: from 0 to 1."""
_LEAST = {"time_width": 2}
"""Sizes of any system that cannot be 1: a time is a cosine and a sine at least."""
_MOST_LAYERS, _MOST_MEMBERS, _LARGEST_SIZE, _LARGEST_NUMBER = 1000, 100, 1_000_000, 1e6


def check_system(config: Any, where: str = "system") -> None:
    """Raise `InputError` for sizes of a system, of whatever kind, that no network can have, and for settings that
    do not go together."""
    for entry in dataclasses.fields(config):
        name, value = f"{where}.{entry.name}", getattr(config, entry.name)
        if dataclasses.is_dataclass(value):
            check_system(value, name)
        elif isinstance(value, int) and not isinstance(value, bool) and "float" not in str(entry.type):
            least = _LEAST.get(entry.name, 0 if entry.default == 0 else 1)
            most = _MOST_LAYERS if "layers" in entry.name else _LARGEST_SIZE
            if not least <= value <= most:
                raise InputError(f"{name} is {value}; give a whole number from {least} to {most:,}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            low, high = (0.0, 1.0) if entry.name in _SHARES else (-_LARGEST_NUMBER, _LARGEST_NUMBER)
            if not low <= value <= high:
                raise InputError(f"{name} is {value}; give a number from {low:g} to {high:g}.")
    for of in ("", "classifier_"):
        _check_heads(config, where, of)
    if isinstance(config, DiffuSeqConfig):
        _check_attention(config)
    if isinstance(config, EnsembleConfig):
        _check_members(config, where)


def _check_heads(config: Any, where: str, of: str) -> None:
    """A network's width is shared out evenly among its heads, and ours turn their numbers in pairs (rotary
    positions)."""
    width, heads = getattr(config, f"{of}width", None), getattr(config, f"{of}heads", None)
    if not width or not heads:
        return
    if width % heads:
        raise InputError(
            f"{where}.{of}width is {width}, which cannot be split into {heads} heads; choose a multiple of "
            f"{of}heads."
        )
    if isinstance(config, DiffuSeqConfig) and width // heads % 2:
        raise InputError(
            f"{where}.width is {width}, of which each of {heads} heads gets {width // heads}, an odd number; "
            f"choose a multiple of {2 * heads}, or another number of heads."
        )


def _check_members(config: EnsembleConfig, where: str) -> None:
    count = len(config.members)
    if not 1 <= count <= _MOST_MEMBERS:
        raise InputError(f"{where}.members has {count} systems; give 1 to {_MOST_MEMBERS}.")
    if config.weights and len(config.weights) != count:
        raise InputError(
            f"{where}.weights has {len(config.weights)} numbers for {count} members; give one for each, or none."
        )
    if config.models and len(config.models) != count:
        raise InputError(
            f"{where}.models has {len(config.models)} names for {count} members; give one for each, or none."
        )
    for weight in config.weights:
        if not isinstance(weight, numbers.Real) or not 0 < weight <= _LARGEST_NUMBER:
            raise InputError(f"{where}.weights has {weight!r}; give numbers above 0, to {_LARGEST_NUMBER:g}.")
    for index, member in enumerate(config.members):
        if isinstance(member, EnsembleConfig):
            raise InputError(f"{where}.members[{index}] is an ensemble; give its members instead.")
        check_system(member, f"{where}.members[{index}]")


def _check_attention(system: DiffuSeqConfig) -> None:
    """What a position would have to see all others for."""
    if system.attention == "settled" and (system.token_wise < 1 or system.self_condition > 0):
        raise InputError(
            f"system.token_wise is {system.token_wise:g} and system.self_condition {system.self_condition:g}, "
            'which need positions that see all others; set system.attention to "all", or leave them at 1 and 0.'
        )


def check_text(text: TextConfig) -> None:
    """Raise `InputError` for sizes of texts and vocabularies that make no sense."""
    for name in ("vocab_size", "max_source", "max_target"):
        value = getattr(text, name)
        if not 1 <= value <= _LARGEST_SIZE:
            raise InputError(f"text.{name} is {value}; give a whole number from 1 to {_LARGEST_SIZE:,}.")


def check_generation(settings: Any) -> None:
    """Raise `InputError` for generation settings, of whatever system, that make no sense."""
    hints = get_type_hints(type(settings))
    for name in (*_WHOLE_NUMBERS, *_NUMBERS):
        value = getattr(settings, name, None)
        if name not in hints or (value is None and type(None) in get_args(hints[name])):
            continue
        check_number(name, value)
    if isinstance(settings.seed, bool) or not isinstance(settings.seed, int):
        raise InputError(f"seed is {settings.seed!r}; give a whole number.")
    for name, value in to_dict(settings).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{name} is {value!r}; give a number that is finite.")
    from_dict(type(settings), to_dict(settings))  # the rest by their types
    if isinstance(settings, DiffusionGeneration):
        _check_sampler(settings)


def checked_whole(name: str, value: Any, least: int, most: int) -> int:
    """A whole number, also numpy's. Raises `InputError` for what is none, or one out of range."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not least <= int(value) <= most:
        raise InputError(f"{name} is {value!r}; give a whole number from {least:,} to {most:,}.")
    return int(value)


def check_number(name: str, value: Any) -> None:
    """Raise `InputError` if this is no value for a generation setting that counts or measures something."""
    whole = name in _WHOLE_NUMBERS
    least, most = _WHOLE_NUMBERS[name] if whole else _NUMBERS[name]
    kind = int if whole else float
    if isinstance(value, bool) or not isinstance(value, int | kind) or not least <= value <= most:
        what = "whole number" if whole else "number"
        raise InputError(f"{name} is {value!r}; give a {what} from {least:g} to {most:g}.")
    if name == "temperature" and 0 < value < COLDEST:
        raise InputError(
            f"temperature is {value!r}; give 0 (the likeliest word), or a number from {COLDEST:g} to {most:g}."
        )


_ONE_LEVEL: tuple[str, ...] = ("ddim", "ancestral", "dpm-solver")
_OF_CHOICE: dict[str, dict[str, tuple[str, ...]]] = {
    "sampler": {
        "grid": _ONE_LEVEL,
        "churn": ("ddim",),
        "order": ("dpm-solver",),
        "draft": ("fixed-point",),
        "length_beam": (*_ONE_LEVEL, "settle"),
        **dict.fromkeys(("repeats", "stratified"), WORD_BY_WORD),
        **dict.fromkeys(("rescore", "order_noise", "settle_first", "sure_enough", "cache"), ("settle",)),
    },
    "strategy": {
        **dict.fromkeys(("beams", "length_penalty"), ("beam", "diverse-beam")),
        **dict.fromkeys(("beam_groups", "diversity"), ("diverse-beam",)),
        **dict.fromkeys(("temperature", "top_k", "top_p", "stratified"), ("sample",)),
    },
}
"""Settings that do nothing but with these samplers, or strategies of autoregressive systems."""
_UNUSED = {"published": ("length_beam",), "levt": ("length_beam",)}
"""Settings that a kind of system shares with others and has no use for."""
REFUSED = {"levt": ("length",)}
"""Settings that a kind of system shares with others and takes no value for."""


def check_changes(system: Any, own: Any, settings: Any) -> None:
    """Raise `InputError` where settings differ from a model's `own` in one that does nothing: somebody asked for
    it. What a model has stored may be anything, for it may be meant for another sampler."""
    for name, why in idle(system, settings).items():
        value = getattr(settings, name)
        if not isinstance(value, int | float | str) or value != getattr(own, name):
            raise InputError(why)


def idle(system: Any, settings: Any) -> dict[str, str]:
    """Settings that do nothing as a system generates by them, and why."""
    found = {
        name: f"{name} does nothing for a {system.kind}; leave it out."
        for name in _UNUSED.get(system.kind, ())
    }
    for what, table in _OF_CHOICE.items():
        chosen: Any = getattr(settings, what, None)
        if chosen in get_args(get_type_hints(type(settings)).get(what)):
            found |= {
                name: _belongs(name, what, having, chosen)
                for name, having in table.items()
                if chosen not in having
            }
    return found


def check_training_changes(own: Config, asked: Config) -> None:
    """Raise `InputError` where settings of text and training differ from a recipe's `own` in one that does nothing:
    somebody asked for it."""
    training, text = asked.training, asked.text
    named = training.start_from if text.tokenizer is None else text.tokenizer
    idle_ones = (
        ("training", "muon_learning_rate", training.optimizer != "muon", "training.optimizer is not muon"),
        ("training", "teaching", not training.teachers, "there are no training.teachers"),
        (
            "training",
            "final_learning_rate",
            training.schedule not in ("linear", "cosine"),
            f"the training.schedule {training.schedule} has no end",
        ),
        *(
            ("text", name, named is not None, f"the tokenizer is that of {named}")
            for name in ("vocab_size", "algorithm")
        ),
    )
    for part, name, is_idle, why in idle_ones:
        value = getattr(getattr(asked, part), name)
        if is_idle and value != getattr(getattr(own, part), name):
            raise InputError(f"{part}.{name} is {value}, but does nothing, for {why}; leave it out.")


def _belongs(name: str, what: str, having: Iterable[str], chosen: str) -> str:
    names = " or ".join(map(repr, having))
    return (
        f"{name} belongs to the {what} {names}, but {chosen!r} is chosen; choose {names} or leave {name} out."
    )


def _check_sampler(settings: DiffusionGeneration) -> None:
    """Choices must be known, and what only one sampler has must come with it."""
    hints = get_type_hints(DiffusionGeneration)
    for name in ("sampler", "grid", "order", "settle_first"):
        if getattr(settings, name) not in get_args(hints[name]):
            raise unknown_name(name, str(getattr(settings, name)), map(str, get_args(hints[name])))
    for name, sampler, given in (
        ("eta", "ddim", settings.eta is not None),
        ("stochastic", "dpm-solver", settings.stochastic),
        ("published_v2", "dpm-solver", settings.published_v2),
    ):
        if given and settings.sampler != sampler:
            raise InputError(_belongs(name, "sampler", (sampler,), settings.sampler))


def check_fit(system: Any, settings: Any) -> None:
    """Raise `InputError` for generation that a system, as it is configured and so trained, cannot do."""
    if isinstance(system, DiffuSeqConfig):
        _check_ours(system, settings)
    elif isinstance(system, EnsembleConfig):
        _check_ensemble(system, settings)
    elif isinstance(system, PublishedConfig):
        _check_published(settings)


def _check_ensemble(ensemble: EnsembleConfig, settings: DiffusionGeneration) -> None:
    if settings.sampler != "fixed-point":
        raise InputError(
            f"An ensemble writes by the sampler fixed-point, but {settings.sampler} is chosen; choose fixed-point, "
            "or generate with one of its members."
        )
    if settings.guidance != 1:
        raise InputError(f"guidance is {settings.guidance}, but an ensemble has none; leave it at 1.")
    _check_ours(ensemble.members[0], settings)


def _check_ours(system: DiffuSeqConfig, settings: DiffusionGeneration) -> None:
    sampler, has_words = settings.sampler, settings.sampler in WORD_BY_WORD
    if settings.guidance != 1 and not system.source_dropout:
        raise InputError(
            f"guidance is {settings.guidance}, but this model has not learned to write without a source; "
            "leave it at 1, or train with --system.source-dropout 0.1."
        )
    if not has_words and system.token_wise == 1:
        raise InputError(
            f"The sampler {sampler} has one noise level for all tokens, and this model has token-wise noise alone; "
            "use settle, or train with --system.attention all --system.token-wise 0.5."
        )
    if sampler == "settle" and system.token_wise == 0:
        raise InputError(
            "The sampler settle needs token-wise noise, and this model has none; use ddim, or train with "
            "--system.token-wise 0.5."
        )
    if sampler == "fixed-point" and system.attention != "settled":
        raise InputError(
            "The sampler fixed-point reads from left to right, and this model has positions that see all others; "
            "use settle (in training --generation.sampler settle), or train with --system.attention settled."
        )
    if has_words and (settings.clamp_from is not None or settings.truncate is not None):
        raise InputError(
            "clamp_from and truncate are for ddim, ancestral and dpm-solver; settle and fixed-point have words "
            "anyway: leave them at none, or choose another sampler."
        )


def _check_published(settings: DiffusionGeneration) -> None:
    if settings.sampler in WORD_BY_WORD:
        raise InputError(
            f"The sampler {settings.sampler!r} needs a system trained with token-wise noise, as the published one "
            "is not; choose ancestral, ddim or dpm-solver."
        )
    for name in ("guidance", "temperature"):
        if getattr(settings, name) != 1.0:
            raise InputError(
                f"{name} is {getattr(settings, name)}, but the published system has none; leave it at 1."
            )
