"""Learning rates by parameter: a table of patterns, applied by one function."""

from __future__ import annotations

import re

import torch
from torch import nn

from smolrgpt.train.config import Rates


def find_rate(rates: Rates, name: str) -> float | None:
    """Return the learning rate of the first pattern that is found in a parameter's name; None: frozen.

    Raises ValueError when no pattern matches: silence would freeze or train the parameter by accident.
    """
    for pattern, rate in rates:
        if re.search(pattern, name):
            return rate
    raise ValueError(f"no pattern matches parameter {name!r}; add one to the stage's rates (None freezes it)")


def apply_rates(model: nn.Module, rates: Rates) -> dict[str, float]:
    """Freeze or release every parameter; returns name -> learning rate of the parameters that learn. Raises as ``find_rate``."""
    learning: dict[str, float] = {}
    for name, parameter in model.named_parameters():
        rate = find_rate(rates, name)
        parameter.requires_grad_(rate is not None)
        if rate is not None:
            learning[name] = rate
    return learning


def build_optimizer(model: nn.Module, rates: Rates, weight_decay: float) -> torch.optim.AdamW:
    """Return AdamW over the parameters that learn; matrices decay, vectors (norms, biases) do not."""
    learning = apply_rates(model, rates)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if name in learning:
            groups.setdefault((learning[name], weight_decay if parameter.ndim > 1 else 0.0), []).append(parameter)
    return torch.optim.AdamW([{"params": p, "lr": rate, "weight_decay": decay} for (rate, decay), p in groups.items()], fused=True)
