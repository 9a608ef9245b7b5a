"""Memory while training on a CPU: how much there is, and keeping what is freed."""

from __future__ import annotations

import ctypes
import logging
import os

logger = logging.getLogger(__name__)

# option numbers of mallopt(3), from malloc.h
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Ask glibc not to hand every freed tensor back to the system; returns whether it agreed.

    A training step frees and takes the same tens of megabytes thousands of times; returning them each time makes the kernel clear the pages
    again, which was seen to take half of a step. Does nothing with other C libraries.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    agreed = all(mallopt(option, value) for option, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 2**28)))
    logger.debug("freed memory is kept: %s", agreed)
    return agreed


def memory_gb() -> float:
    """What the machine has, in GB; infinite where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (ValueError, OSError, AttributeError):
        return float("inf")
