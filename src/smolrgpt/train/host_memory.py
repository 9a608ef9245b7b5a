"""Memory of the machine that trains: how much there is, how much of it the image cache may take, and keeping what is freed."""

from __future__ import annotations

import ctypes
import logging
import os

logger = logging.getLogger(__name__)

# option numbers of mallopt(3), from malloc.h
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
#: Share of the machine's memory that the image caches of all processes and workers together may take.
MAX_CACHE_SHARE = 0.4


def keep_freed_memory() -> bool:
    """Ask glibc not to return freed tensors to the system; returns whether glibc agreed.

    A training step on a CPU frees and takes the same tens of megabytes thousands of times; when they are returned each time, the kernel
    clears the pages again, which can take half of a step. Does nothing with other C libraries.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    agreed = all(mallopt(option, value) for option, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 2**28)))
    logger.debug("freed memory is kept: %s", agreed)
    return agreed


def memory_gb() -> float:
    """Return the memory of the machine in GB; infinity where the system does not report it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (ValueError, OSError, AttributeError):
        return float("inf")


def cache_budget_gb(requested_gb: float, num_workers: int) -> float:
    """Return the GB of images that a worker may cache, so that all processes and workers of the machine stay within the budget."""
    num_caches = int(os.environ.get("LOCAL_WORLD_SIZE", 1)) * max(1, num_workers)
    return min(requested_gb, MAX_CACHE_SHARE * memory_gb()) / num_caches
