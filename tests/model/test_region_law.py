"""The most fragile link as a law: a map that knows its own coordinates, refined and pooled under a mask, returns the mask's centroid."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from smolrgpt.model.configuration_smolrgpt import SmolRGPTConfig
from smolrgpt.model.connectors import SmolRGPTRefiner
from smolrgpt.model.image_processing_smolrgpt import SmolRGPTImageProcessor
from smolrgpt.model.region_embedding import pool_masks

GRID, STAGES = 64, 3
SHARPNESS = 100.0


def coordinate_refiner() -> SmolRGPTRefiner:
    """The model's refiner with weights that turn "column i, row j" (one-hot, 64 + 64 channels) into the column and row of each finer cell.

    A tap (row offset a, column offset b) moves channel i to 2 i + b and j to 2 j + a; the norm's scale and bias push the hot channels far
    above zero and the others far below, where GELU is the identity and zero.
    """
    config = SmolRGPTConfig(
        vision_config={"model_type": "siglip_vision_model", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
        text_config={"model_type": "llama", "hidden_size": 2 * GRID, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 8},
        image_token_id=3,
        region_token_ids={"rgb": 4, "depth": 5},
        refiner_stages=STAGES,
    )
    refiner = SmolRGPTRefiner(config)
    with torch.no_grad():
        for upsample in refiner.upsamples:
            upsample.weight.zero_()
            upsample.bias.zero_()
            cell = torch.arange(GRID // 2)
            for a in (0, 1):
                for b in (0, 1):
                    upsample.weight[cell, 2 * cell + b, a, b] = 1.0
                    upsample.weight[GRID + cell, GRID + 2 * cell + a, a, b] = 1.0
        for norm in refiner.norms:
            one_hot = functional.layer_norm(torch.eye(GRID)[:1].repeat(1, 2), (2 * GRID,))
            norm.weight.fill_(SHARPNESS)
            norm.bias.fill_(-SHARPNESS * float(one_hot.max() + one_hot.min()) / 2)
    return refiner


@pytest.fixture(scope="module")
def coordinate_map() -> torch.Tensor:
    """(1, G*G, 128): the refined 8x8 map of coordinates."""
    side = GRID // 2**STAGES
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    coarse = torch.cat([functional.one_hot(columns.flatten(), GRID), functional.one_hot(rows.flatten(), GRID)], dim=1).float()
    with torch.no_grad():
        return coordinate_refiner()(coarse[None])


def pooled_centroid(coordinate_map: torch.Tensor, coverage: np.ndarray) -> tuple[float, float]:
    """(x, y) in cells, read from the pooled vector alone."""
    pooled = pool_masks(coordinate_map, torch.from_numpy(coverage)[None], torch.zeros(1, dtype=torch.long))[0].double()
    centres = torch.arange(GRID).double() + 0.5
    x, y = pooled[:GRID], pooled[GRID:]
    return float(x @ centres / x.sum()), float(y @ centres / y.sum())


def true_centroid(mask: np.ndarray) -> tuple[float, float]:
    """(x, y) of the mask in cells of the grid, from its pixels."""
    rows, columns = np.nonzero(mask)
    return (columns.mean() + 0.5) * GRID / mask.shape[1], (rows.mean() + 0.5) * GRID / mask.shape[0]


def test_refined_map_knows_every_cell(coordinate_map):
    found = coordinate_map[0].view(GRID, GRID, 2, GRID).argmax(-1)
    assert (found[..., 0] == torch.arange(GRID)).all() and (found[..., 1] == torch.arange(GRID)[:, None]).all()


def draw_mask(height: int, width: int, shape: str, seed: int) -> np.ndarray:
    """A non-empty mask of this kind anywhere in the picture."""
    rng = np.random.default_rng(seed)
    y, x = np.ogrid[:height, :width]
    cy, cx = rng.uniform(0, height), rng.uniform(0, width)
    ry, rx = rng.uniform(0.5, 1 + height / 2), rng.uniform(0.5, 1 + width / 2)
    if shape == "box":
        mask = (np.abs(y + 0.5 - cy) < ry) & (np.abs(x + 0.5 - cx) < rx)
    elif shape == "ellipse":
        mask = ((y + 0.5 - cy) / ry) ** 2 + ((x + 0.5 - cx) / rx) ** 2 < 1
    elif shape == "speckle":
        mask = rng.random((height, width)) < 0.02
    else:
        mask = np.zeros((height, width), dtype=bool)
    mask[int(cy), int(cx)] = True
    return mask


sides = st.integers(1, 400)
shapes = st.sampled_from(["box", "ellipse", "speckle", "pixel"])


@settings(max_examples=80, deadline=None)
@given(height=sides, width=sides, shape=shapes, seed=st.integers(0, 2**32 - 1))
def test_pooling_returns_the_centroid(coordinate_map, height, width, shape, seed):
    mask = draw_mask(height, width, shape, seed)
    coverage = SmolRGPTImageProcessor(grid_size=GRID).resize_mask(mask)
    found, true = pooled_centroid(coordinate_map, coverage), true_centroid(mask)
    assert np.allclose(found, true, atol=0.5 + 1e-3), f"{shape} in {height}x{width}: pooled {found}, true {true}"


@pytest.mark.parametrize("size", [(1080, 1920), (1, 4000), (2160, 3840)])
def test_a_single_pixel_keeps_its_place(coordinate_map, size):
    mask = draw_mask(*size, "pixel", seed=size[0])
    coverage = SmolRGPTImageProcessor(grid_size=GRID).resize_mask(mask)
    assert np.allclose(pooled_centroid(coordinate_map, coverage), true_centroid(mask), atol=0.5 + 1e-3)


def test_half_precision_coverage_keeps_the_law(coordinate_map):
    """Prepared images are cached in float16."""
    mask = draw_mask(1080, 1920, "pixel", seed=3)
    coverage = SmolRGPTImageProcessor(grid_size=GRID).resize_mask(mask).astype(np.float16).astype(np.float32)
    assert np.allclose(pooled_centroid(coordinate_map, coverage), true_centroid(mask), atol=0.5 + 1e-3)
