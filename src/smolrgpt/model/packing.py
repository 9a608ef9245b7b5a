"""Packs questions of unequal length into rows, so that training computes no padding."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPast


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


def read_packed(language_model: nn.Module, inputs_embeds: Tensor, attention_mask: Tensor, **options: Any) -> BaseModelOutputWithPast:
    """Run a language model on (Q, T, D) without padding: short questions share a row and do not attend to each other.

    The hidden states come back as (Q, T, D), zero at padding.
    """
    source, position_ids = pack_rows(attention_mask)
    count, length, width = inputs_embeds.shape
    rows = inputs_embeds.reshape(count * length, width)[source.clamp(min=0)]
    outputs = language_model(**{**options, "inputs_embeds": rows, "position_ids": position_ids, "use_cache": False})
    real = source >= 0
    hidden = outputs.last_hidden_state
    unpacked = hidden.new_zeros(count * length, width).index_put((source[real],), hidden[real])
    return BaseModelOutputWithPast(last_hidden_state=unpacked.view(count, length, width))
