"""Every system opens from its folder under the guard against configs that ask for more than the weights hold."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from autoregressive_cases import CONFIGS
from test_micro_batches import SYSTEMS

from diffuseq.checkpoint import load_model, save_model
from diffuseq.config import Config
from diffuseq.registry import build, entry
from diffuseq.text.tokenizer import Tokenizer


@pytest.mark.parametrize("kind", SYSTEMS)
def test_a_system_of_which_the_words_are_the_most_opens(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diffuseq.checkpoint.ALWAYS_FINE", 0)
    tokenizer = Tokenizer.train([f"word{i} {i * i} and {chr(97 + i % 26)}{i}" for i in range(3000)], 3000)
    torch.manual_seed(0)
    system = build(SYSTEMS[kind], tokenizer.special)
    save_model(tmp_path, system, Config(system=SYSTEMS[kind], generation=entry(kind).generation()), tokenizer)
    opened, _, _ = load_model(tmp_path)
    for name, value in system.state_dict().items():
        assert torch.equal(opened.state_dict()[name], value), name


def test_all_kinds_are_tried() -> None:
    assert CONFIGS.keys() < SYSTEMS.keys()
