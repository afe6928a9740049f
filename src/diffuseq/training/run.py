"""One call that trains: data, tokenizer, system, loop, checkpoints, model folder.

OUT/                       the model folder (averaged weights), usable from the first save on
OUT/metrics.jsonl          a line every `log_every` steps and for every look at the validation set
OUT/training.json          written at the end: parameters, seconds, pairs seen, steps, device
OUT/resume/step-N/         what `resume` goes on from
OUT/cache/                 tokenizer and token stores; may be deleted
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from diffuseq.checkpoint import CONFIG, GENERATION, as_read, find_model, save_model
from diffuseq.checks import check_fit, check_generation, check_text
from diffuseq.config import Config, DiffusionGeneration, Generation
from diffuseq.data.store import StoreReport
from diffuseq.errors import InputError
from diffuseq.files import same_place, write_text
from diffuseq.model_card import CARD, has_own_card, model_card, own_card_note
from diffuseq.names import as_path
from diffuseq.plain import to_dict
from diffuseq.precision import fp32_by_default
from diffuseq.registry import build, checked_config
from diffuseq.text.tokenizer import TOKENIZER_FILES
from diffuseq.training.corpus import Corpus, prepare_corpus
from diffuseq.training.engine import ShareFailedError, in_shares, make_accelerator, on_main
from diffuseq.training.evaluate import look_at_answers, pipeline_answers, try_to_answer, validation_loss
from diffuseq.training.feed import check_split
from diffuseq.training.loop import check, prepare, train_steps
from diffuseq.training.signals import TrainingStopped
from diffuseq.training.snapshot import averaged_state, complete_copy, restore, take_snapshot
from diffuseq.training.start import begin_as, begun, text_of_start
from diffuseq.training.state import Tensors, forget_newer, load_newest, locked, save_checkpoint
from diffuseq.training.teachers import load_teachers
from diffuseq.training.tracking import Event, Metrics, OnEvent, duration, ignore, tensorboard_writer
from diffuseq.weights import own_weights

VALIDATION_ROWS = 2000
"""Validation pairs that the loss is measured on, at most."""
ESTIMATE_AFTER = 20
"""Steps after which the whole cost is estimated."""
REPEATS_TO_WARN = 0.05
"""Share of the training targets with a token twice in a row; Quora's questions, for which it is off, have 1 %."""

Checkpoint = tuple[int, dict[str, Tensors], dict[str, Any], list[str]]


@fp32_by_default()
def train(
    config: Config,
    data: str | Path,
    out: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    skip_bad_rows: bool = False,
    on_event: OnEvent | None = None,
) -> Path:
    """Train `config` on `data` into the folder `out`, which is returned; for data see `prepare_corpus`.

    resume: go on from the newest checkpoint (from the start, if there is none and no finished model either).
    overwrite: delete an earlier run in `out`, once this one can begin; a README.md that is not as we wrote it
    stays. on_event: told what happens; nothing is printed in here.
    Raises `InputError` for what the user can mend, `NotFiniteError` when the loss is no number any more, and
    `TrainingStopped` after SIGINT, SIGTERM or SIGHUP, when everything is saved.
    """
    config, data, out = checked_config(config), as_path(data, "The data"), as_path(out, "The folder out")
    if on_event is not None and not callable(on_event):
        raise InputError(f"on_event is of the type {type(on_event).__name__}; give a function of an Event.")
    check(config.training)
    check_text(config.text)
    check_generation(config.generation)
    check_fit(config.system, config.generation)
    if config.training.tensorboard:
        tensorboard_writer()
    accelerator = make_accelerator(config.training.fsdp)
    check_split(config.training.batch_size, accelerator.num_processes * config.training.accumulate)
    report = on_event if on_event is not None and accelerator.is_main_process else ignore

    def make_corpus() -> Corpus:
        settings = config.training
        text = text_of_start(config.text, settings.start_from, begun(out, resume))
        return prepare_corpus(data, out / "cache", text, settings.evaluate_rows, report, skip_bad_rows)

    with ExitStack() as held:

        def begin() -> Corpus:
            held.enter_context(locked(out / "resume"))
            _check_folder(out, resume, overwrite, (config.training.start_from, *config.training.teachers))
            for teacher in config.training.teachers:
                find_model(teacher)  # before a large corpus is read
            corpus = make_corpus()
            if warning := _warning_of_repeats(corpus.train.report, config.generation):
                report(Event("warning", warning))
            if note := own_card_note(out):
                report(Event("message", note))
            return corpus

        corpus = on_main(accelerator, begin) or _others_corpus(out, accelerator, make_corpus)
        run = Run(config, corpus, out, accelerator, report, f"{data}")
        run.start(load_newest(out / "resume") if resume else None)
        run.take_folder(overwrite)
        with run.training.stop.caught():
            run.go_on()
    return out


