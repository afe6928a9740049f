"""Training for a budget of processor seconds, so that a busy machine changes nothing between systems."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import torch

from diffuseq.config import Config
from diffuseq.pipeline import DiffuSeqPipeline
from diffuseq.registry import build
from diffuseq.training.corpus import Corpus
from diffuseq.training.loop import Progress, prepare, train_steps

Look = Callable[[DiffuSeqPipeline, Progress], None]
"""Told the averaged weights as a pipeline, and how far the training is."""


def train_for(
    config: Config, corpus: Corpus, cpu_seconds: float, looks: int = 0, look: Look | None = None
) -> tuple[DiffuSeqPipeline, Progress]:
    """Train for so much processor time: warm-up and decay of the learning rate go by it as well.

    Computes in bf16 where `config.training.precision` says so; "auto" finds out whether it is faster here.
    look: called at `looks` evenly spread moments, the end included; its own time does not count.
    """
    torch.manual_seed(config.training.seed)
    system = build(config.system, corpus.tokenizer.special)
    settings = replace(config.training, minutes=cpu_seconds / 60)
    config = replace(config, training=settings)
    training = prepare(system, settings)
    pipe = DiffuSeqPipeline(system, corpus.tokenizer, config)
    elsewhere, looked = time.process_time(), 0
    for _ in train_steps(training, corpus.training_data(settings)):
        training.progress.seconds = time.process_time() - elsewhere
        if look is not None and training.done * looks >= looked + 1:
            looked, began = int(training.done * looks), time.process_time()
            with training.average.in_place():
                look(pipe, training.progress)
            elsewhere += time.process_time() - began
    training.average.take()
    system.eval()
    return pipe, training.progress
