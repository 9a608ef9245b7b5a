"""Which parameter learns, and how fast: a table of patterns, applied in one place."""

from __future__ import annotations

import re

import torch
from torch import nn


def apply_rates(model: nn.Module, rates: tuple[tuple[str, float | None], ...]) -> dict[str, float]:
    """Freeze or release every parameter by the first pattern that is found in its name; returns name -> rate of the released ones.

    Raises ValueError for a parameter no pattern matches: silence would freeze or train it by accident.
    """
    released: dict[str, float] = {}
    for name, parameter in model.named_parameters():
        rate = next((rate for pattern, rate in rates if re.search(pattern, name)), "unmatched")
        if rate == "unmatched":
            raise ValueError(f"no pattern matches parameter {name!r}; add one to the stage's rates (None freezes it)")
        parameter.requires_grad_(rate is not None)
        if rate is not None:
            released[name] = float(rate)
    return released


def build_optimizer(model: nn.Module, rates: tuple[tuple[str, float | None], ...], weight_decay: float) -> torch.optim.AdamW:
    """AdamW over the released parameters; matrices decay, vectors (norms, biases) do not."""
    released = apply_rates(model, rates)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if name in released:
            groups.setdefault((released[name], weight_decay if parameter.ndim > 1 else 0.0), []).append(parameter)
    return torch.optim.AdamW([{"params": p, "lr": rate, "weight_decay": decay} for (rate, decay), p in groups.items()], fused=True)
