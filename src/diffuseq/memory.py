"""What a process keeps: the memory that is freed, for a while, and few of the matrix products that were compiled.

glibc gives every large block back to the system when it is freed. A step of a network frees and takes the
same blocks again, and each time the system hands out pages of zeros, one fault after the other. On a CPU
that was 5 % of the time of training `qqp-small`, and 10 to 40 % of that of generating with it.

What is free then lies in pieces between what is not, and a block that fits nowhere takes new memory, so that a
training's process grew to several times of what it needs. So what is free is given back after all, but seldom
(`FreedMemory`).

In bf16 a CPU's products are compiled for their sizes (oneDNN), a thousand of which are kept by default, up to some
megabytes each. Texts have any length, so that most are never needed again (docs/log.md).
"""

from __future__ import annotations

import ctypes
import os
import sys
import time

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h."""
_SIZES = (1 << 30, 1 << 25)
"""Blocks up to this are kept; older versions of glibc take no more than 32 MiB."""
_ENVIRONMENT = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


_PRODUCTS = 256
"""What one answer asks for, and the next one again: with 64 a single one takes a quarter longer (docs/log.md)."""
_CAPACITIES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "DNNL_PRIMITIVE_CACHE_CAPACITY")


def prepare_memory() -> None:
    """For a process that is going to compute; before its first matrix product."""
    keep_freed_memory()
    keep_few_products()


def keep_few_products() -> None:
    """Tell oneDNN to forget compiled products early, where the environment does not say how many it is to keep."""
    if not any(name in os.environ for name in _CAPACITIES):
        os.environ[_CAPACITIES[0]] = str(_PRODUCTS)


def keep_freed_memory() -> bool:
    """Tell glibc to keep what is freed, for the whole process. True where that was possible.

    Nothing happens on other systems, with another allocator, or where the environment already says what
    malloc is to do. The process then holds what it has needed until `FreedMemory` gives it back.
    """
    libc = _our_glibc()
    if libc is None:
        return False
    kept = any(libc.mallopt(_MMAP_THRESHOLD, size) for size in _SIZES)
    return bool(libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)) and kept


class FreedMemory:
    """What a process has freed and holds all the same; `give_back` lets the system have it every so often.

    It takes a tenth of a second or two, so that every twenty seconds it costs less than a hundredth of the time.
    Only where a CPU computes: beside a GPU there is little to give back, and the GPU would wait.
    """

    def __init__(self, device: str, seconds: float = 20.0) -> None:
        """device: the type of what computes. seconds: between two times that memory is given back, at least."""
        self.seconds, self.last = seconds, time.monotonic()
        self.libc = _our_glibc() if device == "cpu" else None

    def give_back(self) -> bool:
        """Whether the system got it: False where it is not time yet, or not ours to give."""
        now = time.monotonic()
        if self.libc is None or now - self.last < self.seconds:
            return False
        self.libc.malloc_trim(0)
        self.last = now
        return True


def _our_glibc() -> ctypes.CDLL | None:
    """The C library of this process where it is glibc, others having a mallopt that does nothing, and where the
    environment does not say what its malloc is to do."""
    if not sys.platform.startswith("linux") or any(name in os.environ for name in _ENVIRONMENT):
        return None
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version, libc.mallopt, libc.malloc_trim  # noqa: B018
    except (OSError, AttributeError):
        return None
    return libc
