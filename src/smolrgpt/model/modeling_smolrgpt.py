"""PyTorch SmolRGPT.

Legend: Q questions, I unique images, N unique regions over all images, R most regions of a question, T text tokens, S image side in pixels,
P image tokens, G side of the map that regions pool from, C vision width, D text width, F geometry features.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer, GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast, ModelOutput
from transformers.modeling_utils import slice_logits_to_keep
from transformers.utils import logging
from transformers.utils.generic import can_return_tuple

from .configuration_smolrgpt import METRES_PER_UNIT, REGION_GEOMETRY_FEATURES, SmolRGPTConfig
from .processing_smolrgpt import extend_vocabulary

#: Tensors that belong to the batch's images and regions, not to one question: never repeated for beams, dropped once the prompt is read.
IMAGE_INPUTS = (
    "pixel_values",
    "depth_values",
    "region_masks",
    "region_image_index",
    "region_geometry",
    "image_embeds",
    "region_embeds",
)
#: Tensors with one row per question that only the prompt needs.
QUESTION_INPUTS = ("image_index", "region_index")
#: Of these, what a name in an answer still needs (`region_fusion` "name").
NAME_INPUTS = ("region_embeds", "region_index")
#: What only a pass over the rows as they are can give.
MORE_OUTPUTS = ("output_hidden_states", "output_attentions", "use_cache")

#: What a vision checkpoint may hold beyond the tower: its pooling head and mask token, and the text side of a SigLIP pair.
DROPPED_VISION_WEIGHTS = re.compile(r"^(head|text_model)\.|^logit_(scale|bias)$|^embeddings\.mask_token$")
#: What a language checkpoint may hold beyond the model: buffers that older releases saved.
DROPPED_TEXT_WEIGHTS = re.compile(r"rotary_emb\.inv_freq$")

POOL_EPSILON = 1e-8  # of the released program: an empty mask pools to zero
REFINER_NORM_EPSILON = 1e-6  # of the released program

#: Metres that an estimated distance is held within: the nearest and farthest that a warehouse camera's questions are about.
DISTANCE_RANGE_M = (0.05, 100.0)
#: Metres after which each decimal of a written distance repeats: tens, ones, tenths, hundredths.
DIGIT_PERIODS_M = (100.0, 10.0, 1.0, 0.1)


@dataclass
class SmolRGPTFeatures:
    """What the vision side computes, in the model's dtype.

    Args:
        image_embeds (`Tensor` of shape `(I, P, D)`): the image tokens.
        region_maps (`dict[str, Tensor]` of shape `(I, G*G, D)`): row-major map per pooled kind (`"rgb"`, `"depth"`).
        region_embeds (`dict[str, Tensor]` of shape `(N, D)`): vector per region and kind in `region_tokens`; with `pair_geometry` also
            `"geometry"` (N, F), as given; with `size_loss_weight` also `"size"` (N, 2 or 3) float32, see `SmolRGPTSizeEmbedder`.
    """

    image_embeds: Tensor
    region_maps: dict[str, Tensor] = field(default_factory=dict)
    region_embeds: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class SmolRGPTModelOutputWithPast(BaseModelOutputWithPast):
    """Output of the language model, and the features that were used, for reuse."""

    image_embeds: Tensor | None = None
    region_embeds: dict[str, Tensor] | None = None


@dataclass
class SmolRGPTCausalLMOutputWithPast(ModelOutput):
    """Args:
    loss (`Tensor` of shape `()`): next-token loss, in training plus the weighted auxiliary losses.
    logits (`Tensor` of shape `(Q, T, vocabulary)`): `None` with labels, unless `logits_to_keep` or `config.train_logits` asks for them.
    geometry_loss, distance_loss, size_loss (`Tensor` of shape `()`): unweighted auxiliary losses, in training only.
    image_embeds (`Tensor` of shape `(I, P, D)`), region_embeds (`dict[str, Tensor]` of shape `(N, D)`): features used, for reuse.
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
    region_embeds: dict[str, Tensor] | None = None


def word_scale(config: SmolRGPTConfig) -> float:
    """Standard deviation of fresh word embeddings. What stands among words starts at their scale, or it drowns them."""
    return float(getattr(config.text_config, "initializer_range", 0.02))


class SmolRGPTConnector(nn.Module):
    """Pixel shuffle by `factor` (channel order: row offset, column offset, channel) and one bias-free linear layer."""

    def __init__(self, config: SmolRGPTConfig, factor: int):
        super().__init__()
        self.factor = factor
        width = config.vision_config.hidden_size * self.factor**2
        self.proj = nn.Linear(width, config.text_config.hidden_size, bias=False)
        self.proj.initial_std = word_scale(config) * width**-0.5  # type: ignore[assignment]

    def forward(self, patches: Tensor) -> Tensor:
        """(I, patches, C) row-major -> (I, P, D) row-major."""
        count, length, width = patches.shape
        side, f = int(length**0.5) // self.factor, self.factor
        cells = patches.view(count, side, f, side, f, width).transpose(2, 3)  # (I, side, side, f, f, C)
        return self.proj(cells.reshape(count, side * side, f * f * width))


class SmolRGPTUpsample(nn.ConvTranspose2d):
    """Stride-2, kernel-2 transposed convolution as the matrix product it is, channels last as the layer norms want them."""

    def __init__(self, width: int):
        super().__init__(width, width, kernel_size=2, stride=2)
        self.initial_std = width**-0.5  # every output pixel reads D inputs once: keeps the variance, at any width

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """(I, H, W, D) -> (I, 2H, 2W, D)."""
        count, height, width, channels = x.shape
        weight = self.weight.permute(2, 3, 1, 0).reshape(4 * channels, channels)  # rows: row offset, column offset, channel out
        x = functional.linear(x, weight).view(count, height, width, 2, 2, channels)
        x = x.transpose(2, 3).reshape(count, 2 * height, 2 * width, channels)
        return x if self.bias is None else x + self.bias.to(x.dtype)


class SmolRGPTRefiner(nn.Module):
    """Doubles the grid's side `refiner_stages` times; layer norm and GELU between, GELU at the end."""

    def __init__(self, config: SmolRGPTConfig):
        super().__init__()
        width, stages = config.text_config.hidden_size, config.refiner_stages
        self.upsamples = nn.ModuleList(SmolRGPTUpsample(width) for _ in range(stages))
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=REFINER_NORM_EPSILON) for _ in range(stages - 1))

    def forward(self, tokens: Tensor) -> Tensor:
        """(I, P, D) -> (I, G*G, D), both row-major."""
        side = int(tokens.shape[1] ** 0.5)
        x = tokens.unflatten(1, (side, side))
        for i, upsample in enumerate(self.upsamples):
            x = upsample(x)
            if i < len(self.norms):
                x = self.norms[i](x)
            x = functional.gelu(x)
        return x.flatten(1, 2)


