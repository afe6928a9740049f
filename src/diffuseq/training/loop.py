"""The training loop: any system, any data, one process or many. It knows no diffusion mathematics.

One optimiser step takes `batch_size` pairs, over all processes W and their micro-batches A. The rows of a
step are cut into W·A chunks; process r takes chunks r·A … r·A + A − 1. Two rules make the split invisible:

- The gradient is Σ wᵢ·∇ℓᵢ / Σ wᵢ over all chunks, where wᵢ is what ℓᵢ is the mean over (`Loss.weight`, or the
  pairs of the chunk). So any split gives the gradient of the whole batch, but for what a system learns at places
  that padding makes (`DiffuSeq` that the text has ended), which are more in a chunk with a longer target.
- All randomness of a chunk (the system's generator and, apart from it, the global one that dropout uses) is seeded
  from (seed, step, chunk). So a run depends on the product W·A but not on how it is made up (one process with
  two micro-batches equals two processes with one), and a resumed run needs no saved random state.

Evaluation and checkpoints are callbacks; `fit` alone touches no file.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.optim import Optimizer

from diffuseq.config import TrainingConfig
from diffuseq.data.batch import Batch
from diffuseq.errors import InputError
from diffuseq.memory import FreedMemory
from diffuseq.precision import use_bf16, width_of
from diffuseq.system import System
from diffuseq.training.chance import seed_apart
from diffuseq.training.ema import AveragedWeights
from diffuseq.training.engine import distribute, make_accelerator
from diffuseq.training.feed import Data, Loaded, load_all
from diffuseq.training.graphs import GraphedPasses, Passed, can_be_graphed
from diffuseq.training.optim import learning_rate_factor, make_optimizers, set_learning_rate
from diffuseq.training.sharding import whole
from diffuseq.training.signals import SIGNALS, StopSignal
from diffuseq.training.teachers import Teachers
from diffuseq.training.window import Window

MOST_ROWS = 1_000_000
"""Validation rows that are generated for at a look, at most."""
MOST = 10**12
"""Of steps, pairs, epochs and minutes: more than anybody has, and little enough to be computed with."""
SEEDS = 2**63
"""Seeds are below it: PyTorch's generators take no larger ones, and NumPy's none below 0."""


@dataclass
class Progress:
    """How far a training is."""

    step: int = 0
    """Optimiser steps done."""
    seconds: float = 0.0
    """Time spent on them; evaluation and saving do not count."""
    pairs: int = 0
    """Pairs seen, over all processes."""


class NotFiniteError(InputError):
    """The loss or the gradient is no number any more; the weights are still those of the step before."""


@dataclass
class Training:
    """Everything that `fit` moves, prepared for one process or many (see `prepare`)."""

    settings: TrainingConfig
    accelerator: Accelerator
    model: nn.Module
    system: System
    parameters: list[nn.Parameter]
    """The system's; listing them anew takes a while."""
    optimizers: list[Optimizer]
    average: AveragedWeights
    bf16: bool
    progress: Progress = field(default_factory=Progress)
    stop: StopSignal = field(default_factory=StopSignal)
    stopping: int | None = None
    """The signal that all processes agreed to stop at."""
    uncounted: float = 0.0
    """Seconds of the last optimiser update, counted with the next step."""
    graphed: GraphedPasses | None = None
    """The passes as CUDA graphs, where they are recorded."""
    teachers: Teachers | None = None
    """Who says which words to expect, beside the targets."""

    @property
    def preparing(self) -> float:
        """Seconds that went into recording so far, which do not count."""
        return 0.0 if self.graphed is None else self.graphed.preparing

    @property
    def chunks(self) -> int:
        return self.accelerator.num_processes * self.settings.accumulate

    @property
    def done(self) -> float:
        """Share of the training that lies behind, 0…1: of `minutes` where they are given, else of `steps`."""
        return self.share(self.progress.step, self.progress.seconds)

    def share(self, step: int, seconds: float) -> float:
        if self.settings.minutes is not None:
            return min(1.0, seconds / (60 * self.settings.minutes))
        return min(1.0, step / max(1, self.settings.steps))

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=self.bf16)

    def passes(self, batch: Batch, generator: torch.Generator) -> Passed:
        """Forward, and backward, which adds the gradient times the weight of the batch."""
        with self.autocast():
            loss = self.model(batch, generator)
        value = loss.value.float()
        weight = len(batch) if loss.weight is None else loss.weight
        if not isinstance(weight, Tensor):
            weight = torch.full((), weight, device=value.device)
        weight = weight.detach().float()
        self.accelerator.backward(value * weight)
        return Passed(weight, value.detach(), {name: part.detach() for name, part in loss.logs.items()})


