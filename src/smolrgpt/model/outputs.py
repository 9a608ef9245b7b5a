"""Outputs of the model's forward passes and encoders.

Legend: Q questions, I unique images, T text tokens, P image tokens, G side of the map that regions are pooled from, D text width.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast, ModelOutput

from .region_embedding import RegionFeatures


@dataclass
class SmolRGPTFeatures:
    """Features of a batch's images and regions, in the model's dtype.

    Attributes:
        image_embeds: (I, P, D) image tokens.
        region_maps: (I, G*G, D) row-major, for each pooled kind ("rgb", "depth").
        region_features: features of the regions; empty without regions.
    """

    image_embeds: Tensor
    region_maps: dict[str, Tensor] = field(default_factory=dict)
    region_features: RegionFeatures = field(default_factory=RegionFeatures)


@dataclass
class SmolRGPTModelOutputWithPast(BaseModelOutputWithPast):
    """Output of the language model, and the features that were used, for reuse: `image_embeds` (I, P, D) and `region_features`."""

    image_embeds: Tensor | None = None
    region_features: RegionFeatures | None = None


@dataclass
class SmolRGPTCausalLMOutputWithPast(ModelOutput):
    """Output of `SmolRGPTForConditionalGeneration.forward`.

    Attributes:
        loss: () next-token loss of the answers.
        logits: (Q, T, vocabulary); `None` with labels, unless `logits_to_keep` asks for them.
        past_key_values: the cache, with `use_cache`.
        hidden_states: with `output_hidden_states`.
        attentions: with `output_attentions`.
        geometry_loss: () unweighted auxiliary loss, in training only.
        distance_loss: likewise.
        size_loss: likewise.
        image_embeds: (I, P, D) features used, for reuse.
        region_features: likewise.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    past_key_values: Cache | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    geometry_loss: Tensor | None = None
    distance_loss: Tensor | None = None
    size_loss: Tensor | None = None
    image_embeds: Tensor | None = None
    region_features: RegionFeatures | None = None