def fourier_features(geometry: Tensor, num_frequencies: int) -> Tensor:
    """(N, F) in about [-1, 1] -> (N, F * (1 + 2 frequencies)) float32; bf16's 8 bits are too few for the high frequencies."""
    geometry = geometry.float()
    scales = torch.pi * 2.0 ** torch.arange(num_frequencies, device=geometry.device)
    angles = (geometry[:, :, None] * scales).flatten(1)  # (N, F * frequencies)
    return torch.cat([geometry, angles.sin(), angles.cos()], dim=1)


class SmolRGPTGeometryEmbedder(nn.Module):
    """Fourier features of a region's geometry and a small MLP: the geometry token."""

    def __init__(self, config: SmolRGPTConfig):
        super().__init__()
        width = config.text_config.hidden_size
        self.num_frequencies = config.geometry_num_frequencies
        self.fc1 = nn.Linear(config.geometry_dim * (1 + 2 * self.num_frequencies), width)
        self.fc2 = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        for linear in (self.fc1, self.fc2):  # by fan-in, so that the scale of the features survives both layers at any width
            linear.initial_std = linear.in_features**-0.5  # type: ignore[assignment]
        self.norm.initial_scale = word_scale(config)  # type: ignore[assignment]

    def forward(self, geometry: Tensor) -> Tensor:
        """(N, F) in about [-1, 1] -> (N, D)."""
        features = fourier_features(geometry, self.num_frequencies).to(self.fc1.weight.dtype)
        return self.norm(self.fc2(functional.gelu(self.fc1(features))))


class SmolRGPTPairEmbedder(nn.Module):
    """What two regions are to one another: an MLP on the geometry of both, their difference and their distance.

    With `distance_loss_weight` it also estimates the distance between the two objects' middles, which are not the visible middles, and
    the embedding says that estimate digit by digit.
    """

    def __init__(self, config: SmolRGPTConfig):
        super().__init__()
        width, dim = config.text_config.hidden_size, config.geometry_dim
        self.num_frequencies = 2 * config.geometry_num_frequencies
        self.fc1 = nn.Linear(2 * dim + (dim + 1) * (1 + 2 * self.num_frequencies), 2 * width)
        self.fc2 = nn.Linear(2 * width, width)
        self.norm = nn.LayerNorm(width)
        self.norm.initial_scale = word_scale(config)  # type: ignore[assignment]
        linears = [self.fc1, self.fc2]
        self.estimates_distance = config.distance_loss_weight > 0
        if self.estimates_distance:
            self.distance_fc = nn.Linear(2 * width, 2 * width)
            self.distance_out = nn.Linear(2 * width, 1)
            self.digits = nn.Linear(1 + 2 * len(DIGIT_PERIODS_M), width, bias=False)
            linears += [self.distance_fc, self.digits]
        for linear in linears:
            linear.initial_std = linear.in_features**-0.5  # type: ignore[assignment]

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Geometry (M, F) of the first and the second region of M pairs -> (M, D)."""
        seen = log_distance_seen(first, second)
        hidden = self._hidden(first, second, seen)
        embedding = self.fc2(hidden)
        if self.estimates_distance:
            # the estimate answers to its own loss only; the text reads it
            log_distance = self._log_distance(hidden, seen).detach()
            embedding = embedding + self.digits(digit_features(log_distance).to(embedding.dtype))
        return self.norm(embedding)

    def log_distance(self, first: Tensor, second: Tensor) -> Tensor:
        """Geometry (M, F) twice -> (M,) float32: estimated logarithm of the metres between the objects' middles."""
        seen = log_distance_seen(first, second)
        return self._log_distance(self._hidden(first, second, seen), seen)

    def _hidden(self, first: Tensor, second: Tensor, seen: Tensor) -> Tensor:
        first, second = first.float(), second.float()
        relation = torch.cat([second - first, seen / 3], dim=1)  # 0.1 m to 100 m: -1.5 to 0.8
        features = torch.cat([first, second, fourier_features(relation, self.num_frequencies)], dim=1)
        return functional.gelu(self.fc1(features.to(self.fc1.weight.dtype)))

    def _log_distance(self, hidden: Tensor, seen: Tensor) -> Tensor:
        """What is seen of the distance, corrected; where nothing is, 10 m is corrected."""
        hidden = functional.gelu(self.distance_fc(hidden))
        with torch.autocast(hidden.device.type, enabled=False):  # bf16 would round a distance to 1 %
            correction = functional.linear(hidden.float(), self.distance_out.weight.float(), self.distance_out.bias.float())
        low, high = (math.log(metres) for metres in DISTANCE_RANGE_M)
        return (seen + math.log(METRES_PER_UNIT) + correction)[:, 0].clamp(low, high)


def log_distance_seen(first: Tensor, second: Tensor) -> Tensor:
    """(M, F) twice -> (M, 1) float32: log of the distance of the visible middles in units of 10 m, 0 where one is not known in metres."""
    first, second = first.float(), second.float()
    column = {name: i for i, name in enumerate(REGION_GEOMETRY_FEATURES)}
    middle = [column[name] for name in ("x_m", "y_m", "z_m")]
    distance = (second[:, middle] - first[:, middle]).norm(dim=1, keepdim=True)
    known = geometry_weights(first)[:, middle[:1]] * geometry_weights(second)[:, middle[:1]]
    return known * torch.log(distance.clamp(min=0.01))


def digit_features(log_distance: Tensor) -> Tensor:
    """(M,) -> (M, 1 + 8) float32: the logarithm, and where the distance stands between two turns of each of its digits."""
    angles = 2 * torch.pi * log_distance.exp()[:, None] / torch.tensor(DIGIT_PERIODS_M, device=log_distance.device)
    return torch.cat([log_distance[:, None] / 3, angles.sin(), angles.cos()], dim=1)


class SmolRGPTSizeEmbedder(nn.Module):
    """How wide and how tall a region's object is, and with a third size word how high its middle is: estimated from its geometry and its
    features, which say what kind of thing it is, and said digit by digit.
    """

    def __init__(self, config: SmolRGPTConfig):
        super().__init__()
        width = config.text_config.hidden_size
        self.features_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(config.geometry_dim + width, 2 * width)
        self.fc2 = nn.Linear(2 * width, 2 * width)
        self.sizes_out = nn.Linear(2 * width, len(config.size_word_ids))
        self.digits = nn.Linear(1 + 2 * len(DIGIT_PERIODS_M), width, bias=False)
        self.norm = nn.LayerNorm(width)
        for linear in (self.fc1, self.fc2, self.digits):
            linear.initial_std = linear.in_features**-0.5  # type: ignore[assignment]
        self.norm.initial_scale = word_scale(config)  # type: ignore[assignment]

    def forward(self, geometry: Tensor, features: Tensor) -> Tensor:
        """Geometry (N, F) and features (N, D) -> (N, 2 or 3) float32: estimated logarithm of the metres across, up, and from the floor to
        the middle: what is seen of them, corrected. It learns from its own loss only, and nothing else does.
        """
        features = self.features_norm(features.detach().to(self.fc1.weight.dtype))
        hidden = functional.gelu(self.fc1(torch.cat([geometry.to(features.dtype), features], 1)))
        hidden = functional.gelu(self.fc2(hidden))
        with torch.autocast(hidden.device.type, enabled=False):
            correction = functional.linear(hidden.float(), self.sizes_out.weight.float(), self.sizes_out.bias.float())
        low, high = (math.log(metres) for metres in DISTANCE_RANGE_M)
        return (log_sizes_seen(geometry)[:, : correction.shape[1]] + correction).clamp(low, high)

    def say(self, log_metres: Tensor) -> Tensor:
        """(M,) -> (M, D)."""
        return self.norm(self.digits(digit_features(log_metres.detach()).to(self.digits.weight.dtype)))