def _warning_of_repeats(found: StoreReport, settings: Generation) -> str | None:
    """A sentence where answers as these targets are would never be written: not before training is paid for."""
    share = found.doubled_targets / found.pairs
    if not isinstance(settings, DiffusionGeneration) or settings.sampler not in ("settle", "fixed-point"):
        return None
    if settings.repeats or share <= REPEATS_TO_WARN:
        return None
    return (
        f"{share:.0%} of the training targets have a token twice in a row, which answers never have while "
        "generation.repeats is off; turn it on (--generation.repeats)."
    )


def _others_corpus(out: Path, accelerator: Accelerator, make_corpus: Callable[[], Corpus]) -> Corpus:
    """What the first process has cached, for the others, which may run on another machine."""
    if not (out / "cache").is_dir():
        raise InputError(
            f"Process {accelerator.process_index} does not see the folder {out} of the first process; give "
            "an --out (and --data) that all machines share."
        )
    return make_corpus()


class Run:
    """A training with its folder: what `train` does between having the data and being done."""

    def __init__(
        self, config: Config, corpus: Corpus, out: Path, accelerator: Accelerator, report: OnEvent, data: str
    ) -> None:
        self.config, self.corpus, self.out, self.data = config, corpus, out, data
        self.accelerator, self.report = accelerator, report
        self.is_main: bool = accelerator.is_main_process
        self.validation: dict[str, float] = {}
        self.metrics: Metrics | None = None

    def start(self, checkpoint: Checkpoint | None) -> None:
        """Build the system, or take it back from a checkpoint."""
        settings = self.corpus.counted(self.config.training)
        torch.manual_seed(settings.seed)
        system = build(self.config.system, self.corpus.tokenizer.special)
        # now, and not in the middle of the run
        longest = self.corpus.longest_pairs(settings)
        for source, target in longest:
            system.check_lengths(source, target)
        if beyond := self.corpus.beyond(system.longest_answer, settings.both_directions):
            self._warn(
                f"{beyond:,} training targets are longer than answers of this system can be, and would never be "
                "written to their end; give it more room (--system.max-length), or a smaller --text.max-target."
            )
        try_to_answer(system, self.config.generation)
        if checkpoint is None:
            if settings.start_from is not None:
                begin_as(system, settings.start_from, self.corpus.tokenizer)
            self.training = prepare(system, settings, accelerator=self.accelerator, warn=self._warn)
        else:
            _, tensors, values, broken = checkpoint
            self._check_resumable(values)
            self.validation = values["validation"]
            # what a machine is found to be good at may change from run to run, what is asked for is meant
            bf16 = values["bf16"] if settings.precision == "auto" else None
            self.training = prepare(
                system, settings, accelerator=self.accelerator, bf16=bf16, warn=self._warn
            )
            restore(self.training, tensors, values)
            for problem in broken:
                self._warn(f"{problem}; the run goes on from an older checkpoint.")
            self._warn_of_other_chunks(values["chunks"])
        if settings.teachers:
            self.training.teachers = load_teachers(
                settings.teachers,
                settings.teaching,
                system,
                self.corpus.tokenizer,
                self.accelerator.device,
                longest,
            )
        step = self.training.progress.step
        size = {"parameters": system.num_parameters(), "pairs": len(self.corpus.train), "resumed_at": step}
        place = {"device": str(self.accelerator.device), "processes": self.accelerator.num_processes}
        self.report(Event("start", values={**size, **place, "bf16": self.training.bf16}))

    def take_folder(self, overwrite: bool) -> None:
        """Drop what an earlier run left beyond where this one begins, with `overwrite` all of it: now that
        nothing stands in the way of this one."""
        if not self.is_main:
            return
        if overwrite:
            _delete_run(self.out)
        step = self.training.progress.step
        forget_newer(self.out / "resume", step)
        self.metrics = Metrics(self.out, step, self.config.training.tensorboard)

    def go_on(self) -> None:
        """Train until the end or a signal; evaluate and save when it is time."""
        training, settings, first = self.training, self.config.training, self.training.progress.step
        if self.is_main and training.done < 1:
            (self.out / "training.json").unlink(missing_ok=True)
        if first and training.done >= 1:
            text = f"nothing is left to train: the run in {self.out} has had its {first:,} steps"
            self.report(Event("message", f"{text} (a larger budget than that goes on, say --training.steps)"))
        for logs in train_steps(training, self.corpus.training_data(settings)):
            step, ended = training.progress.step, training.done >= 1
            self._tell(logs, step - first)
            self._look_and_save(
                ended or step % settings.evaluate_every == 0, ended or step % settings.save_every == 0
            )
        if not self.validation:  # the last look was cut short when the run was stopped
            self._look_and_save(True, True)
        self.finish()

    def _look_and_save(self, look: bool, save: bool) -> None:
        """Either where it is time for it. Raises `TrainingStopped` after a signal, unless all is done."""
        training = self.training
        if training.done >= 1:
            self.validation = {}  # what was seen so far is of other weights than those that stay
        if training.stopping is None and look:
            try:
                self.evaluate()
            except Exception as error:
                # whatever went wrong in a look at the answers, the training is not lost
                if self.accelerator.num_processes == 1 or isinstance(error, ShareFailedError):
                    self.save()
                raise
        if save or training.stopping is not None:
            self.save()
        if training.stopping is not None and (training.done < 1 or not self.validation):
            raise TrainingStopped(training.stopping, training.progress.step)

    def evaluate(self) -> None:
        """Loss, BLEU and sample answers by the averaged weights. A signal cuts it short (in one process)."""
        training, alone = self.training, self.accelerator.num_processes == 1
        with training.average.in_place():  # around it, for no signal may leave half of the weights in place
            seen = training.stop.heeded_in(self._look) if alone else self._look()
        self.accelerator.wait_for_everyone()
        if seen is None:
            training.stopping = training.stop.number
            return
        self.validation, samples, warnings = seen
        values = {"step": training.progress.step, **self.validation, "samples": samples}
        if self.metrics is not None:
            self.metrics.add(values)
        self.report(Event("evaluation", values=values))
        for warning in warnings:
            self._warn(warning)

    def _look(self) -> tuple[dict[str, float], list[dict[str, str]], list[str]]:
        """Scores of the weights in place, samples, and warnings."""
        training, settings = self.training, self.config.training
        data = self.corpus.validation_data(settings)
        batches = -(-min(VALIDATION_ROWS, len(self.corpus.valid)) // data.plan.batch_size)
        scores = validation_loss(training, data, batches)
        if not self.corpus.valid_pairs:
            return scores, [], []
        system = complete_copy(training) if self.accelerator.is_fsdp2 else training.system
        answer = pipeline_answers(system, self.corpus.tokenizer, self.config)
        answers, warnings = look_at_answers(
            in_shares(self.accelerator, answer), self.corpus.valid_pairs, self.corpus.tokenizer.lowercases
        )
        samples = answers.pop("samples")
        return scores | answers, samples, warnings

    def save(self) -> None:
        """The model folder, and the checkpoint to resume from."""
        tensors, values = take_snapshot(self.training)
        weights = averaged_state(self.training)
        if self.is_main:
            self._save_model(weights)
            values |= {"config": to_dict(self.config), "data": self.corpus.fingerprint}
            values |= {"validation": self.validation}
            step, keep = self.training.progress.step, self.config.training.keep
            save_checkpoint(self.out / "resume", step, tensors, values, keep)
            self.report(Event("save", values={"folder": str(self.out), "step": step}))
        self.accelerator.wait_for_everyone()

    def finish(self) -> None:
        """Write training.json, unless an earlier call has."""
        if not self.is_main or (self.out / "training.json").exists():
            return
        progress = self.training.progress
        summary = {
            "parameters": self.training.system.num_parameters(),
            "seconds": round(progress.seconds, 3),
            "pairs_seen": progress.pairs,
            "steps": progress.step,
            "device": _device_name(self.accelerator.device),
            "processes": self.accelerator.num_processes,
            **self.validation,
        }
        write_text(self.out / "training.json", json.dumps(summary, indent=2) + "\n")
        if self.metrics is not None:
            self.metrics.close()
        self.report(Event("end", values=summary))

    def _save_model(self, weights: Tensors) -> None:
        system = self.training.system
        told = as_read(self.config, self.corpus.tokenizer)
        card = model_card(told, system.num_parameters(), self.validation, Path(self.data).name)
        save_model(self.out, system, self.config, self.corpus.tokenizer, card, weights=weights)

    def _warn(self, text: str) -> None:
        self.report(Event("warning", text))

    def _tell(self, logs: dict[str, float], taken: int) -> None:
        training = self.training
        progress = training.progress
        self.report(
            Event("step", values={"step": progress.step, "done": training.done, "pairs": progress.pairs})
        )
        if logs:
            if self.metrics is not None:
                self.metrics.add(logs)
            self.report(Event("log", values=logs))
        if taken == ESTIMATE_AFTER and training.settings.minutes is None:
            a_step = progress.seconds / progress.step
            whole = duration(a_step * training.settings.steps)
            text = (
                f"a step takes {a_step:.2g} s here: about {whole} for all {training.settings.steps:,} "
                "(--training.minutes N trains for N minutes instead)"
            )
            self.report(Event("message", text))

    def _warn_of_other_chunks(self, before: int) -> None:
        """Random numbers go by micro-batch: tell which setting keeps them, where there is one."""
        if before == self.training.chunks:
            return
        text = "processes × accumulate changed: the run goes on, with other random numbers"
        each, left = divmod(before, self.accelerator.num_processes)
        hint = "." if left else f" (--training.accumulate {each} would keep them)."
        self._warn(text + hint)

    def _check_resumable(self, values: dict[str, Any]) -> None:
        now, before = to_dict(self.config), values["config"]
        fixed = [(part, name) for part in ("system", "text") for name in now[part]]
        fixed.append(("training", "optimizer"))
        if not before["training"].get("ema"):  # there is no average to go on with
            fixed.append(("training", "ema"))
        for part, name in fixed:
            value, started_with = now[part][name], before[part].get(name)
            if started_with != value:
                raise InputError(
                    f"{part}.{name} is {value!r}, but the run in {self.out} was started with "
                    f"{started_with!r}; resume with that, or start anew with --overwrite."
                )
        if values["data"] != self.corpus.fingerprint:
            raise InputError(
                f"The data or the tokenizer is not what the run in {self.out} was started with; resume with "
                "the same, or start anew with --overwrite."
            )


def _check_folder(out: Path, resume: bool, overwrite: bool, models: Iterable[str | None]) -> None:
    """Refuse to mix two runs in one folder, and to delete one of the models that the new run begins with."""
    if resume and overwrite:
        raise InputError("--resume goes on with a run and --overwrite deletes it; give one of them.")
    ours = [path for name in ("metrics.jsonl", "training.json", CONFIG) if (path := out / name).exists()]
    checkpoints = list((out / "resume").glob("step-*"))
    is_finished = (out / "training.json").exists()
    is_model = (out / CONFIG).exists() and not (out / "metrics.jsonl").exists()
    if resume and not checkpoints and (is_finished or is_model):
        raise InputError(
            f"{out} holds a model but no checkpoint to go on from (resume/step-N); begin with its weights in "
            f"another --out (--training.start-from {out}), or delete it (--overwrite)."
        )
    if overwrite and any(model is not None and same_place(model, out) for model in models):
        raise InputError(f"--overwrite would delete {out}, which the training needs; choose another --out.")
    if (ours or checkpoints) and not resume and not overwrite:
        state = "a finished run" if is_finished else "an unfinished run"
        raise InputError(
            f"{out} holds {state}; go on with it (--resume), delete it (--overwrite), or choose another."
        )


def _delete_run(out: Path) -> None:
    """Delete what `train` writes, except the cache, which looks after itself, and nothing else: not a README.md,
    weights or a tokenizer under names of the user's own."""
    if not has_own_card(out):
        (out / CARD).unlink(missing_ok=True)
    for path in own_weights(out):
        path.unlink()
    for name in ("training.json", "metrics.jsonl", CONFIG, GENERATION, *TOKENIZER_FILES):
        (out / name).unlink(missing_ok=True)
    for folder in (*(out / "resume").glob("step-*"), out / "tensorboard"):
        shutil.rmtree(folder, ignore_errors=True)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({torch.get_num_threads()} threads)" if device.type == "cpu" else device.type
