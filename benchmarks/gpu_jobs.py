"""What `gpu.py` trains and measures: a config for every system, data set and change of the recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, replace

from ablations import BASE, trainings

from diffuseq.baselines.configs import AutoregressiveGeneration, Gpt2Config
from diffuseq.config import Config
from diffuseq.recipes import recipe

TASKS = {
    "qqp": "qqp",
    "dialogue": "dialogue",
    "translation": "multi30k_de_en",
    "wiki-auto": "simplification",
    "quasar-t": "question_generation",
}
"""Recipe → its folder in DATA."""


@dataclass(frozen=True)
class Job:
    """A system to train and to measure. dials: measured over numbers of calls and of candidates as well;
    tested: --final scores its test set (what decides between settings never sees it). kept: its weights are worth
    keeping. members: an ensemble of the systems of these jobs instead, which is not trained.
    """

    name: str
    config: Config
    task: str = "qqp"
    dials: bool = False
    tested: bool = True
    kept: bool = False
    members: tuple[str, ...] = ()


def headline(minutes: float) -> list[Job]:
    """The recipe qqp."""
    return [Job("headline", _for_minutes(recipe("qqp"), minutes), dials=True, kept=True)]


def sizes(minutes: float) -> list[Job]:
    """The recipe with larger networks."""
    return [
        Job("large", _for_minutes(recipe("qqp-large"), minutes), dials=True, kept=True),
        Job("base", _for_minutes(recipe("qqp-base"), minutes)),
    ]


def baselines(minutes: float) -> list[Job]:
    """Every baseline that needs no pretrained weights, on the same data for equal minutes."""
    names = ("transformer-medium", "transformer", "gru", "levt", "cmlm")
    configs = {name: recipe(name) for name in names}
    configs["gpt2-from-scratch"] = replace(configs["transformer"], system=Gpt2Config(weights="random"))
    return [
        Job(
            name,
            replace(timed, training=replace(timed.training, both_directions=True)),
            kept=name == "transformer-medium",
        )
        for name, timed in ((name, _for_minutes(config, minutes)) for name, config in configs.items())
    ]


def taught(minutes: float) -> list[Job]:
    """The headline model, going on with itself and the Transformer of its size as teachers (jobs by name)."""
    config = _for_minutes(recipe("qqp"), minutes)
    training = replace(
        config.training,
        start_from="headline",
        teachers=("headline", "transformer-medium"),
        learning_rate=1e-3,
    )
    system = replace(config.system, dropout=0.1)  # their doubts hold overfitting back
    return [Job("taught", replace(config, system=system, training=training), dials=True, kept=True)]


def again(minutes: float) -> list[Job]:
    """The headline model from another seed, for an ensemble."""
    config = _for_minutes(recipe("qqp"), minutes)
    return [Job("again", replace(config, training=replace(config.training, seed=1)), kept=True)]


def ensembles(minutes: float) -> list[Job]:
    """Systems of the other phases that draw every word together."""
    config = _for_minutes(recipe("qqp"), minutes)
    members = {
        "twice": ("headline", "again"),
        "with-large": ("headline", "large"),
        "with-transformer": ("headline", "transformer-medium"),
    }
    return [Job(f"ensemble-{name}", config, dials=True, members=jobs) for name, jobs in members.items()]


def ablations(minutes: float) -> list[Job]:
    """The recipe as it is, and with one thing changed at a time, for equal minutes."""
    base = _for_minutes(recipe("qqp"), minutes)
    configs = {BASE: base, **trainings(base)}
    return [Job(f"ablation-{name}", config, tested=False) for name, config in configs.items()]


def tasks(minutes: float) -> list[Job]:
    """The other data sets, each with its recipe."""
    return [Job(f"task-{name}", _for_minutes(recipe(name), minutes), name) for name in TASKS if name != "qqp"]


JOBS: dict[str, tuple[Callable[[float], list[Job]], float]] = {
    "headline": (headline, 2.0),
    "sizes": (sizes, 6.5),
    "baselines": (baselines, 2.0),
    "taught": (taught, 2.0),
    "again": (again, 2.0),
    "ensembles": (ensembles, 2.0),
    "ablations": (ablations, 2.0),
    "tasks": (tasks, 4.0),
}
"""Phase → its jobs, and the minutes of training that each of them gets."""
PHASES = ("headline", "sizes", "baselines", "taught", "again", "ensembles", "ablations", "speed", "tasks")


def _for_minutes(config: Config, minutes: float) -> Config:
    """Trained by time; the curve is measured here, from the checkpoints, so that its minutes do not count."""
    training = replace(
        config.training,
        minutes=minutes,
        epochs=None,
        evaluate_rows=0,
        evaluate_every=2000,
        save_every=2000,
        log_every=100,
    )
    return replace(config, training=training)


def shrink(job: Job) -> Job:
    """The same job at a size that takes a second."""
    small = {
        "layers": 1, "encoder_layers": 1, "decoder_layers": 1, "heads": 2, "width": 32, "feed_forward": 64,
        "embedding_width": 16, "hidden": 32, "max_length": 64,
    }  # fmt: skip
    system = job.config.system
    sizes = {f.name: small[f.name] for f in dataclasses.fields(system) if f.name in small}
    training = replace(
        job.config.training, minutes=None, steps=4, batch_size=8, save_every=2, evaluate_every=4,
        log_every=2, compile=False,
    )  # fmt: skip
    text = replace(job.config.text, vocab_size=600, max_source=32, max_target=32)
    generation = replace(job.config.generation, batch_size=8)
    if isinstance(generation, AutoregressiveGeneration):
        generation = replace(generation, max_length=12)
    return replace(job, config=Config(replace(system, **sizes), text, training, generation))
