"""Embeddings of regions: pooled features, geometry, pairs, and estimated lengths written as digits.

Legend: I unique images, N unique regions over all images, M pairs of regions or lengths, G side of the map that regions are pooled from,
D text width, F geometry features, K size estimates (2 or 3).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from .configuration_smolrgpt import SmolRGPTConfig
from .region_geometry import FEATURES, FLAGS, METRES_PER_UNIT, REGION_GEOMETRY_FEATURES

#: Added to a mask's sum before dividing by it, as in the released program: an empty mask pools to zero.
POOL_EPSILON = 1e-8
#: Bounds of estimated lengths, in metres: nearest and farthest that the official questions about a warehouse camera's images ask for.
LENGTH_RANGE_M = (0.05, 100.0)
#: Periods in metres after which a decimal of a written length repeats: tens, ones, tenths, hundredths.
DIGIT_PERIODS_M = (100.0, 10.0, 1.0, 0.1)
#: Divides natural logarithms of metres before they enter a linear layer: 0.05 m to 100 m becomes -1 to 1.5.
LOG_SCALE = 3.0
#: Beta of the smooth L1 losses: errors above it count linearly. Geometry features are in about [-1, 1], lengths in logarithms (5 %).
GEOMETRY_BETA, LENGTH_BETA = 0.1, 0.05

_COLUMN = {name: i for i, name in enumerate(REGION_GEOMETRY_FEATURES)}
_MIDDLE = [_COLUMN[name] for name in ("x_m", "y_m", "z_m")]
_FLAG_COLUMNS = [_COLUMN[name] for name in FLAGS]
#: (F, flags): which flags each feature needs.
_NEEDS = [[flag in feature.needs for flag in FLAGS] for feature in FEATURES]


@dataclass
class RegionFeatures:
    """Features of N regions, in the model's dtype unless stated.

    Attributes:
        tokens: (N, D) for each kind in `config.region_tokens`.
        geometry: (N, F) as the processor measured it; only with `pair_geometry`.
        log_sizes: (N, K) float32, estimated logarithms of metres: width, height, height of the middle above the floor; only with
            `estimates_sizes`.
        log_spreads: (N, K) float32, expected absolute errors of `log_sizes`, which then hold `REGION_MEASURES`; only with
            `copies_lengths`.
        coverage: (N, g*g), the masks as area fractions in [0, 1]; only with `copies_lengths`.
    """

    tokens: dict[str, Tensor] = field(default_factory=dict)
    geometry: Tensor | None = None
    log_sizes: Tensor | None = None
    log_spreads: Tensor | None = None
    coverage: Tensor | None = None

    def __len__(self) -> int:
        return len(next(iter(self.tokens.values()), ()))

    def __getitem__(self, rows: slice | Tensor) -> RegionFeatures:
        """Return the features of some regions."""
        return replace(
            self,
            tokens={kind: vectors[rows] for kind, vectors in self.tokens.items()},
            geometry=None if self.geometry is None else self.geometry[rows],
            log_sizes=None if self.log_sizes is None else self.log_sizes[rows],
            log_spreads=None if self.log_spreads is None else self.log_spreads[rows],
            coverage=None if self.coverage is None else self.coverage[rows],
        )

    @classmethod
    def concatenate(cls, parts: Iterable[RegionFeatures]) -> RegionFeatures:
        """Join the features of all parts' regions, in order; parts without regions are skipped."""
        parts = [part for part in parts if len(part)]
        if not parts:
            return cls()
        optional = {}
        for name in ("geometry", "log_sizes", "log_spreads", "coverage"):
            found = [getattr(part, name) for part in parts if getattr(part, name) is not None]
            optional[name] = torch.cat(found) if found else None
        return cls({kind: torch.cat([part.tokens[kind] for part in parts]) for kind in parts[0].tokens}, **optional)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        tensors = [*self.tokens.values(), self.geometry, self.log_sizes, self.log_spreads, self.coverage]
        return sum(tensor.nbytes for tensor in tensors if tensor is not None)

    @property
    def fused(self) -> Tensor:
        """(N, D): sum over kinds, which a region's name carries."""
        return torch.stack(list(self.tokens.values())).sum(0)


