"""Commands on several processes of this machine, as torchrun and `accelerate launch` start them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

PATIENCE = 240.0
"""Seconds that a test waits for processes: far more than they need, for the machine may be busy."""
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node")


def environment() -> dict[str, str]:
    """This process's, with all that it can import; asked for late, since tests add to the path."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}


def torchrun(processes: int, *arguments: str) -> list[str]:
    """The command line of a script or, with -m, of a module."""
    return [sys.executable, "-m", *TORCHRUN, f"{processes}", *arguments]


def accelerate_launch(processes: int, *arguments: str) -> list[str]:
    port = free_port()
    many = ("--multi_gpu", "--num_processes", f"{processes}", "--num_machines", "1", "--dynamo_backend", "no")
    main = ("accelerate.commands.launch", *many, "--mixed_precision", "no", "--main_process_port", f"{port}")
    return [sys.executable, "-m", *main, *arguments]


def machine(rank: int, port: int, *arguments: str) -> list[str]:
    """torchrun on one of two machines with a process each; both are this one."""
    where = (
        "--nnodes",
        "2",
        "--node-rank",
        f"{rank}",
        "--master-addr",
        "127.0.0.1",
        "--master-port",
        f"{port}",
    )
    return [sys.executable, "-m", TORCHRUN[0], *where, "--nproc-per-node", "1", *arguments]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def started(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """The command, of which nothing is left after the block."""
    with tempfile.TemporaryFile("w+") as errors:
        group = subprocess.Popen(command, stderr=errors, text=True, env=environment())
        try:
            yield group
        finally:
            kill(group)


def kill(group: subprocess.Popen[str]) -> None:
    """SIGKILL for the launcher and all that it started, which torchrun gives process groups of their own."""
    if group.poll() is None:
        started_by_it = workers(group)
        for process in (group, *started_by_it):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(started_by_it, 30)
    group.wait()


def workers(group: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes that a launcher started, in order of rank."""
    try:
        return psutil.Process(group.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def run(command: Sequence[str], expected: int = 0, seconds: float = PATIENCE) -> str:
    """What the command says on standard error, once it has ended with the `expected` status."""
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=seconds)
    assert done.returncode == expected, done.stderr[-12000:]
    return done.stderr


def script(folder: Path, text: str) -> str:
    """The path of a Python file with this text."""
    path = folder / "worker.py"
    path.write_text(text)
    return str(path)
