"""Everything that wants a GPU, as one command that can be called again and again until it is done.

    python benchmarks/gpu.py --data DATA --work WORK --out OUT                     the headline model
    python benchmarks/gpu.py … --phases headline,baselines --only headline,transformer-medium --together
    python benchmarks/gpu.py --data DATA --work WORK --out OUT --phases baselines,taught,ablations,speed,tasks
    python benchmarks/gpu.py --data DATA --work WORK --out OUT --final             and the test set, once
    python benchmarks/gpu.py --dry-run --out OUT                                   all of it in tiny, on a CPU

A call ends by itself after --call-minutes: the training is saved, what is measured is written, and the same
command goes on from there. It needs no network. DATA holds a folder for each data set (see `TASKS`) with
train.jsonl, valid.jsonl and, for --final, test.jsonl; its cache/ (that of an earlier training: tokenizer and
token stores) is taken over where there is one. WORK keeps checkpoints and caches between calls. OUT
gets what is worth keeping: NAME.json (settings, the curve of validation scores by minute, scores of every way
of generating), predictions, and the weights of the models that are kept (see `Job`) in int8, in files of at
most 15 MiB.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from children import ended_together, start
from choosing import chosen
from counting import count, not_negative, positive
from earlier import check_same
from gpu_call import Call, Results, say
from gpu_jobs import JOBS, PHASES, TASKS, Job, shrink
from gpu_measure import answer, device, measure, predictions, run_speed, scored, ways

from diffuseq.checkpoint import load_config, load_model, save_model
from diffuseq.config import Config
from diffuseq.data.grammar import write_corpus
from diffuseq.data.pairs import find_split
from diffuseq.ensembles import save_ensemble
from diffuseq.errors import InputError
from diffuseq.memory import prepare_memory
from diffuseq.pipeline import DiffuSeqPipeline
from diffuseq.plain import to_dict
from diffuseq.training.run import train
from diffuseq.training.signals import TrainingStopped
from diffuseq.training.tracking import Event

SHARD_BYTES = 15 * 2**20
SAVING_S = 40
"""Kept free at the end of a call, to save."""


# Doing it


def run_job(job: Job, call: Call) -> bool:
    """Train, measure, keep. True when nothing is left to do."""
    results = Results.open(call.out / f"{job.name}.json")
    folder = call.work / job.name
    if not job.members:
        _refuse_another_budget(job, folder, results)
    _refuse_other_rows(job, call, results)
    if not (_join if job.members else _train)(job, folder, results, call):
        return False
    pipe = DiffuSeqPipeline.from_pretrained(folder)
    if job.kept and not (call.out / job.name / "config.json").exists():
        card = (folder / "README.md").read_text(encoding="utf-8")
        save_model(
            call.out / job.name, pipe.system, pipe.config, pipe.tokenizer, card,
            dtype=torch.int8, max_shard_bytes=SHARD_BYTES,
        )  # fmt: skip
    splits = ("valid", "test") if call.final and job.tested else ("valid",)
    for split, name, changes in ways(job, splits, call.dials):
        if results.has(split, name):
            continue
        if call.is_over:
            return False
        say(f"{job.name}: {split}, {name}")
        results.put(split, name, value=measure(pipe, job, call, split, changes))
    return True


def _join(job: Job, folder: Path, results: Results, call: Call) -> bool:
    """Make an ensemble of what other jobs have trained; False where one of them is not done."""
    results.put("members", value=list(job.members))
    missing = [name for name in job.members if not (call.work / name / "training.json").exists()]
    if missing:
        say(f"{job.name} waits for {', '.join(missing)}")
        return False
    if not (folder / "config.json").exists():
        save_ensemble([call.work / name for name in job.members], folder)
    return True


def _train(job: Job, folder: Path, results: Results, call: Call) -> bool:
    """Train until the end (True) or until the call is over (False); what it took goes into the results."""
    if not results.has("config"):
        results.put("config", value=to_dict(job.config))
    if not (folder / "training.json").exists() and not _train_on(job, folder, results, call):
        return False
    if not results.has("training"):
        results.put("training", value=json.loads((folder / "training.json").read_text(encoding="utf-8")))
    return True


def _refuse_other_rows(job: Job, call: Call, results: Results) -> None:
    """Raise `InputError` where OUT has scores of another number of rows, beside which those of now would stand."""
    for split in ("valid", "test"):
        if scores := results.values.get(split):
            rows = len(call.pairs(job.task, split))
            for found in scores.values():
                check_same(results.path, "rows", found["sources"], rows)
    if curve := results.values.get("curve"):
        rows = len(call.curve_pairs(job.task))
        for point in curve:
            check_same(results.path, "rows", point["rows"], rows)


def _refuse_another_budget(job: Job, folder: Path, results: Results) -> None:
    """Raise `InputError` where WORK or OUT has the job with another budget, say from a dry run: it would count as
    done."""

    def budget(config: dict[str, Any]) -> dict[str, Any]:
        return {name: config["training"][name] for name in ("minutes", "steps")}

    found = {results.path: results.values.get("config")}
    if (folder / "config.json").exists():
        found[folder] = to_dict(load_config(folder))
    for place, config in found.items():
        if config is not None and budget(config) != budget(to_dict(job.config)):
            raise InputError(
                f"{place} is of a training of {budget(config)}, not of {budget(to_dict(job.config))}; give another "
                "--out and --work, or delete it."
            )


def _train_on(job: Job, folder: Path, results: Results, call: Call) -> bool:
    """Train from where the last call stopped."""
    if call.is_over:
        return False
    watcher = Watcher(job, results, call, folder)
    shared = call.work / f"cache-{job.task}"
    for cache in (shared, call.folder(job.task) / "cache"):
        if cache.is_dir() and not (folder / "cache").exists():
            shutil.copytree(cache, folder / "cache")
    config = _with_models_of(job.config, call.work)
    try:
        train(config, call.folder(job.task), folder, resume=True, on_event=watcher)
    except TrainingStopped as stopped:
        if not call.is_over:
            raise  # somebody else wants us to stop
        say(f"{job.name}: {stopped}")
        return False
    if not shared.exists():  # the next job need not tokenise the same texts again
        shutil.copytree(folder / "cache", shared, dirs_exist_ok=True)
    return True


def _with_models_of(config: Config, work: Path) -> Config:
    """The config with the models of other jobs, which it goes on from or learns from, as their folders."""
    training = config.training
    start = None if training.start_from is None else str(work / training.start_from)
    teachers = tuple(str(work / name) for name in training.teachers)
    return replace(config, training=replace(training, start_from=start, teachers=teachers))


class Watcher:
    """Told of everything in a training: it measures the curve, and stops the training in time."""

    def __init__(self, job: Job, results: Results, call: Call, folder: Path) -> None:
        self.job, self.results, self.call, self.folder = job, results, call, folder
        self.done, self.asked = 0.0, False
        self.pairs = call.curve_pairs(job.task)

    def __call__(self, event: Event) -> None:
        if event.kind == "step":
            self.done = event.values["done"]
            if not self.asked and self.call.is_over and self.done < 1:
                self.asked = True  # a second signal would kill
                signal.raise_signal(signal.SIGTERM)  # the loop ends its step, saves and stops
        elif event.kind == "save":
            self._look(event.values["step"])
        elif event.kind in ("message", "warning", "log"):
            values = event.values
            say(
                f"{self.job.name}: {event.text}"
                if event.text
                else f"{self.job.name}: step {values['step']:,}, loss {values['loss']:.4f}, "
                f"{values['pairs_per_second']:,.0f} pairs/s, {values['done']:.0%}"
            )

    def _look(self, step: int) -> None:
        """A point of the curve, where the last one is long enough ago; the end is measured in full anyway."""
        curve = self.results.values.get("curve", [])
        minutes = self.done * (self.job.config.training.minutes or 1.0)
        if self.call.is_over or self.done >= 1:
            return
        if minutes < (curve[-1]["minutes"] if curve else 0.0) + self.call.every_minutes:
            return
        system, tokenizer, config = load_model(self.folder, device())
        answers = answer(DiffuSeqPipeline(system, tokenizer, config), self.pairs, config.generation)
        rows = scored(predictions(self.pairs, answers), self.job.task, bootstrap=0)["rows"]
        point = {"minutes": minutes, "step": step, "rows": len(self.pairs), "scores": rows["chosen"]}
        self.results.put("curve", value=[*curve, point])
        say(f"{self.job.name}: minute {minutes:.1f}, valid BLEU {rows['chosen']['bleu']:.4f}")


# The command


def main(argv: Sequence[str] | None = None) -> int:
    """0 when all is done, 75 (try again) when the call was over before."""
    options = _options(argv)
    prepare_memory()
    phases = chosen(options.phases if options.dry_run else options.phases or "headline", PHASES, "phase")
    if options.only is not None:
        options.only = chosen(options.only, _names(phases), "job of these phases")
    if options.data is not None and not options.data.is_dir():
        raise InputError(f"There is no folder {options.data}; give --data the one that has the data sets.")
    work = options.work or options.out / "work"
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str((work / "inductor").absolute()))
    torch.set_float32_matmul_precision("high")
    call = Call(
        data=options.data or work / "data",
        work=work,
        out=options.out,
        deadline=time.monotonic() + 60 * options.call_minutes - SAVING_S,
        every_minutes=0.0 if options.dry_run else options.curve_minutes,
        rows=3 if options.dry_run else options.rows,
        final=options.final,
        dials=not options.no_dials,
        dry=options.dry_run,
    )
    if options.data is None:
        _make_data(call)
    if options.together:
        return _run_together(sys.argv[1:] if argv is None else argv, options)
    unfinished = [phase for phase in phases if not _run_phase(phase, call, options)]
    say("all is done" if not unfinished else f"left for the next call: {', '.join(unfinished)}")
    return 75 if unfinished else 0


def _run_phase(phase: str, call: Call, options: argparse.Namespace) -> bool:
    if phase == "speed":
        return bool(options.only) or run_speed(call)  # no job of any name
    make, minutes = JOBS[phase]
    done = True
    for job in make(options.minutes or minutes):
        if options.only and job.name not in options.only:
            continue
        try:
            find_split(call.folder(job.task), "train")
        except InputError as error:
            if phase != "tasks":
                raise
            say(f"{job.name} is left out: {error}")
            continue
        done &= run_job(shrink(job) if call.dry else job, call)
    return done


def _names(phases: Sequence[str]) -> list[str]:
    return [job.name for phase in phases if phase in JOBS for job in JOBS[phase][0](1.0)]


def _run_together(arguments: Sequence[str], options: argparse.Namespace) -> int:
    """Every job of --only in a process of its own, all at the same time on one GPU: small networks leave room,
    and systems under the same load for the same minutes are compared fairly. What they print goes to OUT/NAME.log.
    A signal to this process reaches all of them.
    """
    names = options.only or []
    if len(names) < 2:
        raise InputError(
            "--together needs --only with at least two jobs, as --only headline,transformer-medium."
        )
    options.out.mkdir(parents=True, exist_ok=True)
    rest = [argument for argument in arguments if argument != "--together"]
    running = []
    with ended_together():
        for name in names:
            with open(options.out / f"{name}.log", "a", encoding="utf-8") as log:
                command = [sys.executable, __file__, *rest, "--only", name]
                running.append(start(command, stdout=log, stderr=subprocess.STDOUT))
        codes = [process.wait() for process in running]
    for name, code in zip(names, codes, strict=True):
        say(f"{name}: {'done' if code == 0 else f'ended with {code}'}, see {options.out / f'{name}.log'}")
    return next((code for code in codes if code not in (0, 75)), max(codes))


def _make_data(call: Call) -> None:
    """The built-in corpus in the place of every data set, for a dry run."""
    if not call.dry:
        raise InputError("Give --data with the folder of the data sets, or --dry-run.")
    for task in TASKS:
        folder = call.data / task
        if not folder.exists():
            folder.mkdir(parents=True)
            write_corpus(folder, num_train=64, num_valid=8, num_test=8)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    parser.add_argument("--work", type=Path, help="checkpoints and caches, kept between calls (OUT/work)")
    parser.add_argument("--out", type=Path, required=True, help="what is worth keeping")
    parser.add_argument("--phases", help=f"some of {','.join(PHASES)}; headline, or all in a dry run")
    parser.add_argument("--only", help="of these phases only the jobs with these names, with commas")
    parser.add_argument("--together", action="store_true", help="the jobs of --only at the same time")
    parser.add_argument(
        "--minutes", type=positive, help="training of one system, instead of what its phase takes"
    )
    parser.add_argument("--call-minutes", type=not_negative, default=9.5, help="end this call after so long")
    parser.add_argument(
        "--curve-minutes", type=not_negative, default=3.0, help="between two points of the curve"
    )
    parser.add_argument("--rows", type=count, help="validation and test rows, instead of all")
    parser.add_argument(
        "--no-dials", action="store_true", help="settings as they are, without calls and candidates"
    )
    parser.add_argument("--final", action="store_true", help="score the test set too: once, for the table")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes, seconds a phase, made-up data")
    return parser.parse_args(argv)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InputError as error:
        print(f"gpu.py: {error}", file=sys.stderr)
        sys.exit(2)
    except TrainingStopped as stopped:
        print(f"gpu.py: {stopped}", file=sys.stderr)
        sys.exit(stopped.code)
