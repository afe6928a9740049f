"""Configs are strict both ways, and every recipe is a config that survives the trip through JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from diffuseq.config import Config, DiffusionGeneration, TrainingConfig
from diffuseq.errors import InputError
from diffuseq.plain import from_dict, to_dict
from diffuseq.recipes import RECIPES, recipe
from diffuseq.registry import SYSTEMS, config_from_dict


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_comes_back_from_json(name: str) -> None:
    config = recipe(name)
    assert config_from_dict(json.loads(json.dumps(to_dict(config)))) == config
    assert RECIPES[name].__doc__


def test_an_unknown_recipe_suggests_the_right_one() -> None:
    with pytest.raises(InputError, match="Did you mean 'qqp-paper'"):
        recipe("qqp-papr")


def test_an_unknown_key_is_refused_and_the_nearest_is_named() -> None:
    with pytest.raises(InputError, match="Did you mean 'batch_size'"):
        from_dict(TrainingConfig, {"batchsize": 3})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("batch_size", "many"),
        ("batch_size", 2.5),
        ("batch_size", True),
        ("optimizer", "sgd"),
        ("betas", [0.9]),
        ("compile", 1),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(InputError, match=key):
        from_dict(TrainingConfig, {key: value})


def test_paths_and_numbers_of_numpy_become_plain() -> None:
    config = TrainingConfig(
        steps=np.int64(7),  # type: ignore[arg-type]
        ema=np.float32(0.5),  # type: ignore[arg-type]
        start_from=Path("runs") / "mine",  # type: ignore[arg-type]
        teachers=(Path("runs") / "other",),  # type: ignore[arg-type]
    )
    plain = json.loads(json.dumps(to_dict(config)))
    assert from_dict(TrainingConfig, plain) == TrainingConfig(
        steps=7, ema=0.5, start_from="runs/mine", teachers=("runs/other",)
    )
    assert to_dict(TrainingConfig(ema=True))["ema"] is True  # type: ignore[arg-type]


def test_whole_numbers_serve_as_floats_and_none_where_it_is_allowed() -> None:
    assert from_dict(TrainingConfig, {"clip": None, "ema": 0}).ema == 0.0


@pytest.mark.parametrize(
    "values", [{}, {"system": 3}, {"system": {"kind": "none"}}, {"system": {"kind": "gru"}, "extra": 1}]
)
def test_a_damaged_config_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(InputError):
        config_from_dict(values)


@pytest.mark.parametrize("kind", SYSTEMS)
def test_every_kind_of_system_has_its_config_and_code(kind: str) -> None:
    entry = SYSTEMS[kind]
    assert entry.config().kind == kind
    assert {"candidates", "seed", "batch_size"} <= set(entry.generation.__dataclass_fields__)


def test_a_config_is_equal_to_its_copy_and_frozen() -> None:
    config = Config(system=SYSTEMS["diffuseq"].config(), generation=DiffusionGeneration(steps=3))
    assert config_from_dict(to_dict(config)) == config
    with pytest.raises(AttributeError):
        config.generation.steps = 4  # type: ignore[misc]
