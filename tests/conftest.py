"""What several rooms' tests share: a real pipeline at tiny size, untrained."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from diffuseq.config import Config, DiffuSeqConfig, DiffusionGeneration, TextConfig
from diffuseq.pipeline import DiffuSeqPipeline
from diffuseq.systems.diffuseq import DiffuSeq
from diffuseq.text.tokenizer import Tokenizer

_TEXTS = [
    "how do i learn to cook rice?",
    "what is the best way to learn python?",
    "why do people like music so much?",
    "where can we find good tea, coffee and bread?",
]


@pytest.fixture(scope="session")
def tiny_pipe() -> DiffuSeqPipeline:
    """Our DiffuSeq with a network of two layers, which every sampler may be asked for, and a vocabulary of four
    questions."""
    return _pipe(attention="all", token_wise=0.5)


@pytest.fixture(scope="session")
def ordered_pipe() -> DiffuSeqPipeline:
    """The same as the recipes have it: positions see what settled before them."""
    return _pipe()


def _pipe(**changes: Any) -> DiffuSeqPipeline:
    torch.manual_seed(0)
    tokenizer = Tokenizer.train(_TEXTS * 3, vocab_size=120)
    system = DiffuSeqConfig(
        encoder_layers=1,
        decoder_layers=1,
        heads=2,
        width=32,
        feed_forward=32,
        embedding_width=16,
        dropout=0.0,
        source_dropout=0.1,
        max_length=24,
        **changes,
    )
    generation = DiffusionGeneration(candidates=3, sampler="settle", steps=4, length_beam=2)
    config = Config(system=system, text=TextConfig(max_source=24, max_target=24), generation=generation)
    return DiffuSeqPipeline(DiffuSeq(system, tokenizer.special).eval(), tokenizer, config)


@pytest.fixture(scope="session")
def tiny_folder(tiny_pipe: DiffuSeqPipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a model folder."""
    folder = tmp_path_factory.mktemp("tiny")
    tiny_pipe.save_pretrained(folder)
    return folder


@pytest.fixture
def odd_folder(tmp_path: Path) -> Path:
    """A folder whose name is not UTF-8, as of an old archive."""
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system has names in UTF-8 alone")
    return folder


@pytest.fixture(scope="session", autouse=True)
def heeded_signals() -> None:
    """As in a terminal: who starts the tests in the background, or by nohup, has some signals ignored, also by
    every process that a test starts."""
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
