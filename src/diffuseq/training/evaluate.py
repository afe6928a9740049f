"""A look at the validation set while training: the loss, some answers with their BLEU, and early warnings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch

from diffuseq.data.pairs import Pair
from diffuseq.system import Request, System
from diffuseq.training.chance import mix
from diffuseq.training.engine import reshard
from diffuseq.training.feed import Data
from diffuseq.training.loop import Training

SAMPLES_SHOWN = 5
TOO_MANY_EQUAL = 0.5


def validation_loss(training: Training, data: Data, batches: int) -> dict[str, float]:
    """The mean loss over `batches` batches of `data`, by the weights that the system carries now.

    The noise of a batch depends only on the seed and its number, so that two looks can be compared, on any
    number of processes, which take the batches in turn.
    """
    accelerator, settings = training.accelerator, training.settings
    sums = torch.zeros(2, device=accelerator.device)
    training.model.eval()
    for first in range(0, batches, accelerator.num_processes):
        turn = first + accelerator.process_index
        number = min(turn, batches - 1)  # all call the model equally often, as FSDP needs
        batch = data.collate(data.rows(number)).to(accelerator.device)
        generator = torch.Generator(accelerator.device).manual_seed(mix(settings.seed, -1, number))
        with torch.no_grad(), training.autocast():
            loss = training.model(batch, generator)
        weight = torch.as_tensor(len(batch) if loss.weight is None else loss.weight).float().to(sums.device)
        if turn < batches:
            sums += torch.stack([weight, weight * loss.value.float()])
    reshard(training.model)
    weights, weighted = accelerator.reduce(sums, "sum").tolist()
    return {"valid_loss": weighted / weights}


def look_at_answers(
    answer: Callable[[list[str]], Sequence[str]], pairs: Sequence[Pair], lowercase: bool = False
) -> tuple[dict[str, Any], list[str]]:
    """Generate for the pairs' sources: (metrics and samples for the log, warnings).

    answer: sources → chosen texts. BLEU is the mean sentence-BLEU of the field (`metrics.bleu`), with that
    of copying the source beside it, and of the answers against their sources; in lower case where the model
    knows no other.
    """
    from diffuseq.metrics.bleu import sentence_bleu
    from diffuseq.metrics.scripts import are_unspaced

    sources = [pair.source for pair in pairs]
    texts = list(answer(sources))
    fold = str.lower if lowercase else str
    answered, asked = [fold(text) for text in texts], [fold(text) for text in sources]
    references = [[fold(text) for text in pair.references] for pair in pairs]
    metrics = {
        "valid_bleu": float(sentence_bleu(answered, references).mean()),
        "valid_bleu_of_copying": float(sentence_bleu(asked, references).mean()),
        "valid_bleu_to_source": float(sentence_bleu(answered, asked).mean()),
    }
    samples = [
        {"source": pair.source, "target": pair.target, "answer": text}
        for pair, text in zip(pairs[:SAMPLES_SHOWN], texts, strict=False)
    ]
    warnings = warn_degenerate(texts)
    if are_unspaced(pair.target for pair in pairs):
        warnings.append(
            "BLEU splits texts at spaces, and these targets have none between words: it says how many answers are "
            "equal to theirs. Judge by the samples, and by chrF of `diffuseq evaluate`."
        )
    return {**metrics, "samples": samples}, warnings


def try_to_answer(system: System, settings: Any) -> None:
    """Raise `InputError` for generation settings that the network cannot serve: it is asked for a draft of an
    answer to one token, of which nothing stays, chance included."""
    source = torch.full((1, 1), system.special.mask, device=system.device)
    seeds = list(range(settings.candidates))
    request = Request(source, torch.zeros_like(source, dtype=torch.bool), len(seeds), seeds, settings)
    was_training = system.training
    with torch.random.fork_rng(devices=[]):
        next(system.eval().generate(request))
    system.train(was_training)


def pipeline_answers(system: System, tokenizer: Any, config: Any) -> Callable[[list[str]], Sequence[str]]:
    """Sources → chosen texts, by the pipeline that users have."""
    from diffuseq.pipeline import DiffuSeqPipeline

    pipe = DiffuSeqPipeline(system, tokenizer, config)
    return lambda sources: [answer.text for answer in pipe(sources)]


def warn_degenerate(outputs: Sequence[str]) -> list[str]:
    """One sentence for each way in which the outputs are useless: what it is, and what to try."""
    if not outputs:
        return []
    warnings = []
    empty = sum(not text.strip() for text in outputs)
    if empty > TOO_MANY_EQUAL * len(outputs):
        warnings.append(
            f"{empty} of {len(outputs)} answers are empty (all padding), as is usual at first. If it stays, "
            "train longer, lower the learning rate, or check that the targets in the data are not empty."
        )
    text, count = Counter(text.strip() for text in outputs).most_common(1)[0]
    if text and len(outputs) > 1 and count > TOO_MANY_EQUAL * len(outputs):
        warnings.append(
            f"{count} of {len(outputs)} answers are the same ({text[:60]!r}): the source is not heeded yet. "
            "If it stays, train longer, lower the learning rate, or generate with more steps."
        )
    words = [text.split() for text in outputs if text.strip()]
    repeating = sum(len(row) >= 4 and max(Counter(row).values()) > 0.6 * len(row) for row in words)
    if repeating > TOO_MANY_EQUAL * len(outputs):
        warnings.append(
            f"{repeating} of {len(outputs)} answers repeat one word. If it stays, train longer, lower the "
            "learning rate, or generate with more steps."
        )
    return warnings
