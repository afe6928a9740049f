"""Freed memory is kept where the system can, and nothing is touched elsewhere."""

import os
import subprocess
import sys

import pytest

from diffuseq import memory
from diffuseq.precision import _cpu_has_bf16

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


SIZES = """
import sys
from diffuseq.memory import keep_few_products
keep_few_products() if sys.argv[1] == "few" else None
import torch
weight = torch.ones(512, 2048, dtype=torch.bfloat16)
for rows in range(1, 1000):
    torch.ones(rows, 512, dtype=torch.bfloat16) @ weight
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(
    not _cpu_has_bf16(), reason="without bf16 in hardware products are not compiled for their sizes"
)
def test_few_of_the_products_that_were_compiled_are_kept():
    # commands that other tests have run in this process have told it already
    untold = {name: value for name, value in os.environ.items() if "PRIMITIVE_CACHE" not in name}

    def most(way):
        told = [sys.executable, "-c", SIZES, way]
        return int(subprocess.run(told, capture_output=True, check=True, text=True, env=untold).stdout)

    assert most("few") < most("many") - 50_000, "kilobytes"


def test_how_many_products_are_kept_is_left_as_the_environment_says(monkeypatch):
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "7")
    memory.keep_few_products()
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "7"


PIECES = """
import numpy as np
from diffuseq.memory import FreedMemory, keep_freed_memory

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1])

keep_freed_memory()
blocks = [np.ones(100_000) for _ in range(300)]
kept = blocks[::10]
del blocks
before, freed = resident(), FreedMemory("cpu", 0.0)
given_back = freed.give_back()
print(given_back, before, resident(), sum(block.sum() for block in kept))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is on Linux only")
def test_what_is_free_between_other_blocks_is_given_back():
    run = subprocess.run([sys.executable, "-c", PIECES], capture_output=True, text=True, check=True)
    given_back, before, after, kept = run.stdout.split()
    if given_back == "False":
        pytest.skip("this system's malloc is not glibc's")
    assert int(before) - int(after) > 150e6 / os.sysconf("SC_PAGE_SIZE")  # of 216 MB that were freed
    assert float(kept) == 30 * 100_000


def test_memory_is_given_back_seldom(monkeypatch):
    calls, now = [], [100.0]
    monkeypatch.setattr(memory.time, "monotonic", lambda: now[0])
    freed = memory.FreedMemory("cpu", 20.0)
    monkeypatch.setattr(freed, "libc", type("Libc", (), {"malloc_trim": staticmethod(calls.append)}))
    now[0] = 119.0
    assert not freed.give_back() and calls == []
    now[0] = 121.0
    assert freed.give_back() and not freed.give_back() and calls == [0]


def test_memory_of_another_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert memory.FreedMemory("cpu", 0.0).give_back() is False


def test_nothing_is_given_back_beside_a_gpu_or_against_the_environment(monkeypatch):
    assert memory.FreedMemory("cuda", 0.0).give_back() is False
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    assert memory.FreedMemory("cpu", 0.0).give_back() is False
