"""What a process keeps: the memory that is freed, and few of the matrix products that were compiled.

glibc gives every large block back to the system when it is freed. A step of a network frees and takes the
same blocks again, and each time the system hands out pages of zeros, one fault after the other. On a CPU
that was 5 % of the time of training `qqp-small`, and 10 to 40 % of that of generating with it.

In bf16 a CPU's products are compiled for their sizes (oneDNN), a thousand of which are kept by default, up to some
megabytes each. Texts have any length, so that most are never needed again (docs/log.md).
"""

from __future__ import annotations

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h."""
_SIZES = (1 << 30, 1 << 25)
"""Blocks up to this are kept; older versions of glibc take no more than 32 MiB."""
_ENVIRONMENT = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


_PRODUCTS = 64
"""A call of a network asks for some ten different ones."""
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
    malloc is to do. The process then holds the most that it has needed until it ends.
    """
    if not sys.platform.startswith("linux") or any(name in os.environ for name in _ENVIRONMENT):
        return False
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 - musl has a mallopt that does nothing
        mallopt = library.mallopt
    except (OSError, AttributeError):
        return False
    kept = any(mallopt(_MMAP_THRESHOLD, size) for size in _SIZES)
    return bool(mallopt(_TRIM_THRESHOLD, 2**31 - 1)) and kept
