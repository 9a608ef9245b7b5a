"""Packs questions of unequal length into rows, so that training computes no padding."""

from __future__ import annotations

import torch
from torch import Tensor


def pack_rows(attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Pack questions of unequal length into rows as long as the longest: first fit, longest first.

    Args:
        attention_mask: (Q, T) zeros and ones.

    Returns:
        Two (B, L) int64 tensors: the position of each token in the flat (Q * T), -1 where a row stays empty, and its position within its
        question, by which the library separates the questions of a row.
    """
    mask = attention_mask.bool()
    lengths = mask.sum(1).tolist()
    capacity = max(1, *lengths)
    rows: list[list[int]] = []
    free: list[int] = []
    for question in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        row = next((i for i, space in enumerate(free) if space >= lengths[question]), len(rows))
        if row == len(rows):
            rows.append([])
            free.append(capacity)
        rows[row].append(question)
        free[row] -= lengths[question]
    positions = torch.arange(mask.numel(), device=mask.device).view_as(mask)
    source = torch.full((len(rows), capacity), -1, device=mask.device)
    position_ids = torch.zeros_like(source)
    for row, questions in enumerate(rows):
        source[row, : capacity - free[row]] = torch.cat([positions[i, mask[i]] for i in questions])
        position_ids[row, : capacity - free[row]] = torch.cat([torch.arange(lengths[i], device=mask.device) for i in questions])
    return source, position_ids
