"""Freed memory is kept where the system can, and nothing is touched elsewhere."""

import subprocess
import sys

import pytest

from diffuseq import memory

PAGE_FAULTS = """
import resource, sys
import numpy as np
from diffuseq.memory import keep_freed_memory
print(keep_freed_memory() if sys.argv[1] == "keep" else False)
def work():
    for _ in range(20):
        np.ones(8_000_000)
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(way):
    """Whether memory was kept, and the page faults of taking and freeing 20 blocks of 64 MB."""
    run = subprocess.run(
        [sys.executable, "-c", PAGE_FAULTS, way],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin"},
    )
    kept, count = run.stdout.split()
    return kept == "True", int(count)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is on Linux only")
def test_kept_memory_is_not_faulted_in_again():
    kept, few = faults("keep")
    if not kept:
        pytest.skip("this system's malloc is not glibc's")
    _, many = faults("leave")
    assert few < many / 10


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert memory.keep_freed_memory() is False


def test_what_the_environment_says_is_respected(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    assert memory.keep_freed_memory() is False