def prepare(
    system: System,
    settings: TrainingConfig,
    *,
    accelerator: Accelerator | None = None,
    bf16: bool | None = None,
    warn: Callable[[str], None] = warnings.warn,
) -> Training:
    """Put a system on its device and wrap it for its processes; `bf16` None decides by `precision`; `warn` is told
    what makes the training slower than it could be."""
    check(settings)
    accelerator = accelerator or make_accelerator(settings.fsdp)
    optimizers = make_optimizers(system, settings)
    if bf16 is None:
        mine = torch.tensor(float(use_bf16(settings.precision, accelerator.device, width_of(system))))
        bf16 = accelerator.reduce(mine.to(accelerator.device), "mean").item() == 1  # all processes agree
    if settings.compile and accelerator.device.type != "cpu":
        # no kernels for one length, nor for two that happen to be equal: lengths vary
        from torch.fx.experimental import _config as shapes

        shapes.use_duck_shape = False
        system.compile(dynamic=True)
    model, unwrapped, optimizers = distribute(accelerator, system, optimizers)
    parameters = list(unwrapped.parameters())
    average = AveragedWeights(parameters, settings.ema)
    training = Training(settings, accelerator, model, unwrapped, parameters, optimizers, average, bf16)
    if settings.cuda_graphs and can_be_graphed(unwrapped, accelerator.device, accelerator.distributed_type):
        learning = [p for p in parameters if p.requires_grad]
        training.graphed = GraphedPasses(training.passes, learning, accelerator.device, warn)
    return training


def check(settings: TrainingConfig) -> None:
    """Refuse settings that cannot train, before anything is built."""
    for name in ("batch_size", "accumulate", "steps", "log_every", "evaluate_every", "save_every", "keep"):
        if not 1 <= getattr(settings, name) <= MOST:
            raise InputError(
                f"training.{name} is {getattr(settings, name)}; give a number of at least 1, to {MOST:g}."
            )
    if not 0 <= settings.seed < SEEDS:
        raise InputError(f"training.seed is {settings.seed}; give a whole number from 0 to below 2^63.")
    if not 0 <= settings.teaching <= 1:
        raise InputError(f"training.teaching is {settings.teaching}; give a share from 0 to 1.")
    for name in ("ema", "warmup"):
        if not 0 <= getattr(settings, name) < 1:
            raise InputError(f"training.{name} is {getattr(settings, name)}; give a share from 0 to below 1.")
    if settings.epochs is not None and settings.minutes is not None:
        raise InputError(
            f"training.epochs is {settings.epochs} and training.minutes {settings.minutes}; give one of them, and "
            "None for the other."
        )
    for name in ("epochs", "minutes"):
        value = getattr(settings, name)
        if value is not None and not 0 < value <= MOST:
            raise InputError(f"training.{name} is {value}; give a number above 0, to {MOST:g}.")
    for name in ("clip", "learning_rate", "muon_learning_rate"):
        value = getattr(settings, name)
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise InputError(f"training.{name} is {value}; give a number above 0.")
    if not 0 <= settings.evaluate_rows <= MOST_ROWS:
        raise InputError(f"training.evaluate_rows is {settings.evaluate_rows}; give 0 to {MOST_ROWS:,}.")
    if not all(0 <= beta < 1 for beta in settings.betas):
        raise InputError(f"training.betas is {settings.betas}; give two shares from 0 to below 1.")
    for name in ("weight_decay", "final_learning_rate"):
        value = getattr(settings, name)
        if not (value >= 0 and math.isfinite(value)):
            raise InputError(f"training.{name} is {value}; give a number of at least 0.")
    learning_rate_factor(settings, 1.0, 1.0)


def fit(
    system: System,
    data: Data,
    settings: TrainingConfig,
    *,
    on_log: Callable[[dict[str, float]], None] | None = None,
) -> Progress:
    """Train `system` on `data`, without files; it ends with the averaged weights, in eval mode.

    on_log gets {"step", "loss", "learning_rate", …} every `settings.log_every` steps.
    """
    training = prepare(system, settings)
    for logs in train_steps(training, data):
        if on_log is not None and logs:
            on_log(logs)
    training.average.take()
    system.eval()
    return training.progress


def train_steps(training: Training, data: Data) -> Iterator[dict[str, float]]:
    """Train until the end or until a signal. Yields after every step: its averaged metrics when they are due,
    else an empty dict. Between two yields nothing is half-done, so the caller may save or evaluate. What was
    recorded as CUDA graphs is gone at the end."""
    settings, progress = training.settings, training.progress
    window = Window()
    batches, freed = load_all(training, data), FreedMemory(training.accelerator.device.type)
    try:
        while training.done < 1 and training.stopping is None:
            take_step(training, next(batches), window)
            last = training.done >= 1 or training.stopping is not None
            freed.give_back()
            yield window.close(training) if last or progress.step % settings.log_every == 0 else {}
    finally:
        training.graphed = None  # they know the training: as a circle they would keep their memory