# ------------------------------------------------------------------------------------------------------------------------ layers
def embedding_scale(config: SmolRGPTConfig) -> float:
    """Return the standard deviation of new token embeddings, at which vectors placed among them start, too."""
    return float(getattr(config.text_config, "initializer_range", 0.02))


class FanInLinear(nn.Linear):
    """Linear layer initialised by fan-in, so that its output keeps the input's scale (times `gain`) at any width."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True, gain: float = 1.0):
        super().__init__(in_features, out_features, bias)
        self.initial_std = gain * in_features**-0.5


class ScaledLayerNorm(nn.LayerNorm):
    """Layer norm whose weight starts at `scale` instead of 1."""

    def __init__(self, width: int, scale: float):
        super().__init__(width)
        self.initial_scale = scale


def _linear_float32(layer: nn.Linear, hidden: Tensor) -> Tensor:
    """Apply the layer in float32, also under autocast: bf16 would round a length to 1 %."""
    with torch.autocast(hidden.device.type, enabled=False):
        return functional.linear(hidden.float(), layer.weight.float(), layer.bias.float())


def fourier_features(geometry: Tensor, num_frequencies: int) -> Tensor:
    """Map (N, F) in about [-1, 1] to (N, F * (1 + 2 frequencies)) float32; bf16's 8 bits are too few for high frequencies."""
    geometry = geometry.float()
    scales = torch.pi * 2.0 ** torch.arange(num_frequencies, device=geometry.device)
    angles = (geometry[:, :, None] * scales).flatten(1)  # (N, F * frequencies)
    return torch.cat([geometry, angles.sin(), angles.cos()], dim=1)


def digit_features(log_metres: Tensor) -> Tensor:
    """Map (M,) to (M, 1 + 8) float32: the logarithm, and sine and cosine of the length over the period of each decimal."""
    angles = 2 * torch.pi * log_metres.exp()[:, None] / torch.tensor(DIGIT_PERIODS_M, device=log_metres.device)
    return torch.cat([log_metres[:, None] / LOG_SCALE, angles.sin(), angles.cos()], dim=1)


# --------------------------------------------------------------------------------------------------------------------- embedders
class SmolRGPTGeometryEmbedder(nn.Module):
    """Fourier features of a region's geometry and a small MLP: the geometry token."""

    def __init__(self, config: SmolRGPTConfig):
        super().__init__()
        width = config.text_config.hidden_size
        self.num_frequencies = config.geometry_num_frequencies
        self.fc1 = FanInLinear(config.scale_free_geometry_dim * (1 + 2 * self.num_frequencies), width)
        self.fc2 = FanInLinear(width, width)
        self.norm = ScaledLayerNorm(width, embedding_scale(config))

    def forward(self, geometry: Tensor) -> Tensor:
        """Embed region geometry (N, F) in about [-1, 1] as (N, D)."""
        features = fourier_features(geometry, self.num_frequencies).to(self.fc1.weight.dtype)
        embedding: Tensor = self.norm(self.fc2(functional.gelu(self.fc1(features))))
        return embedding


