"""Which systems there are: kind → its config, its generation settings, and where its class stands.

A plain table. Classes are imported when they are built, so that a command that needs only the names or
the configs costs no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from diffuseq.baselines import configs as baseline
from diffuseq.checks import check_system
from diffuseq.config import (
    Config,
    DiffuSeqConfig,
    DiffusionGeneration,
    EnsembleConfig,
    PublishedConfig,
    TextConfig,
    TrainingConfig,
)
from diffuseq.errors import InputError, unknown_name
from diffuseq.plain import from_dict, to_dict

if TYPE_CHECKING:
    from diffuseq.system import SpecialTokens, System


@dataclass(frozen=True)
class Entry:
    """A kind of system: the dataclasses of its config and generation, and "module:class" of its code."""

    config: type
    generation: type
    code: str


SYSTEMS: dict[str, Entry] = {
    "diffuseq": Entry(DiffuSeqConfig, DiffusionGeneration, "diffuseq.systems.diffuseq:DiffuSeq"),
    "ensemble": Entry(EnsembleConfig, DiffusionGeneration, "diffuseq.systems.ensemble:Ensemble"),
    "published": Entry(PublishedConfig, DiffusionGeneration, "diffuseq.systems.published:PublishedDiffuSeq"),
    "transformer": Entry(
        baseline.TransformerConfig,
        baseline.AutoregressiveGeneration,
        "diffuseq.baselines.transformer:Transformer",
    ),
    "gru": Entry(baseline.GruConfig, baseline.AutoregressiveGeneration, "diffuseq.baselines.gru:Gru"),
    "gpt2": Entry(baseline.Gpt2Config, baseline.AutoregressiveGeneration, "diffuseq.baselines.gpt2:Gpt2"),
    "gpvae-t5": Entry(
        baseline.GpvaeT5Config, baseline.AutoregressiveGeneration, "diffuseq.baselines.gpvae_t5:GpvaeT5"
    ),
    "levt": Entry(baseline.LevTConfig, baseline.IterativeGeneration, "diffuseq.baselines.levt:LevT"),
    "cmlm": Entry(baseline.CMLMConfig, baseline.IterativeGeneration, "diffuseq.baselines.cmlm:CMLM"),
    "diffusion-lm": Entry(
        baseline.DiffusionLMConfig, baseline.GuidedGeneration, "diffuseq.baselines.diffusion_lm:DiffusionLM"
    ),
}


def entry(kind: str) -> Entry:
    if kind not in SYSTEMS:
        raise unknown_name("kind of system", kind, SYSTEMS)
    return SYSTEMS[kind]


def check_generation_kind(config: Config) -> None:
    """Raise `InputError` for generation settings of another kind of system."""
    kind, given = config.system.kind, type(config.generation).__name__
    expected = entry(kind).generation
    if not isinstance(config.generation, expected):
        raise InputError(
            f"generation is a {given}, but a {kind} generates by a {expected.__name__}; give "
            f"Config(…, generation={expected.__name__}())."
        )


def checked_config(config: Any) -> Config:
    """The config as a model folder will give it back, so that a value of another type is found before it is trained
    with. Raises `InputError` for what is no config, for a system that cannot be, and as `config_from_dict` does."""
    if not isinstance(config, Config) or not hasattr(config.system, "kind"):
        what = type(config.system if isinstance(config, Config) else config).__name__
        raise InputError(
            f"The config is of the type {what}; give a Config, such as diffuseq.recipe('tiny') makes."
        )
    check_system(_system_from_dict(to_dict(config.system), "system"))
    check_generation_kind(config)
    return config_from_dict(to_dict(config))


def build(config: Any, special: SpecialTokens) -> System:
    """The system of a system config, with fresh weights. Raises `InputError` for sizes that make no sense."""
    check_system(config)
    module, name = entry(config.kind).code.split(":")
    system: System = getattr(import_module(module), name)(config, special)
    return system


def config_from_dict(values: dict[str, Any]) -> Config:
    """A whole run's config from config.json; the system's `kind` decides the dataclasses. Strict: unknown
    keys and values of another type raise `InputError`."""
    if not isinstance(values, dict):
        raise InputError(f"The config is {type(values).__name__}; it must be an object with keys.")
    unknown = set(values) - {"system", "text", "training", "generation"}
    if unknown:
        raise unknown_name("key in the config", min(unknown), ("system", "text", "training", "generation"))
    system = _system_from_dict(values.get("system"), "system")
    return Config(
        system=system,
        text=from_dict(TextConfig, values.get("text", {}), "text"),
        training=from_dict(TrainingConfig, values.get("training", {}), "training"),
        generation=from_dict(entry(system.kind).generation, values.get("generation", {}), "generation"),
    )


def _system_from_dict(values: Any, where: str) -> Any:
    """The config of a system by its `kind`, with those of its members where it has any."""
    if not isinstance(values, dict) or not isinstance(values.get("kind"), str):
        raise InputError(f"The config has no {where}.kind; give one of: {', '.join(sorted(SYSTEMS))}.")
    config: Any = from_dict(entry(values["kind"]).config, values, where)
    if not isinstance(config, EnsembleConfig):
        return config
    members = enumerate(config.members)
    return replace(
        config, members=tuple(_system_from_dict(each, f"{where}.members[{i}]") for i, each in members)
    )
