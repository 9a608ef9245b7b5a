"""Estimates of lengths: what is measured of the visible points, corrected, with how sure the estimate is.

Everything here is the same for a scene of any size: geometry is in units of a region's own distance from the camera, or of a pair's, and
only the last step multiplies by that unit. Estimates are natural logarithms of metres.

Legend: N regions, M pairs of regions, F geometry features with the unit "range" (the last one is the logarithm of the unit), D text width,
K region measures, C candidates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from .configuration_smolrgpt import REGION_MEASURES, SmolRGPTConfig
from .region_embedding import POOL_EPSILON, FanInLinear, RegionFeatures, ScaledLayerNorm, embedding_scale, fourier_features
from .region_geometry import LOG_UNIT, feature_names

#: Least spread of an estimate, the mean absolute error of its logarithm: half a percent, a few millimetres of a metre.
MIN_SPREAD = 0.005
#: Lengths are at least this share of their unit: logarithms stay finite. Chosen: a pixel of an image of 1,000 pixels.
MIN_SHARE = 1e-3
#: Initial logit of the first candidate of a length against the others: an untrained estimate is the first candidate.
FIRST_CANDIDATE = 3.0
#: A pair's features from the regions' own vectors (rgb, depth, geo), projected to this width. Chosen.
PAIR_WIDTH = 64
#: Factors of the logarithm of a ratio of two lengths before tanh: from lengths that differ much to those that differ by some percent.
RATIO_SHARPNESS = (1.0, 5.0, 25.0)

_NAMES = feature_names("range")
_COLUMN = {name: i for i, name in enumerate(_NAMES)}
_LENGTHS = [i for name, i in _COLUMN.items() if (name.endswith("_m") and name != "range_m") or name == "depth_spread"]
_MIDDLE = [_COLUMN[name] for name in ("x_m", "y_m", "z_m")]


@dataclass(frozen=True)
class LogLength:
    """Estimated lengths.

    Attributes:
        value: natural logarithms of metres, float32 of any shape.
        spread: of the same shape, the expected absolute error of each.
    """

    value: Tensor
    spread: Tensor

    def __getitem__(self, index: Any) -> LogLength:
        """Return some of the lengths; the index is one of tensors."""
        return LogLength(self.value[index], self.spread[index])

    @classmethod
    def where(cls, condition: Tensor, a: LogLength, b: LogLength) -> LogLength:
        """Return the lengths of ``a`` where the condition holds, else those of ``b``."""
        return cls(torch.where(condition, a.value, b.value), torch.where(condition, a.spread, b.spread))


def column(geometry: Tensor, name: str) -> Tensor:
    """Return one feature (N,) of region geometry (N, F)."""
    return geometry[:, _COLUMN[name]]


# ---------------------------------------------------------------------------------------------------------------------- candidates
def region_candidates(geometry: Tensor) -> tuple[Tensor, Tensor]:
    """Return logarithms of visible lengths in the region's unit (N, K, C = 2), and which of them are known (N, K, C) bool.

    The candidates of each measure come in this order: width and size from the floor's rectangle, else from the box in the camera's frame;
    height and elevation from the floor, else (for what stands on something else) from the object's own foot.
    """
    has_camera, has_floor = column(geometry, "has_camera") > 0, column(geometry, "has_floor") > 0
    low, high = column(geometry, "floor_low_m"), column(geometry, "floor_high_m")
    long, short = column(geometry, "floor_long_m"), column(geometry, "floor_short_m")
    x, y, z = (column(geometry, f"extent_{axis}_m") for axis in "xyz")
    rows = {
        "width": ((long, has_floor), (x, has_camera)),
        "height": ((high, has_floor), (torch.where(has_floor, high - low, y), has_camera)),
        "elevation": (((low + high) / 2, has_floor), (torch.where(has_floor, (high - low) / 2, y / 2), has_camera)),
        "size": (((long * short * (high - low)).clamp(min=0) ** (1 / 3), has_floor), ((x * y * z).clamp(min=0) ** (1 / 3), has_camera)),
        "range": ((torch.ones_like(x), column(geometry, "is_metric") > 0),) * 2,
    }
    values = torch.stack([torch.stack([value for value, _ in rows[name]], 1) for name in REGION_MEASURES], 1)
    known = torch.stack([torch.stack([flag for _, flag in rows[name]], 1) for name in REGION_MEASURES], 1)
    return values.clamp(min=MIN_SHARE).log(), known


def to_common_unit(geometry_a: Tensor, geometry_b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Convert the geometry (M, F) of two regions to one unit, the geometric mean of theirs; returns log of the unit (M,), too.

    Where one of them has no known lengths, lengths stay as they are and the unit is a metre.
    """
    log_a, log_b = column(geometry_a, LOG_UNIT), column(geometry_b, LOG_UNIT)
    known = (column(geometry_a, "has_camera") * column(geometry_b, "has_camera")) > 0
    log_unit = torch.where(known, (log_a + log_b) / 2, 0.0)
    scaled = []
    for geometry, log_own in ((geometry_a, log_a), (geometry_b, log_b)):
        scaled.append(geometry.clone())
        factor = torch.where(known, log_own - log_unit, 0.0).exp()
        scaled[-1][:, _LENGTHS] = geometry[:, _LENGTHS] * factor[:, None]
    return scaled[0], scaled[1], log_unit


