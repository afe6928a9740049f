"""Named recipes: Python functions that return the full config of a run.

    from diffuseq.recipes import recipe
    config = recipe("qqp")

Change any field on the command line (`diffuseq train qqp --training.minutes 30`) or with
`dataclasses.replace`. The fields are documented where they are defined (`diffuseq.config`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from diffuseq.baselines.recipes import BASELINES
from diffuseq.config import (
    Config,
    DiffuSeqConfig,
    DiffusionGeneration,
    PublishedConfig,
    TextConfig,
    TrainingConfig,
)
from diffuseq.errors import unknown_name

_GENERATION = DiffusionGeneration(
    candidates=10, likelihood_weight=0.1, sampler="fixed-point", steps=10, temperature=0.6
)
"""Ten calls a candidate, in which most answers come to rest."""
_PARAPHRASE = replace(_GENERATION, likelihood_weight=0.05, source_weight=0.5, copies=False, draft="source")
"""The question itself is no answer, and what is nearly it not much of one; but many of its words are."""


def tiny() -> Config:
    """The built-in corpus in two or three minutes of a laptop's CPU.

    Not as the other recipes: every word of its grammar depends on those before it, and answers are longer than ten
    words, so that by fixed-point few come to rest in ten calls. Settle with lengths that are known beforehand does.
    """
    return Config(
        system=DiffuSeqConfig(
            encoder_layers=2,
            decoder_layers=3,
            heads=4,
            width=128,
            feed_forward=256,
            embedding_width=64,
            dropout=0.0,
            left_to_right=0.5,
            length_first=1.0,
            max_length=32,
        ),
        text=TextConfig(vocab_size=1536, max_source=32, max_target=32),
        training=TrainingConfig(
            batch_size=32,
            minutes=2.5,
            learning_rate=3e-3,
            warmup=0.05,
            ema=0.99,
            evaluate_every=100_000,
            evaluate_rows=20,
            save_every=100_000,
        ),
        generation=DiffusionGeneration(
            candidates=4,
            likelihood_weight=1.0,
            copies=False,
            sampler="settle",
            steps=10,
            temperature=0.5,
            settle_first="leftmost",
            length_beam=8,
        ),
    )


def qqp() -> Config:
    """Paraphrase (QQP), two minutes of an H100; symmetric, so both directions are trained.

    Sixteen times through both directions: likelihood would go on improving, but answers move away from the
    references (docs/log.md). So often seen, pairs are learned by heart unless something holds that back: dropout,
    smoothing and words that are wrong on purpose.
    """
    return Config(
        system=DiffuSeqConfig(
            encoder_layers=5,
            decoder_layers=3,
            heads=6,
            width=384,
            feed_forward=768,
            dropout=0.25,
            left_to_right=0.9,
            label_smoothing=0.1,
            wrong_words=0.15,
        ),
        training=TrainingConfig(
            batch_size=512,
            epochs=16,
            learning_rate=2e-3,
            warmup=0.03,
            weight_decay=0.05,
            both_directions=True,
            cuda_graphs=True,
        ),
        # surer than `qqp-small`, so that a little more chance makes better candidates (docs/log.md)
        generation=replace(_PARAPHRASE, temperature=0.65, likelihood_weight=0.2, source_weight=0.6),
    )


def qqp_large() -> Config:
    """As `qqp`, twice the size and for longer (6.5 minutes of an H100): its answers are further from the question,
    and with those of `qqp` they make better ones (docs/results.md)."""
    config = qqp()
    system = replace(config.system, heads=8, width=512, feed_forward=1280, dropout=0.3)
    training = replace(config.training, batch_size=1024, epochs=60, learning_rate=1.5e-3)
    generation = replace(config.generation, likelihood_weight=0.1, source_weight=0.0)
    return replace(config, system=system, training=training, generation=generation)


def qqp_base() -> Config:
    """As `qqp`, at the size of the published network (12 layers of 768)."""
    config = qqp()
    return replace(
        config,
        system=replace(
            config.system, encoder_layers=9, decoder_layers=3, heads=12, width=768, feed_forward=2048
        ),
        training=replace(config.training, batch_size=1024, learning_rate=1e-3),
    )


def qqp_small() -> Config:
    """Paraphrase (QQP), sized for an hour of a laptop's CPU."""
    return Config(
        system=DiffuSeqConfig(
            encoder_layers=4,
            decoder_layers=2,
            heads=4,
            width=256,
            feed_forward=512,
            dropout=0.0,
            max_length=64,
        ),
        training=TrainingConfig(
            batch_size=64,
            minutes=60,
            learning_rate=3e-3,
            both_directions=True,
            ema=0.999,
            evaluate_every=2000,
            save_every=2000,
        ),
        generation=_PARAPHRASE,
    )


