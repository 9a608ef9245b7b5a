"""Doubts about depth that need the image, the camera, the regions or the question: sentences without a full stop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from smolrgpt.data.geometry import backproject, visible_box
from smolrgpt.schema import Camera, DepthMap, Region
from smolrgpt.schema.depth_map import short

#: Smallest and largest visible extent of a usual region, in metres: a screw; a building.
_EXTENT_RANGE_M = (0.005, 60.0)
#: Share of a region's pixels with a measurement below which lengths rest on little.
_MIN_MEASURED = 0.1
#: Share of a region's pixels at the largest value of the map's type from which the map may be cut off in it.
_MAX_AT_END = 0.1
#: Ratio of the image's side to the depth map's from which the map's pixels are coarse beside the image's.
_MAX_RATIO = 4.0


def doubts_of_depth(depth: DepthMap, image_size: tuple[int, int], asks_length: bool) -> Iterator[str]:
    """Yield what is doubtful about a depth map of an image of ``image_size`` (height, width); asks_length: a question asks for metres."""
    yield from depth.doubts()
    height, width = depth.values.shape
    if depth.kind == "metric" and image_size[0] > _MAX_RATIO * height:
        yield (
            f"the depth map is {width}x{height} and the image {image_size[1]}x{image_size[0]}: lengths of small "
            "regions are uncertain; give depth of a higher resolution"
        )
    if depth.kind == "relative" and asks_length:
        yield (
            "the depth map was read as relative, without metres, and a question asks for a length; give metric depth, or state depth_unit "
            "where the values are metric"
        )


def doubts_of_measurements(depth: DepthMap, camera: Camera | None, regions: Sequence[Region]) -> Iterator[str]:
    """Yield what is doubtful about the depth inside of regions; takes time in proportion to the regions' boxes, not to the image."""
    height, width = depth.values.shape
    camera = None if camera is None else camera.resized(width, height)
    for index, region in enumerate(regions):
        inside, top, left = _patch_at(region, (height, width))
        if not inside.any():
            yield f"region {index} is smaller than a pixel of the depth map, so its depth is not known; give depth of a higher resolution"
            continue
        rows, columns = slice(top, top + inside.shape[0]), slice(left, left + inside.shape[1])
        values = depth.values[rows, columns]
        share = float(np.isfinite(values[inside]).mean())
        at_end = 0.0 if depth.at_end is None else float(depth.at_end[rows, columns][inside].mean())
        if at_end > _MAX_AT_END:
            yield (
                f"region {index}: {at_end:.0%} of its pixels hold the largest value of the depth map's type and count as not measured; the "
                "scene may be farther than the map reaches, so write it in a coarser unit or as floats"
            )
        elif share < _MIN_MEASURED:
            yield f"region {index}: {share:.0%} of its pixels have a depth measurement; mark a part with more, or fill the holes"
        if share and depth.kind == "metric" and camera is not None:
            part = replace(camera, cx=camera.cx - left, cy=camera.cy - top, height=values.shape[0], width=values.shape[1])
            extent = float(visible_box(backproject(values, part, inside))[1][:2].max())
            if not _EXTENT_RANGE_M[0] <= extent <= _EXTENT_RANGE_M[1]:
                unit = f"with depth in the unit {depth.reading.unit}"
                yield f"region {index} would be {short(extent)} m large {unit}; check the unit and state it as depth_unit"


def _patch_at(region: Region, size: tuple[int, int]) -> tuple[np.ndarray, int, int]:
    """Return the part of a region's mask that holds it, at another size (height, width) of the image: bool (h, w), top and left.

    Of a mask of another size than ``size``, each pixel is that of the nearest pixel, and the part is the whole.
    """
    patch, top, left, *own = region.to_patch()
    if tuple(own) == size:
        return patch, top, left
    mask = region.to_mask()
    rows, columns = (((np.arange(new) + 0.5) * old / new).astype(int) for old, new in zip(mask.shape, size, strict=True))
    return mask[np.ix_(rows, columns)].astype(bool), 0, 0
