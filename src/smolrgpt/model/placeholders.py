"""Checks whether placeholders in the text match the images and regions of a batch.

Legend: Q questions, I unique images, N unique regions over all images, R most regions of a question, T text tokens, P image tokens,
D text width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .configuration_smolrgpt import SmolRGPTConfig
from .region_embedding import RegionFeatures
from .region_names import count_names


def check_placeholders(
    config: SmolRGPTConfig,
    input_ids: Tensor,
    masks: Mapping[str, Tensor],
    image_embeds: Tensor | None,
    region_features: RegionFeatures | None,
    image_index: Tensor | None,
    region_index: Tensor | None,
) -> None:
    """Check that every question marks its image and each of its regions exactly once.

    Args:
        config: of the model.
        input_ids: (Q, T).
        masks: (Q, T) positions of the placeholders of each kind, "image" among them.
        image_embeds: (I, P, D).
        region_features: of N regions.
        image_index: (Q,) into I.
        region_index: (Q, R) into N, -1 = padding.

    Raises:
        ValueError: naming the first question whose placeholders do not match its image and regions, and both counts.
    """
    wanted = 0 if image_embeds is None else image_embeds.shape[1]
    counts = masks["image"].sum(1)
    for i in _first((counts != wanted) & (counts != 0)):
        raise ValueError(f"sample {i}: {int(counts[i])} image placeholders in the text, {wanted} image features given")
    regions = torch.zeros_like(counts) if region_index is None else (region_index >= 0).sum(1)
    counts_of = {kind: mask.sum(1) for kind, mask in masks.items() if kind != "image"}
    if config.region_fusion == "name":
        counts_of["name"] = torch.zeros_like(regions) if region_index is None else count_names(config, input_ids, region_index)
    for kind, counts in counts_of.items():
        for i in _first(counts != regions):
            raise ValueError(
                f"sample {i}: {int(counts[i])} '{kind}' region placeholders in the text, "
                f"{int(regions[i])} regions given; mark every region of the sample exactly once"
            )
    _check_index("region", region_index if config.region_tokens else None, len(region_features or ()))
    _check_index("image", image_index if image_embeds is not None else None, 0 if image_embeds is None else len(image_embeds))


def _first(wrong: Tensor) -> list[int]:
    """Return the position of the first true element of (Q,); empty when there is none."""
    positions: list[int] = wrong.nonzero()[:1].flatten().tolist()
    return positions


def _check_index(noun: str, index: Tensor | None, count: int) -> None:
    """Raise ValueError naming the first question of (Q,) or (Q, R) that points at a row outside a table of `count`."""
    if index is not None and index.numel() and int(index.max()) >= count:
        rows = index.view(len(index), -1)
        sample = _first((rows >= count).any(1))[0]
        raise ValueError(f"sample {sample}: points at {noun} {int(rows[sample].max())}, but only {count} {noun}s are given")


def default_image_index(num_questions: int, num_images: int, device: torch.device) -> Tensor:
    """Return each question's image (Q,) when none is given: one per question, or one for all. Raises ValueError otherwise."""
    if num_images == num_questions:
        return torch.arange(num_questions, device=device)
    if num_images == 1:
        return torch.zeros(num_questions, dtype=torch.long, device=device)
    raise ValueError(f"{num_questions} questions and {num_images} images: pass image_index to say which question is about which image")