def mask_overlaps(coverage_a: Tensor, coverage_b: Tensor) -> Tensor:
    """Return the shares (M, 2) of the first mask that the second covers, and of the second that the first covers, of masks (M, g*g)."""
    a, b = coverage_a.float(), coverage_b.float()
    both = torch.minimum(a, b).sum(1)
    return torch.stack([both / a.sum(1).clamp(min=POOL_EPSILON), both / b.sum(1).clamp(min=POOL_EPSILON)], 1)


def _combine(logits: Tensor, candidates: Tensor, known: Tensor) -> Tensor:
    """Return the weighted mean (...) of known candidates (..., C), 0 where none is known."""
    weights = torch.where(known, logits, -1e4).softmax(-1)  # finite: of candidates that are all unknown, weights must have a gradient
    return (torch.where(known, candidates, 0.0) * torch.where(known, weights, 0.0)).sum(-1)


def _spread(raw: Tensor) -> Tensor:
    return (math.log(MIN_SPREAD) + functional.softplus(raw - math.log(MIN_SPREAD) / 2)).exp()  # 0.07 for 0; has a gradient everywhere


class EstimateOutput(nn.Linear):
    """The last layer of an estimator, in float32 and zero at first: an untrained estimate is what was measured."""

    initial_std = 0.0

    def forward(self, hidden: Tensor) -> Tensor:
        """Apply the layer to (..., width)."""
        with torch.autocast(hidden.device.type, enabled=False):  # bf16 would round a length to 1 %
            return functional.linear(hidden.float(), self.weight.float(), self.bias.float())


# ---------------------------------------------------------------------------------------------------------------------- estimators
class SmolRGPTRegionEstimator(nn.Module):
    """Estimates the lengths of a region's object, `REGION_MEASURES`, from its geometry and its features."""

    outputs_per_measure = 4  # two logits of candidates, a correction, the logarithm of the spread

    def __init__(self, config: SmolRGPTConfig):
        super().__init__()
        width = config.text_config.hidden_size
        self.features_norm = nn.LayerNorm(width)
        self.fc1 = FanInLinear(len(_NAMES) - 1 + width, 2 * width)
        self.fc2 = FanInLinear(2 * width, 2 * width)
        self.out = EstimateOutput(2 * width, self.outputs_per_measure * len(REGION_MEASURES))

    def forward(self, geometry: Tensor, features: Tensor) -> LogLength:
        """Estimate (N, K) from geometry (N, F) and features (N, D), which the loss does not train.

        The distance from the camera is measured, not corrected.
        """
        geometry = geometry.float()
        inputs = torch.cat([geometry[:, :-1].to(features.dtype), self.features_norm(features.detach())], 1)
        hidden = functional.gelu(self.fc2(functional.gelu(self.fc1(inputs.to(self.fc1.weight.dtype)))))
        raw = self.out(hidden).unflatten(1, (len(REGION_MEASURES), self.outputs_per_measure))
        candidates, known = region_candidates(geometry)
        first = torch.tensor([FIRST_CANDIDATE, 0.0], device=raw.device)
        visible = _combine(raw[..., :2] + first, candidates, known) + geometry[:, -1:]
        value, spread = visible + raw[..., 2], _spread(raw[..., 3])
        is_range = torch.tensor([name == "range" for name in REGION_MEASURES], device=raw.device) & known[..., 0]
        return LogLength(torch.where(is_range, visible, value), torch.where(is_range, 2 * MIN_SPREAD, spread))