class SmolRGPTPairEmbedder(nn.Module):
    """Embeds a pair of regions: an MLP on the geometry of both, their difference and their visible distance.

    With `estimates_distance` it also estimates the distance between the middles of the two objects, which differ from the visible middles,
    and the embedding contains that estimate's digits.
    """

    def __init__(self, config: SmolRGPTConfig):
        super().__init__()
        width, dim = config.text_config.hidden_size, config.geometry_dim
        self.num_frequencies = 2 * config.geometry_num_frequencies
        self.fc1 = FanInLinear(2 * dim + (dim + 1) * (1 + 2 * self.num_frequencies), 2 * width)
        self.fc2 = FanInLinear(2 * width, width)
        self.norm = ScaledLayerNorm(width, embedding_scale(config))
        self.estimates_distance = config.estimates_distance
        if self.estimates_distance:
            self.distance_fc = FanInLinear(2 * width, 2 * width)
            self.distance_out = nn.Linear(2 * width, 1)
            self.digits = FanInLinear(1 + 2 * len(DIGIT_PERIODS_M), width, bias=False)

    def forward(self, geometry_a: Tensor, geometry_b: Tensor) -> Tensor:
        """Embed the geometry (M, F) of the first and of the second region of M pairs as (M, D)."""
        visible = visible_log_distance(geometry_a, geometry_b)
        hidden = self._hidden(geometry_a, geometry_b, visible)
        embedding = self.fc2(hidden)
        if self.estimates_distance:
            # detached: only the estimate's own loss trains it
            log_distance = self._log_distance(hidden, visible).detach()
            embedding = embedding + self.digits(digit_features(log_distance).to(embedding.dtype))
        normalised: Tensor = self.norm(embedding)
        return normalised

    def log_distance(self, geometry_a: Tensor, geometry_b: Tensor) -> Tensor:
        """Estimate the logarithm, (M,) float32, of the metres between objects' middles from geometry (M, F) twice."""
        visible = visible_log_distance(geometry_a, geometry_b)
        return self._log_distance(self._hidden(geometry_a, geometry_b, visible), visible)

    def _hidden(self, geometry_a: Tensor, geometry_b: Tensor, visible: Tensor) -> Tensor:
        a, b = geometry_a.float(), geometry_b.float()
        relation = torch.cat([b - a, visible / LOG_SCALE], dim=1)
        features = torch.cat([a, b, fourier_features(relation, self.num_frequencies)], dim=1)
        return functional.gelu(self.fc1(features.to(self.fc1.weight.dtype)))

    def _log_distance(self, hidden: Tensor, visible: Tensor) -> Tensor:
        """Return the visible distance, or 10 m where it is unknown, times a learned correction."""
        correction = _linear_float32(self.distance_out, functional.gelu(self.distance_fc(hidden)))
        low, high = (math.log(metres) for metres in LENGTH_RANGE_M)
        return (visible + math.log(METRES_PER_UNIT) + correction)[:, 0].clamp(low, high)


class SmolRGPTSizeEmbedder(nn.Module):
    """Estimates the lengths of a region's object from its geometry and its features, and embeds a length as digits.

    The lengths are width, height and, with a third size word, the height of the object's middle above the floor.
    """

    def __init__(self, config: SmolRGPTConfig):
        super().__init__()
        width = config.text_config.hidden_size
        self.features_norm = nn.LayerNorm(width)
        self.fc1 = FanInLinear(config.geometry_dim + width, 2 * width)
        self.fc2 = FanInLinear(2 * width, 2 * width)
        self.sizes_out = nn.Linear(2 * width, config.num_size_estimates)
        self.digits = FanInLinear(1 + 2 * len(DIGIT_PERIODS_M), width, bias=False)
        self.norm = ScaledLayerNorm(width, embedding_scale(config))

    def forward(self, geometry: Tensor, features: Tensor) -> Tensor:
        """Estimate logarithms of metres, (N, K) float32, from geometry (N, F) and features (N, D).

        Each is the visible length times a learned correction. Detached from the features: the size loss trains this module only.
        """
        features = self.features_norm(features.detach().to(self.fc1.weight.dtype))
        hidden = functional.gelu(self.fc1(torch.cat([geometry.to(features.dtype), features], 1)))
        correction = _linear_float32(self.sizes_out, functional.gelu(self.fc2(hidden)))
        low, high = (math.log(metres) for metres in LENGTH_RANGE_M)
        return (visible_log_sizes(geometry)[:, : correction.shape[1]] + correction).clamp(low, high)

    def embed_length(self, log_metres: Tensor) -> Tensor:
        """Embed the digits of lengths, given as logarithms of metres (M,), as (M, D)."""
        embedding: Tensor = self.norm(self.digits(digit_features(log_metres.detach()).to(self.digits.weight.dtype)))
        return embedding


class SmolRGPTGeometryHead(nn.Module):
    """Predicts a region's geometry from its pooled vector; used by the auxiliary loss only."""

    def __init__(self, config: SmolRGPTConfig):
        super().__init__()
        width = config.text_config.hidden_size
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, width)
        self.fc2 = nn.Linear(width, config.scale_free_geometry_dim)

    def forward(self, pooled: Tensor) -> Tensor:
        """Estimate geometry (N, F) from features (N, D)."""
        geometry: Tensor = self.fc2(functional.gelu(self.fc1(self.norm(pooled))))
        return geometry


