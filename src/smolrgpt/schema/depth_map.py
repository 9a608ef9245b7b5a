"""DepthMap: planar depth with an explicit kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from smolrgpt.schema.errors import DataError

DepthKind = Literal["metric", "relative"]


@dataclass(frozen=True)
class DepthMap:
    """Planar depth with near = small.

    values: float32 (H, W). ``metric``: metres along the optical axis, > 0. ``relative``: [0, 1], affine to depth.
    NaN marks a pixel without a measurement; no other value does.
    """

    values: np.ndarray
    kind: DepthKind

    def __post_init__(self) -> None:
        if self.kind not in ("metric", "relative"):
            raise DataError(f"depth kind is {self.kind!r}; expected 'metric' or 'relative'")
        if self.values.ndim != 2 or self.values.dtype != np.float32:
            raise DataError(f"depth is {self.values.dtype} {self.values.shape}; expected float32 (H, W)")
