"""Inputs of the model's forward passes about images and regions, by name and shape.

Legend: Q questions, I unique images, N unique regions over all images, M known lengths, R most regions of a question, T text tokens,
S image side in pixels, P image tokens, C vision width, D text width, F geometry features, V 1 or 2 (RGB, depth).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict, cast

from torch import Tensor

from .region_embedding import RegionFeatures


class SmolRGPTInputs(TypedDict, total=False):
    """Inputs about images and regions."""

    pixel_values: Tensor | None
    """(I, 3, S, S) normalised RGB."""
    depth_values: Tensor | None
    """(I, 3, S, S) encoded depth; needed when `region_tokens` has "depth" and there are regions."""
    patch_features: Tensor | None
    """(V, I, patches, C) of an earlier `get_patch_features`, instead of the pixels."""
    region_masks: Tensor | None
    """(N, g, g) area fractions in [0, 1]."""
    region_image_index: Tensor | None
    """(N,) int64 into the images; all of the first image when omitted."""
    region_geometry: Tensor | None
    """(N, F) as measured by the processor; needed when `region_tokens` has "geo"."""
    image_embeds: Tensor | None
    """(I, P, D) of an earlier `encode`, instead of the pixels."""
    region_features: RegionFeatures | None
    """Features of an earlier `encode` or `pool_regions`, instead of masks and geometry."""
    image_index: Tensor | None
    """(Q,) int64 into the images; by default one image per question, or one for all."""
    region_index: Tensor | None
    """(Q, R) int64 into the regions, -1 = padding."""
    given_lengths: Tensor | None
    """(Q, L) float32 logarithms of metres: the lengths that a question gives, in order, NaN = padding; only with `copies_lengths`."""
    context_ids: Tensor | None
    """(Q, T0 + T) all token ids up to the last of `input_ids`, when `past_key_values` holds the first T0; `generate` passes them."""


class SmolRGPTTargets(TypedDict, total=False):
    """Known lengths, from which the auxiliary losses are computed in training."""

    pair_index: Tensor | None
    """(M, 2) int64 into the regions."""
    pair_distance: Tensor | None
    """(M,) float32 metres > 0 between the middles of the pair's objects."""
    size_index: Tensor | None
    """(M,) int64 into the regions."""
    region_size: Tensor | None
    """(M, 3) float32 metres > 0: width, height, height of the middle above the floor; NaN = unknown."""


class LanguageModelOptions(TypedDict, total=False):
    """Options of the language model, as in the library's `TransformersKwargs`."""

    use_cache: bool | None
    output_hidden_states: bool | None
    output_attentions: bool | None


class SmolRGPTKwargs(SmolRGPTInputs, LanguageModelOptions, total=False):
    """Keyword arguments of `SmolRGPTModel.forward`."""


class SmolRGPTTrainingKwargs(SmolRGPTKwargs, SmolRGPTTargets, total=False):
    """Keyword arguments of `SmolRGPTForConditionalGeneration.forward`."""

    num_items_in_batch: int | Tensor | None
    """Labelled tokens over all accumulated micro-batches; the loss is then a sum divided by it, else a mean."""


#: Inputs that belong to the batch's images and regions, not to one question: not repeated for beams, dropped after the prompt.
IMAGE_INPUTS = (
    "pixel_values",
    "depth_values",
    "region_masks",
    "region_image_index",
    "region_geometry",
    "image_embeds",
    "region_features",
)
#: Inputs with one row per question that only the prompt needs.
QUESTION_INPUTS = ("image_index", "region_index", "given_lengths")
#: Inputs still needed after the prompt with `region_fusion` "name": region names in an answer carry features.
DECODE_INPUTS = ("region_features", "region_index", "given_lengths")
#: Inputs of `SmolRGPTModel.encode`.
ENCODE_INPUTS = ("pixel_values", "depth_values", "region_masks", "region_image_index", "region_geometry", "patch_features")


def split_inputs(kwargs: Mapping[str, Any]) -> tuple[SmolRGPTInputs, dict[str, Any]]:
    """Split keyword arguments of `SmolRGPTModel.forward` into inputs about images and regions, and language model options."""
    own = SmolRGPTInputs.__optional_keys__
    inputs = {name: value for name, value in kwargs.items() if name in own}
    return cast(SmolRGPTInputs, inputs), {name: value for name, value in kwargs.items() if name not in own}
