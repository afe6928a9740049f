"""Recipes of the other systems: at the size of their papers, and small ones for equal budgets on a CPU.

The small ones share tokenizer, batch, budget and (nearly) the number of parameters with `qqp-small`, each with the
optimiser that suits it better. What is as published and what is not stands in docs/baselines.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from diffuseq.baselines.configs import (
    AutoregressiveGeneration,
    CMLMConfig,
    DiffusionLMConfig,
    Gpt2Config,
    GpvaeT5Config,
    GruConfig,
    GuidedGeneration,
    IterativeGeneration,
    LevTConfig,
    TransformerConfig,
)
from diffuseq.config import Config, TextConfig, TrainingConfig

_BEAM = AutoregressiveGeneration(candidates=1, strategy="beam", beams=5)
_SAMPLE = AutoregressiveGeneration(candidates=10, strategy="sample", top_p=0.95)
_FAIRSEQ = TrainingConfig(
    batch_size=512, steps=30_000, learning_rate=5e-4, schedule="inverse-sqrt", warmup=0.13, weight_decay=1e-4
)
_FINE_TUNING = TrainingConfig(
    batch_size=64, steps=10_000, learning_rate=5e-5, schedule="linear", warmup=0.05, ema=0.0
)
_SMALL = TrainingConfig(
    batch_size=64,
    minutes=60,
    learning_rate=1e-3,
    warmup=0.05,
    both_directions=True,
    evaluate_every=2000,
    save_every=2000,
)
_SMALL_SIZES: dict[str, Any] = {
    "encoder_layers": 3,
    "decoder_layers": 3,
    "heads": 4,
    "width": 256,
    "feed_forward": 768,
    "dropout": 0.0,
    "norm": "pre",
    "max_length": 64,
}


def transformer() -> Config:
    """Transformer, base size (Vaswani et al., 2017)."""
    return Config(system=TransformerConfig(), training=_FAIRSEQ, generation=_BEAM)


def transformer_small() -> Config:
    """Transformer at the size and the budget of `qqp-small`."""
    return Config(system=TransformerConfig(**_SMALL_SIZES), training=_SMALL, generation=_BEAM)


def transformer_medium() -> Config:
    """Transformer at the size and the budget of `qqp`, for a GPU."""
    system = replace(transformer_small().system, heads=6, width=384, feed_forward=1536, dropout=0.3)
    training = TrainingConfig(
        batch_size=512,
        epochs=16,
        learning_rate=1.5e-3,
        warmup=0.05,
        weight_decay=0.05,
        both_directions=True,
        cuda_graphs=True,
    )
    return Config(system=system, training=training, generation=_BEAM)


def gru() -> Config:
    """GRU with attention; the paper gives no sizes, these are two layers of 512."""
    training = TrainingConfig(batch_size=256, steps=30_000, learning_rate=1e-3, warmup=0.02)
    return Config(system=GruConfig(), training=training, generation=_BEAM)


def gru_small() -> Config:
    """GRU with attention at the size and the budget of `qqp-small`."""
    system = GruConfig(layers=1, width=256, hidden=384, dropout=0.1)
    return Config(system=system, training=replace(_SMALL, learning_rate=2e-3), generation=_BEAM)


def gpt2_base() -> Config:
    """GPT-2 base (124 M), fine-tuned."""
    text = TextConfig(tokenizer="gpt2", lowercase=False)
    return Config(system=Gpt2Config(name="gpt2"), text=text, training=_FINE_TUNING, generation=_SAMPLE)


def gpt2_large() -> Config:
    """GPT-2 large (774 M), fine-tuned."""
    text = TextConfig(tokenizer="gpt2-large", lowercase=False)
    training = replace(_FINE_TUNING, accumulate=8, learning_rate=2e-5)
    return Config(system=Gpt2Config(name="gpt2-large"), text=text, training=training, generation=_SAMPLE)


def gpt2_scratch_small() -> Config:
    """GPT-2's network from random weights at `qqp-small`'s budget: not the paper's baseline."""
    system = Gpt2Config(weights="random", layers=5, heads=4, width=256, max_length=160, dropout=0.0)
    # Muon learns more from as many pairs here, and less in the encoder–decoder ones (docs/log.md)
    training = replace(_SMALL, optimizer="muon", learning_rate=1.5e-3)
    return Config(system=system, training=training, generation=_SAMPLE)


