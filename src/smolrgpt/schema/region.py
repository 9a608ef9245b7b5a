"""Region: a mask as run lengths."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Region:
    """A mask as COCO compressed run lengths (column-major), the form data sets ship and the cheapest to keep.

    size: (H, W) of the mask; counts: the run-length string.
    """

    size: tuple[int, int]
    counts: str
