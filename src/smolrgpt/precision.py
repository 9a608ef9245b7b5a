"""The number format in which a device computes: all entry points use this module."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import torch

#: Flags of /proc/cpuinfo that mean bf16 matrix products in hardware; without them bf16 is emulated and slower than fp32.
BF16_CPU_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


@cache
def _cpu_flags() -> frozenset[str]:
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return frozenset()
    lines = (line for line in info.read_text(errors="replace").splitlines() if line.lower().startswith(("flags", "features")))
    return frozenset(next(lines, "").partition(":")[2].split())


def best_dtype(device: str | torch.device) -> torch.dtype:
    """Return ``torch.bfloat16`` where the hardware of `device` multiplies it natively, else ``torch.float32``."""
    kind = torch.device(device).type
    if kind == "cpu":
        return torch.bfloat16 if _cpu_flags() & BF16_CPU_FLAGS else torch.float32
    if kind == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.float32


#: Models with fewer parameters get one CPU thread. Nano answers 29 questions a second one by one and 45 batched on one, 31 and 49 on two,
#: but 23 and 40 against 8 and 12 where another process uses one of the two cores (``benchmarks/threads.py``).
SMALL_MODEL = 100_000_000


def set_threads(model: Any, most: int | None = None) -> None:
    """Limit torch to the number of CPU threads that is fastest on a machine shared with other processes.

    That is 1 for a model smaller than ``SMALL_MODEL``, else ``most`` (None: torch's own number). OMP_NUM_THREADS overrides.
    """
    if "OMP_NUM_THREADS" in os.environ and most is None:
        return
    small = isinstance(model, torch.nn.Module) and sum(parameter.numel() for parameter in model.parameters()) < SMALL_MODEL
    torch.set_num_threads(1 if small else most or torch.get_num_threads())