def log_sizes_seen(geometry: Tensor) -> Tensor:
    """(N, F) -> (N, 3) float32: log of the metres across, up and from the floor to the middle of what is visible, 0 (1 m) where the floor
    is not known.
    """
    column = {name: i for i, name in enumerate(REGION_GEOMETRY_FEATURES)}
    geometry = geometry.float()
    across, low, high = (geometry[:, column[name]] for name in ("floor_long_m", "floor_low_m", "floor_high_m"))
    seen = torch.stack([across, high, (low + high) / 2], 1)  # what stands in front hides the foot, not the top
    seen = (seen * METRES_PER_UNIT).clamp(min=DISTANCE_RANGE_M[0])
    return geometry[:, column["has_floor"], None] * seen.log()


class SmolRGPTGeometryHead(nn.Module):
    """Reads a region's geometry out of its pooled vector; used by the auxiliary loss only."""

    def __init__(self, config: SmolRGPTConfig):
        super().__init__()
        width = config.text_config.hidden_size
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, width)
        self.fc2 = nn.Linear(width, config.geometry_dim)

    def forward(self, pooled: Tensor) -> Tensor:
        """(N, D) -> (N, F)."""
        return self.fc2(functional.gelu(self.fc1(self.norm(pooled))))


def pool_masks(maps: Tensor, masks: Tensor, image_index: Tensor) -> Tensor:
    """Mean of each region's map under its mask, without a copy of the map per region.

    maps (I, G*G, D) row-major; masks (N, g, g) area fractions in [0, 1], averaged onto the G x G grid when g != G;
    image_index (N,) int64, in any order. Returns (N, D) in the maps' dtype; an empty mask pools to zero.
    """
    side = int(maps.shape[1] ** 0.5)
    masks = masks.float()
    if masks.shape[-1] != side:
        masks = functional.adaptive_avg_pool2d(masks, side)
    weights = masks.flatten(1)  # (N, G*G)
    weights = weights / (weights.sum(dim=1, keepdim=True) + POOL_EPSILON)
    member = functional.one_hot(image_index, maps.shape[0])  # (N, I)
    slot = member.cumsum(0).gather(1, image_index[:, None]).squeeze(1) - 1  # (N,) which region of its image this is
    packed = weights.new_zeros(maps.shape[0], int(member.sum(0).max()), weights.shape[1])
    packed[image_index, slot] = weights
    return torch.bmm(packed.to(maps.dtype), maps)[image_index, slot]