# -------------------------------------------------------------------------------------------------------- geometry in the batch
def known_feature_mask(geometry: Tensor) -> Tensor:
    """Return a mask (N, F): 1 where a column of `region_geometry` was measured, that is, all flags it needs are 1; else 0."""
    flags = geometry[:, None, _FLAG_COLUMNS]  # (N, 1, flags)
    return torch.where(torch.tensor(_NEEDS, device=geometry.device), flags, 1.0).prod(-1)


def visible_log_distance(geometry_a: Tensor, geometry_b: Tensor) -> Tensor:
    """Return (M, 1) float32: log of the distance between visible middles of (M, F) twice, in 10 m; 0 where one is unknown."""
    a, b = geometry_a.float(), geometry_b.float()
    distance = (b[:, _MIDDLE] - a[:, _MIDDLE]).norm(dim=1, keepdim=True)
    known = known_feature_mask(a)[:, _MIDDLE[:1]] * known_feature_mask(b)[:, _MIDDLE[:1]]
    return known * torch.log(distance.clamp(min=0.01))


def visible_log_sizes(geometry: Tensor) -> Tensor:
    """Map (N, F) to (N, 3) float32: log of visible width, height and middle's height, metres; 0 (1 m) without a known floor."""
    geometry = geometry.float()
    width, low, high = (geometry[:, _COLUMN[name]] for name in ("floor_long_m", "floor_low_m", "floor_high_m"))
    visible = torch.stack([width, high, (low + high) / 2], 1)  # occluders hide an object's foot, not its top
    visible = (visible * METRES_PER_UNIT).clamp(min=LENGTH_RANGE_M[0])
    return geometry[:, _COLUMN["has_floor"], None] * visible.log()


def vertical_log_distance(log_a: Tensor, log_b: Tensor) -> Tensor:
    """Return the logarithm of the difference, at least 5 cm, of two heights given as logarithms of metres (M,)."""
    return (log_a.exp() - log_b.exp()).abs().clamp(min=LENGTH_RANGE_M[0]).log()


def geometry_loss(predicted: Iterable[Tensor], geometry: Tensor) -> Tensor:
    """Return the smooth L1 loss between geometry (N, F) and the predictions (N, F) of each head, over known features only."""
    target = geometry.float()
    known = known_feature_mask(target)
    losses = []
    for prediction in predicted:
        error = functional.smooth_l1_loss(prediction.float(), target, reduction="none", beta=GEOMETRY_BETA)
        losses.append((error * known).sum() / known.sum().clamp(min=1))
    return torch.stack(losses).mean()


def length_loss(log_estimated: Tensor, metres: Tensor) -> Tensor | None:
    """Return the smooth L1 loss of logarithms of lengths, so about the relative error; None where all known lengths are NaN."""
    known = ~metres.isnan()
    if not known.any():
        return None
    return functional.smooth_l1_loss(log_estimated[known], metres[known].log(), beta=LENGTH_BETA)


def pool_masks(maps: Tensor, masks: Tensor, image_index: Tensor) -> Tensor:
    """Return the mean of each region's map under its mask, without copying the map for every region.

    Args:
        maps: (I, G*G, D), row-major.
        masks: (N, g, g) area fractions in [0, 1], averaged onto the G x G grid when g != G.
        image_index: (N,) int64, in any order.

    Returns:
        (N, D) in the maps' dtype; an empty mask pools to zero.
    """
    side = int(maps.shape[1] ** 0.5)
    masks = masks.float()
    if masks.shape[-1] != side:
        masks = functional.adaptive_avg_pool2d(masks, side)
    weights = masks.flatten(1)  # (N, G*G)
    weights = weights / (weights.sum(dim=1, keepdim=True) + POOL_EPSILON)
    member = functional.one_hot(image_index, maps.shape[0])  # (N, I)
    slot = member.cumsum(0).gather(1, image_index[:, None]).squeeze(1) - 1  # (N,) position of a region among its image's
    packed = weights.new_zeros(maps.shape[0], int(member.sum(0).max()), weights.shape[1])
    packed[image_index, slot] = weights
    return torch.bmm(packed.to(maps.dtype), maps)[image_index, slot]
