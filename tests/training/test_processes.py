"""Several processes are one run: two gloo processes equal one process with two micro-batches."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import tiny_runs as tiny
import torch
from safetensors.torch import load_file

from diffuseq.training.run import train

WORKER = """
import sys
from pathlib import Path
import tiny_runs as tiny
from diffuseq.training.run import train
train(tiny.published(evaluate_rows=2), Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_two_processes_equal_one_with_two_micro_batches(tmp_path: Path) -> None:
    """With the published system, whose time sampler learns from the losses of all processes."""
    data = tiny.write_data(tmp_path / "data")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        **os.environ,
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(data), str(tmp_path / "two")],
            env={**shared, "RANK": rank, "LOCAL_RANK": rank},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    one = train(tiny.published(evaluate_rows=2, accumulate=2), data, tmp_path / "one")
    for worker in workers:
        _, errors = worker.communicate(timeout=240)
        assert worker.returncode == 0, errors
    weights, expected = (load_file(folder / "model.safetensors") for folder in (tmp_path / "two", one))
    for name, value in expected.items():
        torch.testing.assert_close(weights[name], value, atol=1e-6, rtol=1e-5, msg=name)
    curves = [
        [json.loads(line).get("loss", 0.0) for line in (out / "metrics.jsonl").read_text().splitlines()]
        for out in (tmp_path / "two", one)
    ]
    torch.testing.assert_close(*map(torch.tensor, curves))
    assert json.loads((tmp_path / "two" / "training.json").read_text())["processes"] == 2
