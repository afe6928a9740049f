"""A `diffuseq serve` of its own on loopback, for the benchmarks that ask one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from children import ended_together, start


@contextmanager
def served(model: str) -> Iterator[str]:
    """The server's address while the block runs. Exits with the server's own words when it does not start."""
    command = [sys.executable, "-m", "diffuseq", "serve", model, "--port", "0"]
    with ended_together():
        server = start(command, stderr=subprocess.PIPE, text=True)
        assert server.stderr is not None
        try:
            words = server.stderr.readline().split()
            if not words or words[0] != "Open":
                raise SystemExit(" ".join(words) + server.stderr.read())
            yield words[1].rstrip(";")
        finally:
            server.terminate()
            status = server.wait(30)
            print(f"the server ended with status {status} and said: {server.stderr.read() or 'nothing'}")