def pack_rows(attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    """How to lay questions of unequal length side by side in rows as long as the longest: first fit, longest first.

    attention_mask (Q, T) zeros and ones. Returns (B, L) int64 twice: the place of each token in the flat (Q * T), -1 where a row stays
    empty, and its position in its own question, by which the library tells the questions of a row apart.
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
    places = torch.arange(mask.numel(), device=mask.device).view_as(mask)
    source = torch.full((len(rows), capacity), -1, device=mask.device)
    positions = torch.zeros_like(source)
    for row, questions in enumerate(rows):
        source[row, : capacity - free[row]] = torch.cat([places[i, mask[i]] for i in questions])
        positions[row, : capacity - free[row]] = torch.cat([torch.arange(lengths[i], device=mask.device) for i in questions])
    return source, positions


def latest_names(row: Tensor) -> tuple[Tensor, Tensor]:
    """Which name each word stands with, and which one stands right before that: a name itself, and the words after it up to the next one.

    row (Q, T): the region each word names, -1 for other words. Returns (Q, T) twice, the region before (-1: the name is by itself) and the
    region (-1: no name yet).
    """
    place = torch.arange(row.shape[1], device=row.device).expand_as(row)
    latest = torch.where(row >= 0, place, -1).cummax(1).values  # (Q, T) where the latest name stands
    named = torch.where(latest >= 0, row.gather(1, latest.clamp(min=0)), -1)
    before = torch.where(latest >= 1, row.gather(1, (latest - 1).clamp(min=0)), -1)
    return before, named


def latest_sizes(words: Tensor, row: Tensor, size_word_ids: list[int] | tuple[int, ...]) -> Tensor:
    """Which size each word stands with: one that is named right after a region, and the words after it up to the next region's name.

    words (Q, T) ids; row (Q, T): the region each names, -1 for other words. Returns (Q, T) places in ``size_word_ids``, -1 for none.
    """
    place = torch.arange(row.shape[1], device=row.device).expand_as(row)
    latest = torch.where(row >= 0, place, -1).cummax(1).values
    after = (latest + 1).clamp(max=row.shape[1] - 1)
    follows = words.gather(1, after)[..., None] == torch.tensor(size_word_ids, device=words.device)  # (Q, T, sizes)
    found = torch.where(follows.any(-1), follows.int().argmax(-1), -1)
    return torch.where((latest >= 0) & (place > latest), found, -1)


def _needed_flag(name: str) -> int:
    """What a column of `region_geometry` needs to be known: nothing (0), depth (1), metres (2), or metres and the floor (3)."""
    if name.startswith("depth_"):
        return 1
    return 3 if name.startswith("floor_") else 2 if name.endswith("_m") else 0


_NEEDED_FLAGS = [_needed_flag(name) for name in REGION_GEOMETRY_FEATURES]
_FLAGS = [REGION_GEOMETRY_FEATURES.index(name) for name in ("has_depth", "is_metric", "has_camera", "has_floor")]


def geometry_weights(geometry: Tensor) -> Tensor:
    """Which columns of `region_geometry` (N, F) are known, as (N, F) zeros and ones: box and flags always, the rest as the flags say."""
    if geometry.shape[1] != len(REGION_GEOMETRY_FEATURES):
        return torch.ones_like(geometry)  # another set of features: all of them count
    has_depth, is_metric, has_camera, has_floor = geometry[:, _FLAGS].unbind(1)
    metric = has_depth * is_metric * has_camera
    return torch.stack([torch.ones_like(metric), has_depth, metric, metric * has_floor], 1)[:, _NEEDED_FLAGS]


class SmolRGPTPreTrainedModel(PreTrainedModel):
    config: SmolRGPTConfig
    config_class = SmolRGPTConfig
    base_model_prefix = "model"
    input_modalities = ["image", "text"]
    supports_gradient_checkpointing = True
    _skip_keys_device_placement = ["past_key_values"]
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        # noted on the layer itself: the library passes over modules without weights of their own in models outside of it
        if (std := getattr(module, "initial_std", None)) is not None:
            init.normal_(module.weight, std=std)  # type: ignore[arg-type]
        if (scale := getattr(module, "initial_scale", None)) is not None:
            init.constant_(module.weight, scale)  # type: ignore[arg-type]


class SmolRGPTModel(SmolRGPTPreTrainedModel):
    """Vision tower, connectors, refiners, region tokens and the language model, without its head."""

    def __init__(self, config: SmolRGPTConfig):
        super().__init__(config)
        self.vision_tower = AutoModel.from_config(config.vision_config)
        self.rgb_connector = SmolRGPTConnector(config, config.pixel_shuffle_factor)
        by_patch = config.refiner == "patches"
        if by_patch and ("rgb" in config.pooled_tokens or (self.uses_depth and config.depth_path == "shared")):
            self.patch_connector = SmolRGPTConnector(config, 1)
        if self.uses_depth and config.depth_path == "separate":
            self.depth_connector = SmolRGPTConnector(config, 1 if by_patch else config.pixel_shuffle_factor)
        if config.has_refiner:
            if "rgb" in config.pooled_tokens or (self.uses_depth and config.refiner == "shared"):
                self.rgb_refiner = SmolRGPTRefiner(config)
            if self.uses_depth and config.refiner == "separate":
                self.depth_refiner = SmolRGPTRefiner(config)
        if config.region_norm:
            self.region_norms = nn.ModuleDict({kind: nn.LayerNorm(config.text_config.hidden_size) for kind in config.pooled_tokens})
            for norm in self.region_norms.values():
                norm.initial_scale = word_scale(config)  # type: ignore[assignment]
        if "geo" in config.region_tokens:
            self.geometry_embedder = SmolRGPTGeometryEmbedder(config)
        if config.pair_geometry:
            self.pair_embedder = SmolRGPTPairEmbedder(config)
        if config.size_loss_weight > 0:
            self.size_embedder = SmolRGPTSizeEmbedder(config)
        self.language_model = AutoModel.from_config(config.text_config)
        self.post_init()

    @property
    def uses_depth(self) -> bool:
        return "depth" in self.config.pooled_tokens

    def encode_patches(self, pixel_values: Tensor) -> Tensor:
        """(I, 3, S, S) -> final-norm patch features (I, patches, C). Builds no graph when the tower is frozen."""
        trainable = torch.is_grad_enabled() and any(p.requires_grad for p in self.vision_tower.parameters())
        with torch.set_grad_enabled(trainable):
            hidden = self.vision_tower(pixel_values.to(self.dtype)).last_hidden_state
        patch = self.config.vision_config.patch_size
        count = (pixel_values.shape[-2] // patch) * (pixel_values.shape[-1] // patch)
        return hidden[:, hidden.shape[1] - count :]  # class and register tokens come first, where a tower has them

    def encode_pictures(self, pixel_values: Tensor, depth_values: Tensor | None = None, with_maps: bool = True) -> Tensor:
        """(I, 3, S, S) RGB and depth pictures -> (1 or 2, I, patches, C) patch features, RGB first, in one pass of the vision tower.

        Depth is not looked at without maps, or when no token needs it. Raises ValueError when it is needed and missing.
        """
        if not (with_maps and self.uses_depth):
            return self.encode_patches(pixel_values)[None]
        if depth_values is None:
            raise ValueError("depth_values is missing but region_tokens has 'depth'; pass it (the processor writes zeros for no depth)")
        if depth_values.shape != pixel_values.shape:
            raise ValueError(f"depth_values is {tuple(depth_values.shape)}, pixel_values {tuple(pixel_values.shape)}; they must be alike")
        return self.encode_patches(torch.cat([pixel_values, depth_values])).unflatten(0, (2, -1))

    def connect_pictures(self, patch_features: Tensor, with_maps: bool = True) -> SmolRGPTFeatures:
        """Image tokens and, `with_maps`, the maps that regions pool from, for what `encode_pictures` returned.

        Raises ValueError when maps of depth are needed and its features missing.
        """
        features = SmolRGPTFeatures(self.rgb_connector(patch_features[0]))
        if with_maps and "rgb" in self.config.pooled_tokens:
            tokens = self.patch_connector(patch_features[0]) if self.config.refiner == "patches" else features.image_embeds
            features.region_maps["rgb"] = self._refine(tokens, "rgb")
        if with_maps and self.uses_depth:
            if len(patch_features) < 2:
                raise ValueError("patch_features holds no depth but region_tokens has 'depth'; encode the pictures with maps")
            features.region_maps["depth"] = self._refine(self._connector_of_depth()(patch_features[1]), "depth")
        return features

    def encode_images(self, pixel_values: Tensor, depth_values: Tensor | None = None, with_maps: bool = True) -> SmolRGPTFeatures:
        """`connect_pictures` of `encode_pictures`."""
        return self.connect_pictures(self.encode_pictures(pixel_values, depth_values, with_maps), with_maps)

    def _connector_of_depth(self) -> nn.Module:
        if self.config.depth_path == "separate":
            return self.depth_connector
        return self.patch_connector if self.config.refiner == "patches" else self.rgb_connector

    def _refine(self, tokens: Tensor, kind: str) -> Tensor:
        if not self.config.has_refiner:
            return tokens
        return (self.depth_refiner if kind == "depth" and self.config.refiner == "separate" else self.rgb_refiner)(tokens)

    def pool_regions(
        self,
        region_maps: dict[str, Tensor],
        region_masks: Tensor,
        region_image_index: Tensor | None = None,
        region_geometry: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Vectors (N, D) of each kind in `region_tokens`, for regions of already encoded images.

        region_masks (N, g, g) area fractions; region_image_index (N,) into the maps' images (all of the first when omitted);
        region_geometry (N, F), needed for the geometry token.
        """
        if region_image_index is None:
            region_image_index = torch.zeros(len(region_masks), dtype=torch.long, device=region_masks.device)
        embeds: dict[str, Tensor] = {}
        for kind in self.config.pooled_tokens:
            pooled = pool_masks(region_maps[kind], region_masks, region_image_index)
            embeds[kind] = self.region_norms[kind](pooled) if self.config.region_norm else pooled
        if "geo" in self.config.region_tokens:
            if region_geometry is None:
                raise ValueError("region_geometry is missing but region_tokens has 'geo'; pass what the processor returned")
            if region_geometry.shape[1] != self.config.geometry_dim:
                raise ValueError(
                    f"region_geometry has {region_geometry.shape[1]} columns, this model learned from {self.config.geometry_dim}; "
                    "use the version of smolrgpt that it was trained with, or train it again"
                )
            embeds["geo"] = self.geometry_embedder(region_geometry)
            if self.config.size_loss_weight > 0:
                embeds["size"] = self.size_embedder(region_geometry, self._named_features(embeds))
            if self.config.pair_geometry:
                embeds["geometry"] = region_geometry
        return embeds

    def _named_features(self, region_embeds: dict[str, Tensor]) -> Tensor:
        """(N, D): what a region's name carries of it."""
        return torch.stack([region_embeds[kind] for kind in self.config.region_tokens]).sum(0)

    def encode(
        self,
        pixel_values: Tensor | None = None,
        depth_values: Tensor | None = None,
        region_masks: Tensor | None = None,
        region_image_index: Tensor | None = None,
        region_geometry: Tensor | None = None,
        patch_features: Tensor | None = None,
    ) -> SmolRGPTFeatures:
        """All features of a batch's images and regions; refiners run only when there are regions.

        `patch_features` of an earlier `encode_pictures` replace the pixels.
        """
        with_maps = region_masks is not None and len(region_masks) > 0 and bool(self.config.region_tokens)
        if patch_features is not None:
            features = self.connect_pictures(patch_features, with_maps)
        else:
            assert pixel_values is not None
            features = self.encode_images(pixel_values, depth_values, with_maps)
        if with_maps:
            assert region_masks is not None
            features.region_embeds = self.pool_regions(features.region_maps, region_masks, region_image_index, region_geometry)
        return features

    def get_image_features(self, pixel_values: Tensor, **kwargs: Any) -> Tensor:
        """Image tokens (I, P, D) of RGB images (I, 3, S, S)."""
        return self.encode_images(pixel_values, with_maps=False).image_embeds

    def _check_placeholders(
        self,
        input_ids: Tensor,
        image_embeds: Tensor | None,
        region_embeds: dict[str, Tensor] | None,
        image_index: Tensor | None,
        region_index: Tensor | None,
    ) -> None:
        """The one place where placeholders meet features. Raises ValueError naming the first sample that does not fit, and both counts."""
        image_counts = input_ids.eq(self.config.image_token_id).sum(1)
        wanted = 0 if image_embeds is None else image_embeds.shape[1]
        for sample in ((image_counts != wanted) & (image_counts != 0)).nonzero()[:1].flatten().tolist():
            raise ValueError(f"sample {sample}: {int(image_counts[sample])} image placeholders in the text, {wanted} image features given")
        regions = torch.zeros_like(image_counts) if region_index is None else (region_index >= 0).sum(1)
        for kind, counts in self._count_regions(input_ids, regions).items():
            for sample in (counts != regions).nonzero()[:1].flatten().tolist():
                raise ValueError(
                    f"sample {sample}: {int(counts[sample])} '{kind}' region placeholders in the text, "
                    f"{int(regions[sample])} regions given; mark every region of the sample exactly once"
                )
        for kind in self.config.region_tokens:
            given = 0 if not region_embeds or kind not in region_embeds else len(region_embeds[kind])
            if region_index is not None and region_index.numel() and int(region_index.max()) >= given:
                sample = int((region_index >= given).any(1).nonzero()[0])
                raise ValueError(f"sample {sample}: points at region {int(region_index[sample].max())}, but only {given} regions are given")
        if image_embeds is not None and image_index is not None and int(image_index.max()) >= len(image_embeds):
            sample = int((image_index >= len(image_embeds)).nonzero()[0])
            raise ValueError(f"sample {sample}: points at image {int(image_index[sample])}, but only {len(image_embeds)} images are given")

    def _count_regions(self, input_ids: Tensor, regions: Tensor) -> dict[str, Tensor]:
        """Kind of placeholder -> how many each row (Q,) has; of names, how many different ones of the row's regions."""
        if self.config.region_fusion == "tokens":
            return {kind: input_ids.eq(self.config.placeholder_token_ids[kind]).sum(1) for kind in self.config.region_tokens}
        most = int(regions.max()) if len(regions) else 0
        name = self._name_of(input_ids)
        named = torch.stack([(name == i).any(1) for i in range(most)] or [torch.zeros_like(regions, dtype=torch.bool)])
        return {"name": (named & (torch.arange(len(named), device=regions.device)[:, None] < regions)).sum(0)}

    def _name_of(self, input_ids: Tensor) -> Tensor:
        """(Q, T) ids -> which region's name each token is, -1 for other words."""
        number = torch.full((self.config.text_config.vocab_size,), -1, dtype=torch.long, device=input_ids.device)
        names = torch.tensor(self.config.region_name_token_ids, device=input_ids.device)
        number[names] = torch.arange(len(names), device=input_ids.device)
        return number[input_ids]

    def _add_to_names(
        self, embeds: Tensor, input_ids: Tensor, region_embeds: dict[str, Tensor], region_index: Tensor, context_ids: Tensor | None
    ) -> Tensor:
        """(Q, T, D) with each region's features, summed over kinds, added wherever its name is written; what a pair of names is known for,
        there and with the words after it; and the size that is named after a name, likewise.

        context_ids (Q, T0 + T): all words up to the last of `input_ids`, when the first T0 have been read before.
        """
        words = input_ids if context_ids is None else context_ids
        context = self._region_named(words, region_index)
        row = context[:, -input_ids.shape[1] :]  # (Q, T)
        places = row >= 0
        vectors = self._named_features(region_embeds).to(embeds.dtype)
        embeds = embeds.index_put(places.nonzero(as_tuple=True), vectors[row[places]], accumulate=True)
        first, second = (rows[:, -input_ids.shape[1] :] for rows in latest_names(context))
        pairs = first >= 0
        if "size" in region_embeds:
            size = latest_sizes(words, context, self.config.size_word_ids)[:, -input_ids.shape[1] :]
            apart = pairs & (size == 2)
            sized = apart | (size >= 0) & (size < 2)
            one, other = (region_embeds["size"][rows[sized], size[sized]] for rows in (second, first))
            difference = (one.exp() - other.exp()).abs().clamp(min=DISTANCE_RANGE_M[0]).log()
            said = self.size_embedder.say(torch.where(apart[sized], difference, one)).to(embeds.dtype)
            embeds = embeds.index_put(sized.nonzero(as_tuple=True), said, accumulate=True)
            pairs = pairs & (size != 2)  # of such a pair nothing else is said
        if not self.config.pair_geometry:
            return embeds
        distinct, index = torch.stack([first[pairs], second[pairs]], 1).unique(dim=0, return_inverse=True)
        geometry = region_embeds["geometry"]
        related = self.pair_embedder(geometry[distinct[:, 0]], geometry[distinct[:, 1]]).to(embeds.dtype)
        return embeds.index_put(pairs.nonzero(as_tuple=True), related[index], accumulate=True)

    def _region_named(self, input_ids: Tensor, region_index: Tensor) -> Tensor:
        """(Q, T) ids and (Q, R) -> (Q, T) rows of the region table; -1 where a word names none of the question's regions."""
        name = self._name_of(input_ids)
        if not region_index.shape[1]:
            return torch.full_like(name, -1)
        named = (name >= 0) & (name < region_index.shape[1])
        return torch.where(named, region_index.gather(1, name.clamp(0, region_index.shape[1] - 1)), -1)

    def merge(
        self,
        input_ids: Tensor,
        image_embeds: Tensor | None,
        region_embeds: dict[str, Tensor] | None,
        image_index: Tensor | None,
        region_index: Tensor | None,
        decoding: bool = False,
        context_ids: Tensor | None = None,
    ) -> Tensor:
        """(Q, T) token ids -> (Q, T, D) embeddings with every placeholder replaced by its feature, in order of appearance.

        With `region_fusion` "name" regions have no placeholders: their names carry their features.
        """
        if image_embeds is not None and image_index is None:
            image_index = default_image_index(len(input_ids), len(image_embeds), input_ids.device)
        if not decoding:  # an answer may hold any token; only a prompt is checked
            self._check_placeholders(input_ids, image_embeds, region_embeds, image_index, region_index)
        embeds = self.get_input_embeddings()(input_ids)  # (Q, T, D)
        if image_embeds is not None and image_index is not None:
            places = input_ids.eq(self.config.image_token_id)  # (Q, T)
            rows = image_index[places.any(1)]  # text-only questions take no image
            embeds = embeds.masked_scatter(places[..., None], image_embeds.to(embeds.dtype)[rows])
        if region_index is not None and region_embeds and self.config.region_fusion == "name":
            embeds = self._add_to_names(embeds, input_ids, region_embeds, region_index, context_ids)
        elif region_index is not None and region_embeds:
            wanted = region_index[region_index >= 0]  # (regions mentioned,) question by question
            for kind in self.config.region_tokens:
                places = input_ids.eq(self.config.placeholder_token_ids[kind])
                embeds = embeds.masked_scatter(places[..., None], region_embeds[kind].to(embeds.dtype)[wanted])
        return embeds

    def _needs_features(self, input_ids: Tensor) -> bool:
        ids = torch.tensor([*self.config.placeholder_token_ids.values(), *self.config.region_name_token_ids], device=input_ids.device)
        return bool(torch.isin(input_ids, ids).any())

    def _read_packed(self, inputs_embeds: Tensor, attention_mask: Tensor, **kwargs: Any) -> Any:
        """The language model on (Q, T, D) without its padding: short questions share a row, and do not see one another.

        The hidden states come back as (Q, T, D); where there was padding they are zero.
        """
        source, position_ids = pack_rows(attention_mask)
        count, length, width = inputs_embeds.shape
        rows = inputs_embeds.reshape(count * length, width)[source.clamp(min=0)]
        outputs = self.language_model(inputs_embeds=rows, position_ids=position_ids, **{**kwargs, "use_cache": False})
        real = source >= 0
        hidden = outputs.last_hidden_state
        unpacked = hidden.new_zeros(count * length, width).index_put((source[real],), hidden[real])
        return BaseModelOutputWithPast(last_hidden_state=unpacked.view(count, length, width))  # type: ignore[arg-type]

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        pixel_values: Tensor | None = None,
        depth_values: Tensor | None = None,
        region_masks: Tensor | None = None,
        region_image_index: Tensor | None = None,
        region_geometry: Tensor | None = None,
        image_index: Tensor | None = None,
        region_index: Tensor | None = None,
        patch_features: Tensor | None = None,
        image_embeds: Tensor | None = None,
        region_embeds: dict[str, Tensor] | None = None,
        context_ids: Tensor | None = None,
        **kwargs: Any,
    ) -> SmolRGPTModelOutputWithPast:
        """
        input_ids, attention_mask (Q, T) left padded; pixel_values, depth_values (I, 3, S, S); region_masks (N, g, g) area fractions;
        region_image_index (N,); region_geometry (N, F); image_index (Q,) into I; region_index (Q, R) into N, -1 = padding.
        `patch_features` (V, I, patches, C) of an earlier `encode_pictures` replace the pixels, and so do
        `image_embeds` (I, P, D) and `region_embeds` {kind: (N, D)} of an earlier `encode`. context_ids (Q, T0 + T): all
        words up to the last of `input_ids` when `past_key_values` holds the first T0 (`pair_geometry` wants them, `generate` passes them).
        Raises ValueError when placeholders and features do not match.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("pass exactly one of input_ids and inputs_embeds")
        if sum(given is not None for given in (pixel_values, patch_features, image_embeds)) > 1:
            raise ValueError("pass only one of pixel_values, patch_features and image_embeds")
        if input_ids is not None:
            if (pixel_values is not None or patch_features is not None) and self._needs_features(input_ids):
                features = self.encode(pixel_values, depth_values, region_masks, region_image_index, region_geometry, patch_features)
                image_embeds, region_embeds = features.image_embeds, features.region_embeds
            decoding = past_key_values is not None and past_key_values.get_seq_length() > 0
            inputs_embeds = self.merge(input_ids, image_embeds, region_embeds, image_index, region_index, decoding, context_ids)
        assert inputs_embeds is not None
        plain = past_key_values is None and position_ids is None and not any(kwargs.get(name) for name in MORE_OUTPUTS)
        if self.training and plain and attention_mask is not None and attention_mask.dim() == 2:
            outputs = self._read_packed(inputs_embeds, attention_mask, **kwargs)
        else:
            outputs = self.language_model(
                inputs_embeds=inputs_embeds,
                attention_mask=attention_mask,
                position_ids=position_ids,
                past_key_values=past_key_values,
                **kwargs,
            )
        return SmolRGPTModelOutputWithPast(
            last_hidden_state=outputs.last_hidden_state,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            image_embeds=image_embeds,
            region_embeds=region_embeds,
        )


def default_image_index(num_questions: int, num_images: int, device: torch.device) -> Tensor:
    """(Q,) when the caller gave none: one image each, or one for all. Raises ValueError otherwise."""
    if num_images == num_questions:
        return torch.arange(num_questions, device=device)
    if num_images == 1:
        return torch.zeros(num_questions, dtype=torch.long, device=device)
    raise ValueError(f"{num_questions} questions and {num_images} images: pass image_index to say which question is about which image")


def load_backbone(auto_class: Any, name: str, config: Any, dropped: re.Pattern[str]) -> PreTrainedModel:
    """A pretrained part in float32. Raises ValueError naming every weight that is missing, misshapen, or neither used nor `dropped`."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # the library would list what is dropped; what is wrong is raised below
    try:
        model, found = auto_class.from_pretrained(name, config=config, dtype=torch.float32, output_loading_info=True)
    finally:
        logging.set_verbosity(verbosity)
    faults = {kind: sorted(map(str, found[f"{kind}_keys"])) for kind in ("missing", "mismatched", "unexpected")}
    faults["unexpected"] = [key for key in faults["unexpected"] if not dropped.search(key)]
    if any(faults.values()):
        listed = "; ".join(f"{kind}: {', '.join(keys)}" for kind, keys in faults.items() if keys)
        raise ValueError(f"{name} does not fit a {type(model).__name__}: {listed}; give a checkpoint that holds the whole model")
    return model


