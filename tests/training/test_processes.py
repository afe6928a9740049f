"""Several processes are one run: their number changes who computes what, and nothing of what comes out."""

import json
import os
import signal
from pathlib import Path

import launch
import pytest
import tiny_runs as tiny
import torch
from safetensors.torch import load_file

from diffuseq.training.run import train
from diffuseq.training.signals import TrainingStopped
from diffuseq.training.tracking import Event

WORKER = """
import os, signal, sys
from pathlib import Path
import tiny_runs as tiny
from diffuseq.training.run import train
from diffuseq.training.signals import TrainingStopped

changes, stop_at = {changes!r}, {stop_at!r}

def on_event(event):  # heard by the first process alone
    if event.kind == "step" and event.values["step"] == stop_at:
        os.kill(os.getpid(), signal.SIGTERM)

try:
    train(tiny.{system}(**changes), Path({data!r}), Path({out!r}), resume={resume!r}, on_event=on_event)
except TrainingStopped as stopped:
    assert stopped.step == stop_at + 1, stopped  # the other processes hear of it in the next step
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_data(tmp_path_factory.mktemp("data") / "pairs")


def train_on(
    processes: int,
    folder: Path,
    data: Path,
    out: Path,
    *,
    system: str = "published",
    resume: bool = False,
    stop_at: int | None = None,
    **changes: object,
) -> None:
    """Train a tiny system on several processes; `stop_at`: the first one gets SIGTERM after so many steps."""
    text = WORKER.format(
        system=system, changes=changes, data=str(data), out=str(out), resume=resume, stop_at=stop_at
    )
    launch.run(launch.torchrun(processes, launch.script(folder, text)))


def assert_close(out: Path, expected: Path) -> None:
    """The same weights and the same curve, to rounding: sums are added in another order.

    Not compared: the bias of attention's keys (in `read` with those of queries and values), which changes no
    output. Its gradient is rounding alone, and Adam brings that to full size.
    """
    weights, others = (load_file(folder / "model.safetensors") for folder in (out, expected))
    for name, value in others.items():
        if not name.endswith(("key.bias", "read.bias")):
            torch.testing.assert_close(weights[name], value, atol=1e-6, rtol=1e-5, msg=name)
    torch.testing.assert_close(*(torch.tensor(curve(folder)) for folder in (out, expected)))


def curve(out: Path) -> list[float]:
    rows = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return [row[name] for row in rows for name in ("loss", "valid_loss") if name in row]


@pytest.mark.parametrize("fsdp", [False, True], ids=["ddp", "fsdp"])
def test_two_processes_equal_one_with_two_micro_batches(tmp_path: Path, data: Path, fsdp: bool) -> None:
    """With the published system, whose time sampler learns from the losses of all processes."""
    train(tiny.published(evaluate_rows=2, accumulate=2), data, tmp_path / "one")
    train_on(2, tmp_path, data, tmp_path / "two", evaluate_rows=2, fsdp=fsdp)
    assert_close(tmp_path / "two", tmp_path / "one")
    assert json.loads((tmp_path / "two" / "training.json").read_text())["processes"] == 2


def test_without_random_numbers_two_processes_equal_one_large_batch(tmp_path: Path, data: Path) -> None:
    """2 × B is 1 × 2B: here there is no dropout and no noise that goes by micro-batch."""
    train(tiny.plain(evaluate_rows=0), data, tmp_path / "one")
    train_on(2, tmp_path, data, tmp_path / "two", system="plain", evaluate_rows=0)
    assert_close(tmp_path / "two", tmp_path / "one")


def test_a_run_goes_on_with_other_numbers_of_processes(tmp_path: Path, data: Path) -> None:
    """One process, then two (FSDP), then four: stopped by a signal to one of them, saved by all."""
    changes = {"evaluate_rows": 0, "save_every": 100}
    train(tiny.published(**changes, accumulate=4), data, tmp_path / "undisturbed")

    def stop(event: Event) -> None:
        if event.kind == "step" and event.values["step"] == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    out = tmp_path / "moved"
    with pytest.raises(TrainingStopped):
        train(tiny.published(**changes, accumulate=4), data, out, on_event=stop)
    train_on(2, tmp_path, data, out, resume=True, stop_at=7, accumulate=2, fsdp=True, **changes)
    assert [path.name for path in (out / "resume").glob("step-*")] == ["step-8"]
    train_on(4, tmp_path, data, out, resume=True, **changes)
    assert_close(out, tmp_path / "undisturbed")


BREAKING = """
import dataclasses
from diffuseq.training.feed import Stream
from diffuseq.training.loop import NotFiniteError, fit
import tiny_runs as tiny

class Overflows(type(tiny.system())):
    def forward(self, batch, generator=None):
        loss = super().forward(batch, generator)
        return dataclasses.replace(loss, value=loss.value / (0.0 if 21 in batch.source else 1.0))

batch = tiny.batch(8)
batch.source[batch.source == 21] = 20
batch.source[5, 0] = 21
try:
    fit(Overflows(tiny.NETWORK, tiny.SPECIAL), Stream(lambda step: batch, 8), tiny.settings(accumulate=4))
except NotFiniteError as error:
    assert "on training rows 5;" in str(error), error
else:
    raise AssertionError("it goes on")
"""


def test_every_process_says_which_rows_broke_a_step(tmp_path: Path) -> None:
    """Also those that had others, whose message may be the only one that is read."""
    launch.run(launch.torchrun(2, launch.script(tmp_path, BREAKING)))


SIGNALLED = """
import os, signal
from diffuseq.training.engine import make_accelerator
from diffuseq.training.feed import Stream
from diffuseq.training.loop import prepare, train_steps
import tiny_runs as tiny

training = prepare(tiny.system(), tiny.settings(), accelerator=make_accelerator())
with training.stop.caught():
    for _ in train_steps(training, Stream(lambda step: tiny.batch(8), 8)):
        if training.progress.step == 2:
            is_main = training.accelerator.is_main_process
            os.kill(os.getpid(), signal.SIGTERM if is_main else signal.SIGINT)
assert training.progress.step == 3
assert training.stopping == signal.SIGINT, training.stopping
"""


def test_processes_that_got_different_signals_stop_at_one_of_them(tmp_path: Path) -> None:
    """And not at the mean of their numbers, a floating-point exception."""
    launch.run(launch.torchrun(2, launch.script(tmp_path, SIGNALLED)))
