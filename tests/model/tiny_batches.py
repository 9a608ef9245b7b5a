"""Variants of the tiny model's configuration, and parts of its batches."""

from __future__ import annotations

import pytest

from smolrgpt.model.region_geometry import feature_names

CLOSE = {"rtol": 1e-4, "atol": 1e-5}
NAMES = list(range(40, 48))
NAMED = {"region_fusion": "name", "region_name_token_ids": NAMES}
PAIRED = {**NAMED, "pair_geometry": True}
MEASURED = {**PAIRED, "estimates_distance": True, "estimates_sizes": True, "size_word_ids": {"width": 6, "height": 7}}
VERTICAL = {**MEASURED, "size_word_ids": {"width": 6, "height": 7, "vertical": 8}}
#: "width" is 6, "height" 7, "up" 8; 14 stands for a length that is copied, 15 for one that the question gives.
COPIED = {
    **NAMED,
    "copies_lengths": True,
    "size_word_ids": {"width": 6, "height": 7, "vertical": 8, "elevation": 9, "size": 10, "range": 11, "horizontal": 12, "difference": 13},
    "length_token_id": 14,
    "given_token_id": 15,
    "geometry_dim": len(feature_names("range")),
}
both_fusions = pytest.mark.parametrize(
    "changes", [{}, NAMED, PAIRED, VERTICAL, COPIED], ids=["tokens", "names", "pairs", "digits", "copies"]
)
#: Lets only names be written, so that answers are made of what carries features.
ONLY_NAMES = [i for i in range(64) if i not in NAMES]
IMAGE_KEYS = ("pixel_values", "depth_values", "region_masks", "region_image_index", "region_geometry")


def without(batch, *names):
    """The batch without these inputs."""
    return {name: value for name, value in batch.items() if name not in names}


def prompts(batch):
    """The batch up to its answers' first token, without labels: what `generate` gets."""
    return {**without(batch, "labels"), "input_ids": batch["input_ids"][:, :-2], "attention_mask": batch["attention_mask"][:, :-2]}


def question(batch, i):
    """One question alone, without its padding."""
    real = batch["attention_mask"][i] == 1
    rows = {name: batch[name][i : i + 1][:, real] for name in ("input_ids", "attention_mask", "labels") if name in batch}
    return {**batch, **rows, "image_index": batch["image_index"][i : i + 1], "region_index": batch["region_index"][i : i + 1]}