def load_tower(source: str) -> PreTrainedModel:
    """The vision tower of a checkpoint, in float32."""
    found = AutoConfig.from_pretrained(source)
    if isinstance(found, SmolRGPTConfig):
        return SmolRGPTForConditionalGeneration.from_pretrained(source, dtype=torch.float32).model.vision_tower
    found = getattr(found, "vision_config", found)
    if hasattr(found, "vision_use_head"):
        found.vision_use_head = False
    return load_backbone(AutoModel, source, found, DROPPED_VISION_WEIGHTS)


def load_language(source: str) -> PreTrainedModel:
    """The language model of a checkpoint with its head, in float32."""
    found = AutoConfig.from_pretrained(source)
    if not isinstance(found, SmolRGPTConfig):
        return load_backbone(AutoModelForCausalLM, source, found, DROPPED_TEXT_WEIGHTS)
    whole = SmolRGPTForConditionalGeneration.from_pretrained(source, dtype=torch.float32)
    language = AutoModelForCausalLM.from_config(whole.config.text_config, dtype=torch.float32)
    language.base_model.load_state_dict(whole.model.language_model.state_dict())
    language.lm_head.load_state_dict(whole.lm_head.state_dict())
    return language


def input_rows(language: PreTrainedModel) -> Tensor:
    """Word embeddings (V, D)."""
    return language.get_input_embeddings().weight  # type: ignore[return-value]


