"""Rules on measured points: the answer that boxes of visible points and one floor give, without learning.

They see what a model sees, regions, depth and camera, but are told what is asked (``category`` and ``kind`` of a frame's row) instead of
reading the question. Where a model is worse than they are, it loses what is measured.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np

from smolrgpt.data.geometry import backproject, visible_box
from smolrgpt.data.loading import load_sample_depth
from smolrgpt.data.measure import MarkedObject, measure_graph, object_points
from smolrgpt.model.floor import find_floor
from smolrgpt.schema import Answer, Camera, CameraPose, DataError, DepthMap, Region, Sample, SceneObject
from smolrgpt.tasks.distance import DISTANCE
from smolrgpt.tasks.side import LEFT_RIGHT
from smolrgpt.tasks.size import HEIGHT, WIDTH


class NotMeasurableError(Exception):
    """What is asked cannot be measured on this frame."""


class MeasuredFrame:
    """A frame whose regions are measured, each once.

    Args:
        sample: A question about the frame, whose depth is read. A missing camera is guessed.

    Raises:
        DataError: The depth cannot be read.
    """

    def __init__(self, sample: Sample):
        self.camera = sample.camera or Camera.guess(*sample.regions[0].size)
        self.depth = load_sample_depth(sample)
        is_metric = self.depth is not None and self.depth.kind == "metric"
        floor = find_floor(backproject(self.depth.values, self.camera).T) if self.depth is not None and is_metric else None
        self.pose = None if floor is None else CameraPose.above_plane(floor.up, floor.height_m)
        self.image_middle = functools.cache(_image_middle)
        self.middle = functools.cache(self._middle)
        self.on_floor = functools.cache(self._on_floor)

    def _middle(self, region: Region) -> np.ndarray:
        """Return the middle (3,) of the box of a region's points along the camera's axes. Raises NotMeasurableError."""
        points = object_points(_fitted(region, self._metric()), self._metric().values, self.camera, self.pose)
        if not len(points):
            raise NotMeasurableError
        return visible_box(points)[0]

    def _on_floor(self, region: Region) -> SceneObject:
        """Measure a region above the floor. Raises NotMeasurableError without one."""
        if self.pose is None:
            raise NotMeasurableError
        depth = self._metric()
        found = measure_graph([MarkedObject("", "", _fitted(region, depth))], depth, self.camera, self.pose).objects
        if not found:
            raise NotMeasurableError
        return found[0]

    def _metric(self) -> DepthMap:
        if self.depth is None or self.depth.kind != "metric":
            raise NotMeasurableError
        return self.depth

    def distance(self, first: Region, second: Region) -> float:
        """Return metres between two middles. Raises NotMeasurableError."""
        return float(np.linalg.norm(self.middle(first) - self.middle(second)))

    def camera_distance(self, region: Region) -> float:
        """Return metres from the camera to the middle of a region, or its median relative depth. Raises NotMeasurableError."""
        if self.depth is not None and self.depth.kind == "relative":
            values = self.depth.values[_fitted(region, self.depth).to_mask()]
            if np.isfinite(values).any():
                return float(np.nanmedian(values))
        return float(np.linalg.norm(self.middle(region)))

    def top(self, region: Region) -> float:
        """Return the height of a region's top above the floor. Raises NotMeasurableError."""
        item = self.on_floor(region)
        return float(item.center_m[2] + item.size_m[2] / 2)


def _image_middle(region: Region) -> np.ndarray:
    """Return the middle of a region's box in the image: (2,) column and row in pixels."""
    rows, columns = np.nonzero(region.to_mask())
    return np.array([columns.min() + columns.max(), rows.min() + rows.max()]) / 2


