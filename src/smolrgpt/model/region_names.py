"""Where a question and its answer name regions, and which lengths they name after them.

Legend: Q questions, R most regions of a question, T text tokens, K size words.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .configuration_smolrgpt import SmolRGPTConfig


def name_index(config: SmolRGPTConfig, input_ids: Tensor) -> Tensor:
    """Map ids (Q, T) to i where a token is the name `[Region i]`, to -1 elsewhere."""
    index = torch.full((config.text_config.vocab_size,), -1, dtype=torch.long, device=input_ids.device)
    names = torch.tensor(config.region_name_token_ids, device=input_ids.device)
    index[names] = torch.arange(len(names), device=input_ids.device)
    return index[input_ids]


def count_names(config: SmolRGPTConfig, input_ids: Tensor, region_index: Tensor) -> Tensor:
    """Count each question's regions (Q, R) that are named in it, (Q,)."""
    index = name_index(config, input_ids)
    named = [((index == i).any(1) & (region_index[:, i] >= 0)).long() for i in range(region_index.shape[1])]
    return torch.stack([torch.zeros_like(index[:, 0]), *named]).sum(0)


def named_regions(config: SmolRGPTConfig, input_ids: Tensor, region_index: Tensor) -> Tensor:
    """Return the rows (Q, T) of the region table that ids (Q, T) name; -1 where a token names none of its regions (Q, R)."""
    index = name_index(config, input_ids)
    if not region_index.shape[1]:
        return torch.full_like(index, -1)
    named = (index >= 0) & (index < region_index.shape[1])
    return torch.where(named, region_index.gather(1, index.clamp(0, region_index.shape[1] - 1)), -1)


def latest_regions(region_of_token: Tensor) -> tuple[Tensor, Tensor]:
    """Return, for every token, the latest region named up to it, and the region named directly before that name.

    Args:
        region_of_token: (Q, T) the region each token names, -1 for other tokens.

    Returns:
        Two (Q, T) tensors: the region before (-1: the latest name has no name directly before it) and the latest region (-1: none yet).
    """
    position = torch.arange(region_of_token.shape[1], device=region_of_token.device).expand_as(region_of_token)
    latest = torch.where(region_of_token >= 0, position, -1).cummax(1).values  # (Q, T) position of the latest name
    named = torch.where(latest >= 0, region_of_token.gather(1, latest.clamp(min=0)), -1)
    before = torch.where(latest >= 1, region_of_token.gather(1, (latest - 1).clamp(min=0)), -1)
    return before, named


def latest_size_words(input_ids: Tensor, region_of_token: Tensor, size_word_ids: Sequence[int]) -> Tensor:
    """Return, for every token, the size word that directly follows the latest region name.

    Args:
        input_ids: (Q, T) token ids.
        region_of_token: (Q, T) the region each token names, -1 for other tokens.
        size_word_ids: ids of the size words.

    Returns:
        (Q, T) indices into `size_word_ids`; -1 for names themselves and where no size word follows the name.
    """
    position = torch.arange(region_of_token.shape[1], device=region_of_token.device).expand_as(region_of_token)
    latest = torch.where(region_of_token >= 0, position, -1).cummax(1).values
    after = (latest + 1).clamp(max=region_of_token.shape[1] - 1)
    follows = input_ids.gather(1, after)[..., None] == torch.tensor(size_word_ids, device=input_ids.device)  # (Q, T, K)
    found = torch.where(follows.any(-1), follows.int().argmax(-1), -1)
    return torch.where((latest >= 0) & (position > latest), found, -1)
