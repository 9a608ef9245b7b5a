"""A tiny SmolRGPT and batches for it: random weights, no files, milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny_batches import NAMES

from smolrgpt.model import SmolRGPTConfig, SmolRGPTForConditionalGeneration

IMAGE, RGB, DEPTH, GEO, END = 60, 61, 62, 63, 2
TINY_VISION = {
    "model_type": "siglip_vision_model",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
TINY_TEXT = {
    "model_type": "llama",
    "vocab_size": 64,
    "hidden_size": 24,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "pad_token_id": END,
    "bos_token_id": 1,
    "eos_token_id": END,
}


@pytest.fixture
def tiny_config() -> Callable[..., SmolRGPTConfig]:
    """``tiny_config(**changes)``: 4x4 patches -> 2x2 = 4 image tokens -> 8x8 map after two refiner stages."""

    def build(**changes: Any) -> SmolRGPTConfig:
        fields = {
            "vision_config": dict(TINY_VISION),
            "text_config": dict(TINY_TEXT),
            "refiner_stages": 2,
            "region_tokens": ("rgb", "depth", "geo"),
            "image_token_id": IMAGE,
            "region_token_ids": {"rgb": RGB, "depth": DEPTH, "geo": GEO},
        }
        return SmolRGPTConfig(**{**fields, **changes})

    return build


@pytest.fixture
def tiny_model(tiny_config) -> Callable[..., SmolRGPTForConditionalGeneration]:
    """``tiny_model(**changes)``: always the same weights for the same configuration, in eval mode."""

    def build(**changes: Any) -> SmolRGPTForConditionalGeneration:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return SmolRGPTForConditionalGeneration(tiny_config(**changes)).eval()

    return build


@pytest.fixture
def tiny_batch() -> Callable[..., dict[str, torch.Tensor]]:
    """``tiny_batch(config)``: two images, five regions in shuffled order, three questions of unequal length with 2, 1 and 0 regions."""

    def build(config: SmolRGPTConfig, extra_padding: int = 0) -> dict[str, torch.Tensor]:
        random = torch.Generator().manual_seed(1)
        side, size = config.vision_config.image_size, 8
        tokens = [config.region_token_ids[kind] for kind in config.region_tokens]
        first, second = ([NAMES[0]], [NAMES[1]]) if config.region_fusion == "name" else (tokens, tokens)
        image = [IMAGE] * config.num_image_tokens
        rows = [[1, *image, 5, *first, 6, *second, 7, 8, END], [1, *image, 9, *first, 10, END], [1, *image, 11, 12, 13, END]]
        length = max(map(len, rows)) + extra_padding
        labels = torch.full((3, length), -100)
        labels[:, -2:] = torch.tensor([row[-2:] for row in rows])
        return {
            "input_ids": torch.tensor([[END] * (length - len(row)) + row for row in rows]),
            "attention_mask": torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows]),
            "labels": labels,
            "pixel_values": torch.randn(2, 3, side, side, generator=random),
            "depth_values": torch.randn(2, 3, side, side, generator=random),
            "region_masks": torch.rand(5, size, size, generator=random),
            "region_image_index": torch.tensor([1, 0, 1, 0, 1]),
            "region_geometry": torch.rand(5, config.geometry_dim, generator=random) * 2 - 1,
            "image_index": torch.tensor([0, 1, 0]),
            "region_index": torch.tensor([[3, 1], [4, -1], [-1, -1]]),
        }

    return build