def gpvae_t5() -> Config:
    """GPVAE-T5 (Du et al., 2022) on T5 base, scalar 2."""
    text = TextConfig(tokenizer="t5-base", lowercase=False)
    generation = AutoregressiveGeneration(candidates=10, strategy="greedy")
    training = replace(_FINE_TUNING, learning_rate=1e-4)
    return Config(system=GpvaeT5Config(name="t5-base"), text=text, training=training, generation=generation)


def gpvae_t5_scratch_small() -> Config:
    """GPVAE-T5's network from random weights at `qqp-small`'s budget: not the paper's baseline."""
    system = GpvaeT5Config(
        weights="random", layers=3, heads=4, width=256, head_width=64, feed_forward=768, dropout=0.0
    )
    generation = AutoregressiveGeneration(candidates=10, strategy="greedy")
    return Config(system=system, training=_SMALL, generation=generation)


def levt() -> Config:
    """Levenshtein Transformer, base size (Gu et al., 2019)."""
    training = replace(_FAIRSEQ, steps=300_000, warmup=0.033, weight_decay=0.01)
    return Config(system=LevTConfig(), training=training, generation=IterativeGeneration(steps=9))


def levt_small() -> Config:
    """Levenshtein Transformer at the size and the budget of `qqp-small`."""
    system = LevTConfig(**_SMALL_SIZES, max_insertions=63, from_empty=0.3, roll_in_noise=0.2)
    return Config(system=system, training=_SMALL, generation=IterativeGeneration(steps=9))


def cmlm() -> Config:
    """CMLM with mask-predict, base size (Ghazvininejad et al., 2019)."""
    training = replace(_FAIRSEQ, steps=300_000, warmup=0.033, weight_decay=0.01)
    generation = IterativeGeneration(candidates=5, steps=10, length_beam=5)
    return Config(system=CMLMConfig(), training=training, generation=generation)


def cmlm_small() -> Config:
    """CMLM with mask-predict at the size and the budget of `qqp-small`."""
    generation = IterativeGeneration(candidates=5, steps=10, length_beam=5)
    return Config(system=CMLMConfig(**_SMALL_SIZES), training=_SMALL, generation=generation)


def diffusion_lm() -> Config:
    """Diffusion-LM with classifier guidance (Li et al., 2022)."""
    training = TrainingConfig(
        batch_size=64,
        steps=200_000,
        learning_rate=1e-4,
        schedule="linear",
        warmup=0.0,
        betas=(0.9, 0.999),
        ema=0.9999,
        precision="fp32",
    )
    text = TextConfig(max_source=62, max_target=62)
    return Config(system=DiffusionLMConfig(), text=text, training=training, generation=GuidedGeneration())


def diffusion_lm_small() -> Config:
    """Diffusion-LM with classifier guidance at the size and the budget of `qqp-small`."""
    system = DiffusionLMConfig(
        layers=6,
        heads=4,
        width=192,
        feed_forward=768,
        embedding_width=64,
        time_width=64,
        sequence_length=48,
        dropout=0.0,
        classifier_layers=2,
        classifier_heads=4,
        classifier_width=192,
        classifier_feed_forward=768,
    )
    text = TextConfig(max_source=46, max_target=46)
    generation = GuidedGeneration(candidates=3, steps=100, update_rate=0.3)
    training = replace(_SMALL, optimizer="muon")
    return Config(system=system, text=text, training=training, generation=generation)


BASELINES: dict[str, Callable[[], Config]] = {
    "transformer": transformer,
    "transformer-small": transformer_small,
    "transformer-medium": transformer_medium,
    "gru": gru,
    "gru-small": gru_small,
    "gpt2-base": gpt2_base,
    "gpt2-large": gpt2_large,
    "gpt2-scratch-small": gpt2_scratch_small,
    "gpvae-t5": gpvae_t5,
    "gpvae-t5-scratch-small": gpvae_t5_scratch_small,
    "levt": levt,
    "levt-small": levt_small,
    "cmlm": cmlm,
    "cmlm-small": cmlm_small,
    "diffusion-lm": diffusion_lm,
    "diffusion-lm-small": diffusion_lm_small,
}
