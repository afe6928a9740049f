"""What a benchmark started ends with it, and saves first; nothing is started after."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import children
import psutil
import pytest

ROOT = Path(__file__).parents[2]
CHILD = """
import pathlib, signal, sys, time
def stop(number, frame):
    signal.signal(number, signal.SIG_DFL)  # as in training: a second signal kills
    time.sleep(0.3)
    pathlib.Path(sys.argv[1], "saved").touch()
    sys.exit(1)
signal.signal(signal.SIGTERM, stop)
pathlib.Path(sys.argv[1], "begun").touch()
time.sleep(60)
"""
PARENT = """
import sys
from concurrent.futures import ThreadPoolExecutor
from children import call, ended_together
child, *folders = sys.argv[1:]
with ended_together(), ThreadPoolExecutor(1) as pool:
    statuses = [pool.submit(call, [sys.executable, "-c", child, folder]) for folder in folders]
    for status in statuses:
        status.result()
"""


def wait_for(path: Path, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} does not come"
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_what_was_started_and_what_was_not_yet(number: signal.Signals, tmp_path: Path) -> None:
    running, waiting = tmp_path / "running", tmp_path / "waiting"
    for folder in (running, waiting):
        folder.mkdir()
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD, str(running), str(waiting)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "benchmarks")},
        process_group=0,
    )
    wait_for(running / "begun")
    os.killpg(parent.pid, number)  # as a terminal does
    assert parent.wait(30) == 128 + number
    assert (running / "saved").exists()
    assert not (waiting / "begun").exists()


def test_jobs_side_by_side_on_a_gpu_end_with_the_command(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--dry-run", "--out", str(tmp_path)]
    command += ["--phases", "headline,again", "--only", "headline,again", "--together"]
    parent = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    for name in ("headline", "again"):
        wait_for(tmp_path / f"{name}.log")
    parent.terminate()
    assert parent.wait(60) == 128 + signal.SIGTERM
    commands = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    assert not [command for command in commands if str(tmp_path) in command]


def test_a_signal_in_the_middle_of_a_start_loses_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[subprocess.Popen[bytes]] = []

    class Slow(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, **options)  # type: ignore[call-overload]
            begun.append(self)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)

    monkeypatch.setattr(subprocess, "Popen", Slow)
    with pytest.raises(SystemExit, match="143"), children.ended_together():
        children.start(["sleep", "60"])
    assert [process.returncode for process in begun] == [-signal.SIGTERM]


def test_what_saves_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a second signal kills it."""
    asked: list[int] = []
    terminate = subprocess.Popen.terminate
    monkeypatch.setattr(subprocess.Popen, "terminate", lambda each: (asked.append(each.pid), terminate(each)))
    with pytest.raises(SystemExit, match="143"), children.ended_together():
        process = children.start(["sleep", "60"])
        os.kill(os.getpid(), signal.SIGTERM)
        process.wait()
    assert asked == [process.pid]
