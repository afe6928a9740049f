"""The script that fuzzes: what it has found is written when it is interrupted."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "fuzz.py"


@pytest.mark.skipif(sys.platform != "linux", reason="it limits memory")
def test_an_interrupted_run_tells_and_writes_what_it_found(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--targets", "traces", "--cases", "1000000"]
    command += ["--json", str(tmp_path / "found.json")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while process.poll() is None and not children.read_text():
        time.sleep(0.1)
    time.sleep(3)  # until they are at work
    process.send_signal(signal.SIGTERM)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted; what was found until then:" in told
    assert list(json.loads((tmp_path / "found.json").read_text())) == ["traces"]