class SmolRGPTPairEstimator(nn.Module):
    """Embeds a pair of regions, and estimates the distance between the middles of their objects."""

    def __init__(self, config: SmolRGPTConfig):
        super().__init__()
        width, dim = config.text_config.hidden_size, len(_NAMES) - 1
        self.num_frequencies = 2 * config.geometry_num_frequencies
        self.features_norm = nn.LayerNorm(width)
        self.features = FanInLinear(width, PAIR_WIDTH)
        self.fc1 = FanInLinear(2 * (dim + PAIR_WIDTH) + (dim + 2) * (1 + 2 * self.num_frequencies) + 2, 2 * width)
        self.fc2 = FanInLinear(2 * width, width)
        self.norm = ScaledLayerNorm(width, embedding_scale(config))
        self.distance_fc = FanInLinear(2 * width, 2 * width)
        self.distance_out = EstimateOutput(2 * width, 2)

    def forward(self, pairs: Tensor, regions: RegionFeatures) -> tuple[Tensor, LogLength]:
        """Embed pairs (M, 2), rows of the regions, as (M, D), and estimate the distances (M,) of their objects' middles."""
        row_a, row_b = pairs.unbind(1)
        geometry, vectors, coverage = cast(Tensor, regions.geometry), regions.fused, cast(Tensor, regions.coverage)
        geometry_a, geometry_b = geometry[row_a], geometry[row_b]
        a, b, log_unit = to_common_unit(geometry_a.float(), geometry_b.float())
        known = (column(a, "has_camera") * column(b, "has_camera")) > 0
        offset = (b[:, _MIDDLE] - a[:, _MIDDLE]).norm(dim=1)
        visible = torch.where(known, offset.clamp(min=MIN_SHARE).log(), 0.0)  # (M,)
        farther = torch.where(known, (geometry_b - geometry_a).float()[:, -1], 0.0)[:, None]  # (M, 1) log of how much farther b is
        relation = torch.cat([b[:, :-1] - a[:, :-1], visible[:, None] / 3, farther], 1)
        looks = self.features(self.features_norm(vectors.detach().to(self.fc1.weight.dtype)))  # (N, PAIR_WIDTH)
        overlaps = mask_overlaps(coverage[row_a], coverage[row_b])
        inputs = torch.cat([a[:, :-1], b[:, :-1], fourier_features(relation, self.num_frequencies), overlaps], 1)
        hidden = functional.gelu(self.fc1(torch.cat([inputs.to(looks.dtype), looks[row_a], looks[row_b]], 1)))
        raw = self.distance_out(functional.gelu(self.distance_fc(hidden)))
        length = LogLength(visible + log_unit + raw[:, 0], _spread(raw[:, 1]))
        embedding: Tensor = self.norm(self.fc2(hidden))
        return embedding, length


class SmolRGPTLengthComparer(nn.Module):
    """Embeds how a length in a text compares with the length before it."""

    def __init__(self, config: SmolRGPTConfig):
        super().__init__()
        width = config.text_config.hidden_size
        self.fc = FanInLinear(2 + len(RATIO_SHARPNESS), width)
        self.norm = ScaledLayerNorm(width, embedding_scale(config))

    def forward(self, log_ratio: Tensor) -> Tensor:
        """Embed logarithms of ratios (M,), NaN where there is no length before, as (M, D)."""
        known = ~log_ratio.isnan()
        ratio = torch.where(known, log_ratio, 0.0)
        columns = [torch.tanh(sharpness * ratio) for sharpness in RATIO_SHARPNESS]
        features = torch.stack([ratio.clamp(-5, 5) / 5, *columns, known.float()], 1)
        embedding: Tensor = self.norm(self.fc(features.to(self.fc.weight.dtype)))
        return embedding


# -------------------------------------------------------------------------------------------------------------- derived lengths, loss
def difference(a: LogLength, b: LogLength) -> LogLength:
    """Return the absolute differences of lengths; their spread adds both in metres."""
    metres = (a.value.exp() - b.value.exp()).abs()
    least = MIN_SHARE * torch.maximum(a.value, b.value).exp()
    error = (a.spread * a.value.exp()).hypot(b.spread * b.value.exp())
    metres = metres.clamp(min=least)
    return LogLength(metres.log(), (error / metres).clamp(min=MIN_SPREAD))


def horizontal_gap(distance: LogLength, vertical: LogLength) -> LogLength:
    """Return the distance along the floor of two middles from their distance and their vertical gap."""
    squared = (2 * distance.value).exp() - (2 * vertical.value).exp()
    metres = squared.clamp(min=0).sqrt().clamp(min=MIN_SHARE * distance.value.exp())
    return LogLength(metres.log(), (distance.spread * distance.value.exp() / metres).clamp(min=MIN_SPREAD))


def laplace_loss(estimated: LogLength, metres: Tensor) -> Tensor | None:
    """Return the mean negative log-likelihood of known lengths (any shape, NaN = unknown) under Laplace distributions; None without any.

    The mean absolute error divided by the spread, plus the logarithm of the spread: minimal where the spread is the expected error.
    """
    known = ~metres.isnan()
    if not known.any():
        return None
    error = (estimated.value[known] - metres[known].log()).abs()
    spread = estimated.spread[known]
    return (error / spread + spread.log()).mean()


def probability_within(spread: float, factor: float) -> float:
    """Return the probability (0 to 1) that a length lies within a factor (> 1) of its estimate, for an estimate with this spread."""
    return 1.0 - math.exp(-math.log(factor) / spread)


__all__ = [
    "EstimateOutput",
    "LogLength",
    "SmolRGPTLengthComparer",
    "SmolRGPTPairEstimator",
    "SmolRGPTRegionEstimator",
    "laplace_loss",
    "probability_within",
]