def qqp_pretrained() -> Config:
    """As `qqp`, with BERT-base to read the source: a row of its own in every table, since it has seen more text."""
    config, name = qqp(), "google-bert/bert-base-uncased"
    return replace(
        config,
        system=replace(config.system, pretrained=name),
        text=replace(config.text, tokenizer=name),
    )


def wiki_auto() -> Config:
    """Simplification (Wiki-Auto): longer sentences, of whose words most stay; the sentence itself is no answer."""
    config = _task(20)
    return replace(
        config,
        text=TextConfig(vocab_size=16_384, max_source=96, max_target=96),
        generation=replace(config.generation, draft="source", source_weight=0.2, copies=False),
    )


def quasar_t() -> Config:
    """Question generation (Quasar-T, SQuAD): a long passage, a short question."""
    return replace(_task(20), text=TextConfig(vocab_size=16_384, max_source=128, max_target=48))


def dialogue() -> Config:
    """Dialogue (Commonsense Conversation, DailyDialog)."""
    return replace(_task(10), text=TextConfig(vocab_size=16_384, max_source=96, max_target=64))


def translation() -> Config:
    """Translation, as in Multi30k: one vocabulary for both languages, and case counts."""
    text = TextConfig(vocab_size=12_000, lowercase=False, max_source=96, max_target=96)
    return replace(_task(40), text=text)


def _task(epochs: float) -> Config:
    """As `qqp`, in one direction, so often through the pairs; the more there are of them, the less often."""
    config = qqp()
    training = replace(config.training, both_directions=False, epochs=epochs)
    return replace(config, training=training, generation=_GENERATION)


def _published(steps: int, processes: int) -> Config:
    """The published settings; the batch is that of all processes together (2,048 pairs each)."""
    return Config(
        system=PublishedConfig(),
        text=TextConfig(tokenizer="bert-base-uncased", max_source=128, max_target=128, published_layout=True),
        training=TrainingConfig(
            batch_size=2048 * processes,
            accumulate=32,
            steps=steps,
            learning_rate=1e-4,
            schedule="linear",
            warmup=0.0,
            betas=(0.9, 0.999),
            clip=None,
            ema=0.9999,
            precision="fp32",
        ),
        generation=DiffusionGeneration(
            candidates=10, steps=2000, sampler="ancestral", clamp_from=0.0, batch_size=50
        ),
    )


def qqp_paper() -> Config:
    """DiffuSeq as published on QQP: 50,000 steps on 4 GPUs."""
    return _published(50_000, 4)


def qqp_paper_small() -> Config:
    """The published system at the size and the budget of `qqp-small`, with its text, for comparison."""
    config, small = _published(50_000, 4), qqp_small()
    return replace(
        config,
        system=PublishedConfig(layers=6, heads=4, width=256, feed_forward=1024),
        text=replace(small.text, max_source=128, max_target=128, published_layout=True),
        training=replace(
            config.training,
            batch_size=32,
            accumulate=1,
            minutes=60,
            learning_rate=5e-4,
            ema=0.999,
            both_directions=True,
        ),
    )


def quasar_t_paper() -> Config:
    """DiffuSeq as published on Quasar-T: 40,000 steps on 4 GPUs."""
    return _published(40_000, 4)


def wiki_auto_paper() -> Config:
    """DiffuSeq as published on Wiki-Auto: 80,000 steps on 8 GPUs."""
    return _published(80_000, 8)


def dialogue_paper() -> Config:
    """DiffuSeq as published on Commonsense Conversation: 140,000 steps on 7 GPUs."""
    return _published(140_000, 7)


DIFFUSION: dict[str, Callable[[], Config]] = {
    "tiny": tiny,
    "qqp": qqp,
    "qqp-large": qqp_large,
    "qqp-base": qqp_base,
    "qqp-small": qqp_small,
    "qqp-pretrained": qqp_pretrained,
    "wiki-auto": wiki_auto,
    "quasar-t": quasar_t,
    "dialogue": dialogue,
    "translation": translation,
    "qqp-paper": qqp_paper,
    "qqp-paper-small": qqp_paper_small,
    "quasar-t-paper": quasar_t_paper,
    "wiki-auto-paper": wiki_auto_paper,
    "dialogue-paper": dialogue_paper,
}
RECIPES = DIFFUSION | BASELINES


def recipe(name: str) -> Config:
    """The config of a recipe. Raises `InputError` for an unknown name and lists the known ones."""
    if not isinstance(name, str) or name not in RECIPES:
        raise unknown_name("recipe", name, RECIPES)
    return RECIPES[name]()
