"""The training loss: the answers' loss plus weighted auxiliary losses of the model's estimates."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from smolrgpt.train.config import LossWeights


def total_loss(
    outputs: Mapping[str, Any], labels: torch.Tensor, weights: LossWeights, num_items: int | torch.Tensor | None = None
) -> torch.Tensor:
    """Return the answers' loss plus the auxiliary losses that the model returned, weighted.

    Args:
        outputs: of ``SmolRGPTForConditionalGeneration.forward``.
        labels: (Q, T), as given there.
        weights: of the auxiliary losses.
        num_items: labelled tokens over all accumulated micro-batches; an auxiliary loss then counts by this batch's share of them.

    Returns:
        () float32.
    """
    share: torch.Tensor | float = 1.0
    if num_items is not None:
        labelled = (labels[:, 1:] != -100).sum()
        share = labelled / torch.as_tensor(num_items, device=labelled.device).clamp(min=1)
    loss: torch.Tensor = outputs["loss"]
    for name, weight in dataclasses.asdict(weights).items():
        auxiliary = outputs.get(f"{name}_loss")
        if auxiliary is not None:
            loss = loss + weight * share * auxiliary
    return loss