def join_configs(tower: PreTrainedModel, language: PreTrainedModel, changes: dict[str, Any]) -> dict[str, Any]:
    """Fields of the `SmolRGPTConfig` that two backbones make, with changes; those of the backbones are changes to their own fields."""
    vision = {**tower.config.to_dict(), **changes.get("vision_config", {})}
    text = {**language.config.to_dict(), **changes.get("text_config", {})}
    text["vocab_size"] = max(len(input_rows(language)), text["vocab_size"])
    text["initializer_range"] = float(input_rows(language).std())  # what stands among words starts at their measured scale
    tied = {"tie_word_embeddings": language.config.tie_word_embeddings}
    return {**tied, **changes, "vision_config": vision, "text_config": text}


def fit_tower(tower: PreTrainedModel, target: PreTrainedModel) -> dict[str, Tensor]:
    """The tower's weights for `target`, the same without what is dropped; where its images have another size, position embeddings are
    resampled as the tower itself would.
    """
    like, side = target.state_dict(), target.config.image_size
    state = {name: value for name, value in tower.state_dict().items() if name in like or not DROPPED_VISION_WEIGHTS.search(name)}
    for name, value in state.items():
        if "position_embedding" in name and value.shape != like[name].shape:
            patches = value.new_empty(1, *like[name].shape[-2:])  # only its shape is looked at
            state[name] = tower.embeddings.interpolate_pos_encoding(patches, side, side).view_as(like[name])  # type: ignore[operator, union-attr]
    return state


