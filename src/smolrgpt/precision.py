"""The one place that decides in which number format a device computes."""

from __future__ import annotations

from functools import cache
from pathlib import Path

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
    """``torch.bfloat16`` where the hardware of `device` multiplies it natively, else ``torch.float32``."""
    kind = torch.device(device).type
    if kind == "cpu":
        return torch.bfloat16 if _cpu_flags() & BF16_CPU_FLAGS else torch.float32
    if kind == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.float32
