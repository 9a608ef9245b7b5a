"""Limits of this machine, and the work that a computation requires."""

from __future__ import annotations

import multiprocessing
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


def machine_limits(dtype: torch.dtype, seconds: float = 0.5) -> dict[str, float]:
    """Measure FLOP/s of 1,536 x 1,536 matrix products and bytes/s of summing 512 MiB: the best of repetitions for ``seconds`` each."""
    left, right = (torch.randn(1536, 1536).to(dtype) for _ in range(2))
    vector = torch.ones(2**27)
    return {
        "flops": _best_rate(lambda: left @ right, 2 * 1536**3, seconds),
        "bytes": _best_rate(lambda: vector.sum(), vector.nbytes, seconds),
    }


def _best_rate(work: Callable[[], Any], amount: float, seconds: float) -> float:
    """Return the highest rate, in units of ``amount`` a second, at which ``work`` ran within ``seconds``; the first run does not count."""
    work()
    best, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        work()
        best = max(best, amount / (time.perf_counter() - started))
    return best


class Roofline(TorchDispatchMode):
    """Counts the matrix products that run in this context; ``seconds`` is their time at the limits of the machine.

    limits: FLOP/s and bytes/s, as of ``machine_limits``. Sums over all products: ``flops``, ``bytes`` (operands and results), and
    ``seconds``, for each product the longer of its FLOPs at the measured rate and its bytes at the measured bandwidth.
    """

    def __init__(self, limits: Mapping[str, float]):
        super().__init__()
        self.limits, self.flops, self.bytes, self.seconds = limits, 0.0, 0.0, 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        count = flop_registry.get(func._overloadpacket)
        if count is None and func is not torch.ops.prim.device.default:
            with self:  # in inference mode some operations, such as linear, arrive undecomposed
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        out = func(*args, **kwargs)
        if count is not None:
            flops = count(*args, **kwargs, out_val=out)
            moved = sum(tensor.nbytes for tensor in (*args, out) if isinstance(tensor, torch.Tensor))
            self.flops, self.bytes = self.flops + flops, self.bytes + moved
            self.seconds += max(flops / self.limits["flops"], moved / self.limits["bytes"])
        return out


def peak_bytes() -> int:
    """Return the peak memory of this process, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def about_machine() -> dict[str, Any]:
    """Return processor, number of cores and torch version."""
    return {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count(), "torch": torch.__version__}


def fresh_process() -> ProcessPoolExecutor:
    """Start a pool of one new process, whose peak memory is only that of the work given to it."""
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