def take_step(training: Training, loaded: Loaded, window: Window) -> None:
    """One optimiser step on the chunks of this process. `NotFiniteError` leaves the weights as they were."""
    progress, accelerator, start = training.progress, training.accelerator, time.perf_counter()
    prepared = training.preparing
    if not training.system.training:  # walking through all modules takes a while
        training.model.train()
    for optimizer in training.optimizers:
        optimizer.zero_grad(set_to_none=training.graphed is None)
    sums = torch.zeros(2, device=accelerator.device)
    values: list[tuple[Tensor, Sequence[int]]] = []
    for number, (seed, batch, rows) in enumerate(loaded.chunks):
        last = number == len(loaded.chunks) - 1
        weight, value = _accumulate(training, batch.to(accelerator.device), seed, last, window)
        sums += torch.stack([weight, weight * value])
        values.append((value.clone(), rows))  # what was recorded is overwritten by the next chunk
    sum_norm = _gradient_norm(training)
    reduced_at = time.perf_counter()
    mine = training.uncounted + reduced_at - start - (training.preparing - prepared)
    (weights, weighted), seconds = _over_processes(training, sums, mine)
    norm = _scale_and_clip(training, sum_norm, weights)
    if not (math.isfinite(weighted) and math.isfinite(norm)):
        # every process comes here, for all have the same sums
        losses = gather_object([(float(value), loaded.data.pairs(rows)) for value, rows in values])
        broken = [pair for value, pairs in losses if not math.isfinite(value) for pair in pairs]
        seen = broken or [pair for _, pairs in losses for pair in pairs]
        raise NotFiniteError(_what_broke(progress.step, weighted / weights, norm, sorted(seen)))
    after = training.share(progress.step + 1, progress.seconds + seconds)
    factor = learning_rate_factor(training.settings, training.done, after)
    set_learning_rate(training.optimizers, factor)
    for optimizer in training.optimizers:
        optimizer.step()
    training.system.after_step()
    progress.step += 1
    progress.pairs += loaded.pairs
    progress.seconds += seconds
    training.average.update(progress.step)
    window.add(weighted / weights, norm, factor, loaded.pairs, seconds)
    training.uncounted = time.perf_counter() - reduced_at


def _accumulate(
    training: Training, batch: Batch, seed: int, last: bool, window: Window
) -> tuple[Tensor, Tensor]:
    """Add the gradient of one chunk, times its weight; the last chunk carries the sum to all processes."""
    accelerator = training.accelerator
    if training.teachers is not None:
        generator = torch.Generator(accelerator.device).manual_seed(seed)
        with training.autocast():
            batch = training.teachers.label(batch, generator)
    if training.graphed is not None:
        passed = training.graphed(batch, seed)
    else:
        generator = torch.Generator(accelerator.device)
        seed_apart(seed, accelerator.device, generator)
        with nullcontext() if last else accelerator.no_sync(training.model):
            passed = training.passes(batch, generator)
    window.watch(passed.logs, passed.weight)
    return passed.weight, passed.value


def _over_processes(training: Training, sums: Tensor, seconds: float) -> tuple[list[float], float]:
    """The sums over all processes, and the seconds of this step by the first one's clock. All processes leave
    with the same numbers, so that all agree on when to stop; a signal that one of them got reaches all."""
    accelerator, signal = training.accelerator, training.stop.number
    if accelerator.num_processes == 1:
        training.stopping = signal
        return sums.tolist(), seconds
    mine = [seconds if accelerator.is_main_process else 0.0, *(signal == number for number in SIGNALS)]
    everything = torch.cat([sums, torch.tensor(mine, device=sums.device)])
    weights, weighted, seconds, *got = accelerator.reduce(everything, "sum").tolist()
    training.stopping = next((number for number, count in zip(SIGNALS, got, strict=True) if count), None)
    return [weights, weighted], seconds


def _gradients(training: Training) -> list[Tensor]:
    return [p.grad for p in training.parameters if p.grad is not None]


@torch.no_grad()
def _gradient_norm(training: Training) -> Tensor:
    """Norm of the sum of weighted gradients; on its device, so that a GPU is waited for only once a step."""
    return whole(torch.nn.utils.get_total_norm(_gradients(training)))


@torch.no_grad()
def _scale_and_clip(training: Training, norm_of_sum: Tensor, weights: float) -> float:
    """Turn the sum of weighted gradients into their mean, clip it, and give back its norm before clipping."""
    gradients = _gradients(training)
    scale = training.accelerator.num_processes / weights  # the processes' gradients come averaged, not summed
    norm = float(norm_of_sum) * scale
    clip = training.settings.clip
    if clip is not None:
        scale *= min(1.0, clip / (norm + 1e-6))
    if math.isfinite(norm):
        torch._foreach_mul_(gradients, scale)
    return norm


def _what_broke(step: int, loss: float, norm: float, rows: Sequence[int]) -> str:
    shown = ", ".join(map(str, rows[:16])) + (f" and {len(rows) - 16} more" if len(rows) > 16 else "")
    what = f"loss is {loss}" if not math.isfinite(loss) else f"gradient's norm is {norm} (loss {loss:.4g})"
    return (
        f"Step {step + 1}: the {what}, on training rows {shown}; the last checkpoint is kept. Look at these "
        "rows, or resume with a smaller learning_rate, a longer warmup, or precision fp32."
    )