def _fitted(region: Region, depth: DepthMap) -> Region:
    """Return the region at the depth map's size, by the nearest pixel."""
    height, width = depth.values.shape
    if region.size == (height, width):
        return region
    rows, columns = (np.arange(to) * of // to for to, of in zip((height, width), region.size, strict=True))
    return Region.from_mask(region.to_mask()[np.ix_(rows, columns)])


class MeasuringPredictor:
    """Answers the questions of ``data.sources.frames`` by rules; an answer of None where there is no rule, or a measurement is missing."""

    def predict_samples(self, samples: Sequence[Sample], batch_size: int = 64) -> list[Answer]:
        """Return short answers as text and value. Raises DataError for a sample that is no question about a frame."""
        frame: MeasuredFrame | None = None
        key: Hashable = None
        answers = []
        for sample in samples:
            started = time.perf_counter()
            if "kind" not in sample.metadata or not sample.regions:
                raise DataError(f"sample {sample.id!r}: no kind of question or no region; the rules answer --benchmark frames only")
            if frame is None or sample.image_key != key:
                frame, key = MeasuredFrame(sample), sample.image_key
            value = _answer(frame, sample)
            answers.append(Answer(str(value), value, sample.category or "", time.perf_counter() - started, confidence=None))
        return answers


def _answer(frame: MeasuredFrame, sample: Sample) -> str | int | float | None:
    rule = RULES.get(sample.metadata["kind"], _no_rule)
    regions = dict(zip(sample.region_indices or range(len(sample.regions)), sample.regions, strict=True))
    try:
        return rule(frame, dict(sorted(regions.items())), sample)
    except NotMeasurableError:
        return None


# ------------------------------------------------------------------------------------------------------------------------- rules
Regions = Mapping[int, Region]
Rule = Callable[[MeasuredFrame, Regions, Sample], str | int | float | None]


def _smallest(regions: Regions, value: Callable[[Region], float]) -> str:
    return str(min(regions, key=lambda index: value(regions[index])))


def _side(frame: MeasuredFrame, regions: Regions, sample: Sample) -> str:
    return "left" if frame.image_middle(regions[0])[0] < frame.image_middle(regions[1])[0] else "right"


def _closest(frame: MeasuredFrame, regions: Regions, sample: Sample) -> str:
    """Return the region nearest to region 0; without metric depth, in the image."""
    others = {index: region for index, region in regions.items() if index}
    try:
        return _smallest(others, functools.partial(frame.distance, regions[0]))
    except NotMeasurableError:
        return _smallest(others, lambda region: float(np.linalg.norm(frame.image_middle(region) - frame.image_middle(regions[0]))))


def _inside(frame: MeasuredFrame, regions: Regions, sample: Sample) -> int:
    area = regions[0].to_mask()
    middles = [np.rint(frame.image_middle(region)).astype(int) for index, region in regions.items() if index]
    return sum(bool(area[row, column]) for column, row in middles)


def _within(frame: MeasuredFrame, regions: Regions, sample: Sample) -> int:
    limit = float(sample.metadata["threshold_m"])
    return sum(frame.distance(regions[0], region) < limit for index, region in regions.items() if index)


def _no_rule(frame: MeasuredFrame, regions: Regions, sample: Sample) -> None:
    raise NotMeasurableError


#: What is asked -> the rule; regions by index, 0 is what the others are compared with where the question names such a one.
RULES: dict[str, Rule] = {
    LEFT_RIGHT.name: _side,
    DISTANCE.name: lambda frame, regions, _: frame.distance(regions[0], regions[1]),
    HEIGHT.name: lambda frame, regions, _: frame.top(regions[0]),
    WIDTH.name: lambda frame, regions, _: max(frame.on_floor(regions[0]).size_m[:2]),
    "closest": _closest,
    "leftmost": lambda frame, regions, _: _smallest(regions, lambda region: float(frame.image_middle(region)[0])),
    "rightmost": lambda frame, regions, _: _smallest(regions, lambda region: -float(frame.image_middle(region)[0])),
    "camera": lambda frame, regions, _: _smallest(regions, frame.camera_distance),
    "tallest": lambda frame, regions, _: _smallest(regions, lambda region: -frame.top(region)),
    "inside": _inside,
    "within": _within,
}