def append_rows(old: Tensor, count: int) -> Tensor:
    """(V, D) -> (count, D): old rows as they are; new ones drawn from the normal distribution with the old rows' mean and covariance.

    Drawn without touching the global random state, so that whatever else is initialised does not depend on the vocabulary.
    """
    if count == len(old):
        return old
    centred = old - old.mean(0)
    mixing = torch.randn(count - len(old), len(old), generator=torch.Generator().manual_seed(0)) / len(old) ** 0.5
    return torch.cat([old, old.mean(0) + mixing.to(old) @ centred])  # a normal mixture of centred rows has their covariance


class SmolRGPTForConditionalGeneration(SmolRGPTPreTrainedModel, GenerationMixin):
    """SmolRGPT with its language model head: `forward` for training, `generate` for answers."""

    _tied_weights_keys = {"lm_head.weight": "model.language_model.embed_tokens.weight"}
    main_input_name = "input_ids"

    def __init__(self, config: SmolRGPTConfig):
        super().__init__(config)
        self.model = SmolRGPTModel(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        if config.geometry_loss_weight > 0:
            self.geometry_heads = nn.ModuleDict({kind: SmolRGPTGeometryHead(config) for kind in config.pooled_tokens})
        self.post_init()
        # a placeholder in an answer would have no feature
        self.generation_config.suppress_tokens = sorted(config.placeholder_token_ids.values())

    @classmethod
    @torch.no_grad()
    def from_backbones(
        cls, vision: str, text: str, *, attn_implementation: str | None = None, **config: Any
    ) -> SmolRGPTForConditionalGeneration:
        """A model whose vision tower and language model are pretrained and whose own modules are new, in float32.

        Args:
            vision: hub id or folder of a SigLIP or SigLIP2 pair or tower of fixed resolution, or of a Dinov2 tower. Its pooling head, mask
                token and text side are left behind. A SmolRGPT gives its own tower.
            text: hub id or folder of a causal language model of the Llama family, tied head or not, or of a SmolRGPT, which gives its own.
            config: fields of `SmolRGPTConfig`. `vision_config` and `text_config` are changes to the backbones' own: another `image_size`
                resamples the position embeddings once; a larger `vocab_size` appends rows (see `append_rows`), a smaller one is not obeyed.
                Without an `image_token_id` the vocabulary is extended as `text`'s tokenizer is (see `SmolRGPTProcessor.from_backbones`).
        Raises ValueError naming each weight that a checkpoint lacks or that the model has no place for.
        """
        if "image_token_id" not in config:
            config = extend_vocabulary(AutoTokenizer.from_pretrained(text), config)
        tower, language = load_tower(vision), load_language(text)
        joined = SmolRGPTConfig(**join_configs(tower, language, config))
        model = cls._from_config(joined, dtype=torch.float32, attn_implementation=attn_implementation)
        model.model.vision_tower.load_state_dict(fit_tower(tower, model.model.vision_tower))
        rows = {"embed_tokens.weight": append_rows(input_rows(language), joined.text_config.vocab_size)}
        model.model.language_model.load_state_dict({**language.base_model.state_dict(), **rows})
        if not joined.tie_word_embeddings:
            model.lm_head.weight.copy_(append_rows(language.lm_head.weight, joined.text_config.vocab_size))
        return model

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def encode(self, *args: Any, **kwargs: Any) -> SmolRGPTFeatures:
        """See `SmolRGPTModel.encode`."""
        return self.model.encode(*args, **kwargs)

    def encode_images(self, *args: Any, **kwargs: Any) -> SmolRGPTFeatures:
        """See `SmolRGPTModel.encode_images`."""
        return self.model.encode_images(*args, **kwargs)

    def pool_regions(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """See `SmolRGPTModel.pool_regions`."""
        return self.model.pool_regions(*args, **kwargs)

    def get_image_features(self, pixel_values: Tensor, **kwargs: Any) -> Tensor:
        return self.model.get_image_features(pixel_values, **kwargs)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        pixel_values: Tensor | None = None,
        depth_values: Tensor | None = None,
        region_masks: Tensor | None = None,
        region_image_index: Tensor | None = None,
        region_geometry: Tensor | None = None,
        image_index: Tensor | None = None,
        region_index: Tensor | None = None,
        image_embeds: Tensor | None = None,
        region_embeds: dict[str, Tensor] | None = None,
        pair_index: Tensor | None = None,
        pair_distance: Tensor | None = None,
        size_index: Tensor | None = None,
        region_size: Tensor | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        num_items_in_batch: int | Tensor | None = None,
        **kwargs: Any,
    ) -> SmolRGPTCausalLMOutputWithPast:
        """
        See `SmolRGPTModel.forward` for the inputs. labels (Q, T) int64, -100 ignored, not shifted (position t holds token t).
        `num_items_in_batch`: labelled tokens over all accumulated micro-batches; the loss is then a sum divided by it, else a mean.
        pair_index (M, 2) int64 rows of the region table, pair_distance (M,) float32 metres > 0: known distances.
        size_index (M,) int64 rows of the region table, region_size (M, 3) float32 metres > 0 across, up and from the
        floor to the middle, NaN = not known.
        """
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            pixel_values=pixel_values,
            depth_values=depth_values,
            region_masks=region_masks,
            region_image_index=region_image_index,
            region_geometry=region_geometry,
            image_index=image_index,
            region_index=region_index,
            image_embeds=image_embeds,
            region_embeds=region_embeds,
            **kwargs,
        )
        loss = geometry_loss = distance_loss = size_loss = None
        if labels is not None:
            loss, share = self._answer_loss(outputs.last_hidden_state, labels, num_items_in_batch)
            geometry_loss = self._geometry_loss(outputs.region_embeds, region_geometry)
            if geometry_loss is not None:
                loss = loss + self.config.geometry_loss_weight * share * geometry_loss
            distance_loss = self._distance_loss(region_geometry, pair_index, pair_distance)
            if distance_loss is not None:
                loss = loss + self.config.distance_loss_weight * share * distance_loss
            size_loss = self._size_loss(outputs.region_embeds, size_index, region_size)
            if size_loss is not None:
                loss = loss + self.config.size_loss_weight * share * size_loss
        keep_logits = labels is None or self.config.train_logits or not (isinstance(logits_to_keep, int) and logits_to_keep == 0)
        return SmolRGPTCausalLMOutputWithPast(
            loss=loss,
            logits=self.lm_head(slice_logits_to_keep(outputs.last_hidden_state, logits_to_keep)) if keep_logits else None,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            geometry_loss=geometry_loss,
            distance_loss=distance_loss,
            size_loss=size_loss,
            image_embeds=outputs.image_embeds,
            region_embeds=outputs.region_embeds,
        )

    def _answer_loss(self, hidden: Tensor, labels: Tensor, num_items: int | Tensor | None) -> tuple[Tensor, Tensor | float]:
        """Cross entropy on the labelled positions only, and this batch's share of all accumulated labelled tokens (else 1)."""
        targets = labels[:, 1:].to(hidden.device)
        labelled = targets != -100
        logits = self.lm_head(hidden[:, :-1][labelled]).float()  # (labelled, vocabulary)
        total = functional.cross_entropy(logits, targets[labelled], reduction="sum")
        count = labelled.sum()
        if num_items is None:
            return total / count.clamp(min=1), 1.0
        num_items = torch.as_tensor(num_items, device=total.device).clamp(min=1)  # none at all: every image of a step was unreadable
        return total / num_items, count / num_items

    def _geometry_loss(self, region_embeds: dict[str, Tensor] | None, region_geometry: Tensor | None) -> Tensor | None:
        """Smooth L1 between each region's known geometry and what its pooled vectors say of it; None when off or without regions."""
        if not self.training or self.config.geometry_loss_weight <= 0 or not region_embeds:
            return None
        if region_geometry is None:
            raise ValueError("region_geometry is missing but geometry_loss_weight is above 0; pass what the processor returned")
        target = region_geometry.float()
        known = geometry_weights(target)
        losses = []
        for kind, head in self.geometry_heads.items():
            error = functional.smooth_l1_loss(head(region_embeds[kind]).float(), target, reduction="none", beta=0.1)
            losses.append((error * known).sum() / known.sum().clamp(min=1))
        return torch.stack(losses).mean()

    def _distance_loss(self, geometry: Tensor | None, pair_index: Tensor | None, pair_distance: Tensor | None) -> Tensor | None:
        """Smooth L1 between estimated and known log distances, so about the relative error; None when off or when none is known."""
        if not self.training or self.config.distance_loss_weight <= 0 or pair_index is None or pair_distance is None or geometry is None:
            return None
        first, second = geometry[pair_index].unbind(1)
        return functional.smooth_l1_loss(self.model.pair_embedder.log_distance(first, second), pair_distance.log(), beta=0.05)

    def _size_loss(self, region_embeds: dict[str, Tensor] | None, size_index: Tensor | None, region_size: Tensor | None) -> Tensor | None:
        """The same for widths, heights and how high the middle is."""
        if not self.training or size_index is None or region_size is None or "size" not in (region_embeds or {}):
            return None
        assert region_embeds is not None
        estimated = region_embeds["size"][size_index]
        truth = region_size[:, : estimated.shape[1]]
        known = ~truth.isnan()
        if not known.any():
            return None
        return functional.smooth_l1_loss(estimated[known], truth[known].log(), beta=0.05)

    def _expand_inputs_for_generation(  # type: ignore[override]
        self,
        expand_size: int = 1,
        is_encoder_decoder: bool = False,
        input_ids: Any = None,
        **model_kwargs: Any,
    ) -> tuple[Any, dict[str, Any]]:
        """Beams and several answers repeat the questions, not the images and regions they point at."""
        images = {name: model_kwargs.pop(name) for name in IMAGE_INPUTS if name in model_kwargs}
        given = next((images[name] for name in ("pixel_values", "image_embeds") if images.get(name) is not None), None)
        if given is not None and input_ids is not None and model_kwargs.get("image_index") is None:
            model_kwargs["image_index"] = default_image_index(len(input_ids), len(given), input_ids.device)
        input_ids, model_kwargs = super()._expand_inputs_for_generation(  # type: ignore[misc]
            expand_size=expand_size, is_encoder_decoder=is_encoder_decoder, input_ids=input_ids, **model_kwargs
        )
        return input_ids, {**model_kwargs, **images}

    def prepare_inputs_for_generation(  # type: ignore[override]
        self, input_ids: Any, is_first_iteration: bool | None = False, **kwargs: Any
    ) -> dict[str, Any]:
        """Images and regions are read with the prompt; afterwards the cache holds them, but for what names carry."""
        inputs = super().prepare_inputs_for_generation(  # type: ignore[misc]
            input_ids, is_first_iteration=is_first_iteration, **kwargs
        )
        if not is_first_iteration and kwargs.get("use_cache", True):
            kept = NAME_INPUTS if self.config.region_fusion == "name" else ()
            inputs["context_ids"] = input_ids
            for name in (*IMAGE_INPUTS, *QUESTION_INPUTS):
                if name not in kept:
                    inputs.pop(name, None)
        return inputs

    def _update_model_kwargs_for_generation(self, outputs: Any, model_kwargs: dict[str, Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Hands the regions' features from the prompt's pass to the next, for the names in the answer."""
        model_kwargs = super()._update_model_kwargs_for_generation(outputs, model_kwargs, *args, **kwargs)  # type: ignore[misc]
        if self.config.region_fusion == "name" and outputs.region_embeds is not None:
            model_kwargs["region_embeds"] = outputs.region_embeds
        return model_kwargs


__all__ = ["SmolRGPTFeatures", "SmolRGPTForConditionalGeneration", "SmolRGPTModel", "SmolRGPTPreTrainedModel", "pool_masks"]
