"""The script that kills: a few kills pass, and what it is there to notice is noticed."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kills.py"
spec = importlib.util.spec_from_file_location("kills_script", SCRIPT)
kills = importlib.util.module_from_spec(spec)
sys.modules["kills_script"] = kills
spec.loader.exec_module(kills)


@pytest.mark.skipif(sys.platform != "linux", reason="it forks, and counts on /proc")
def test_killed_runs_end_as_the_calm_one():
    command = [sys.executable, str(SCRIPT), "--kills", "6", "--seed", "3", "--steps", "16", "--rows", "16"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "training: 4 kills" in done.stdout and "generation: 2 kills" in done.stdout
    assert "PASSED" in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="it forks, and counts on /proc")
def test_a_signal_leaves_no_temporary_folder(tmp_path):
    command = [sys.executable, str(SCRIPT), "--kills", "60", "--steps", "200"]
    process = subprocess.Popen(
        command, env={**os.environ, "TMPDIR": str(tmp_path)}, stdout=subprocess.DEVNULL
    )
    until = time.monotonic() + 120
    while not any(tmp_path.glob("*/*/*")) and time.monotonic() < until:
        time.sleep(0.1)
    process.terminate()
    assert process.wait(60) == 143
    assert not any(tmp_path.iterdir())


@pytest.fixture
def generation(tmp_path):
    """A harness whose calm run gave two answers, and a folder in which one of them is kept."""
    made = kills.Generation.__new__(kills.Generation)
    made.kept, made.calm_file = {}, tmp_path / "calm.jsonl"
    made.calm_file.write_text("".join(line(row) for row in (0, 1)))
    keep(tmp_path / "run", line(0, row=0))
    assert made.check(tmp_path / "run")
    return made, tmp_path / "run"


def line(answer, **more):
    return json.dumps({"chosen": f"answer {answer}", "seconds": 0.5, **more}) + "\n"


def keep(folder, *lines):
    folder.mkdir(exist_ok=True)
    (folder / "predictions.jsonl.unfinished").write_text('{"identity": "x"}\n' + "".join(lines))


def test_a_lost_a_doubled_and_a_repeated_answer_are_noticed(generation):
    made, folder = generation
    keep(folder, line(0, row=0), line(1, row=1)[:10])  # a kill in the middle of a line is none of these
    assert made.check(folder)
    for lines, problem in (
        ([], "lost or were made again"),
        ([line(0, row=0), line(0, row=0)], "rows stand twice"),
        ([line(0, row=0).replace("0.5", "0.7")], "lost or were made again"),
    ):
        keep(folder, *lines)
        with pytest.raises(kills.Wrong, match=problem):
            made.check(folder)


def test_other_answers_and_half_written_files_are_noticed(generation):
    made, folder = generation
    (folder / "predictions.jsonl.unfinished").unlink()
    (folder / "predictions.jsonl").write_text(line(0) + line(2))
    with pytest.raises(kills.Wrong, match="not those of the calm run"):
        made.check_whole(folder)
    (folder / "predictions.jsonl").write_text(line(0) + line(1))
    (folder / "predictions.settings.json").write_text("{}")
    made.check_whole(folder)
    (folder / f"{kills.PARTIAL}host-1-predictions.jsonl").write_text("")
    with pytest.raises(kills.Wrong, match="left behind"):
        made.check_whole(folder)


def test_a_run_that_was_killed_when_all_was_done_may_begin_anew(generation):
    made, folder = generation
    (folder / "predictions.jsonl.unfinished").unlink()
    (folder / "predictions.jsonl").write_text(line(0).replace("0.5", "0.9") + line(1))
    (folder / "predictions.settings.json").write_text("{}")
    with pytest.raises(kills.Wrong, match="was kept, and was made again"):
        made.check(folder)
    (folder / "predictions.jsonl").write_text(line(0) + line(1))
    assert not made.check(folder)
    (folder / "predictions.jsonl").write_text(line(0).replace("0.5", "0.9") + line(1))
    made.check_whole(folder)


def test_a_folder_with_runs_is_refused(tmp_path):
    (tmp_path / "training").mkdir()
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--folder", str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 1 and "is not empty" in done.stderr
