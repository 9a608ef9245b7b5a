"""Frame: one view of a scene, its image with depth and camera, and the one check of whether they and the regions fit together.

Every entrance (``ask``, rows, data sets, page, service, training) makes its frames here, so that the same input means the same everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from smolrgpt.data.depth_doubts import doubts_of_depth, doubts_of_measurements
from smolrgpt.data.geometry import ASPECT_TOLERANCE, same_aspect
from smolrgpt.data.loading import load_sample_depth, load_upright
from smolrgpt.schema import Camera, DataError, DepthMap, Region, Sample, naming
from smolrgpt.schema.image_file import QUARTER_TURNS, turn_upright
from smolrgpt.schema.inputs_read import InputsRead


@dataclass(frozen=True)
class Frame:
    """One view of a scene: an upright 8-bit RGB image, its depth map and its camera, where known.

    Attributes:
        image: Upright, 8-bit RGB.
        depth: Of the same view. A map of the stored pixels' shape is turned upright with them.
        camera: Intrinsics of the upright image, at any scale; those of the stored pixels are turned with them. Where metric depth has
            none, a usual camera is guessed.
        orientation: The EXIF orientation (1 to 8) of the image's stored pixels; 1: they were upright.

    Raises:
        DataError: When the sides of the depth map, or of the camera's image, have another ratio than the image's.
    """

    image: Image.Image
    depth: DepthMap | None = None
    camera: Camera | None = None
    orientation: int = 1

    def __post_init__(self) -> None:
        if self.depth is not None:
            object.__setattr__(self, "depth", self.fit_depth(self.depth))
        if self.camera is not None:
            object.__setattr__(self, "camera", fit_camera(self.camera, self.size, self.orientation))
        elif self.depth is not None and self.depth.kind == "metric":
            object.__setattr__(self, "camera", Camera.guess(*self.size))

    @classmethod
    def from_sample(cls, sample: Sample) -> Frame:
        """Read a sample's image and depth. Raises DataError naming the file."""
        image, orientation = load_upright(sample)
        with naming(sample.image_name):
            return cls(image, load_sample_depth(sample), sample.camera, orientation)

    @property
    def size(self) -> tuple[int, int]:
        """Size of the image: (height, width) in pixels."""
        return self.image.height, self.image.width

    def fit_depth(self, depth: DepthMap) -> DepthMap:
        """Return the depth map as one of the upright image. Raises DataError when its sides have another ratio than the image's."""
        height, width = depth.values.shape
        try:
            orientation = find_turn((height, width), self.size, self.orientation)
        except DataError as error:
            raise DataError(f"the depth map is {width}x{height}, {error}; expected depth of the same view, at any scale") from None
        if orientation == 1:
            return depth
        at_end = None if depth.at_end is None else turn_upright(depth.at_end, orientation)
        return replace(depth, values=turn_upright(depth.values, orientation), at_end=at_end)

    def fit_region(self, name: str, region: Region) -> Region:
        """Return the region as one of the upright image.

        Raises DataError, calling the region ``name``, when it is empty or when its mask has another ratio of sides than the image.
        """
        return fit_region(name, region, self.size, self.orientation)

    def read_region(self, name: str, value: Any) -> Region:
        """Read a region of this image from any form (see ``Region.from_any``). Raises DataError, calling the region ``name``."""
        with naming(name):
            region = Region.from_any(value, *self.size)
        return self.fit_region(name, region)

    def inputs_read(self, regions: Sequence[Region], asks_length: bool = False, has_boxes: bool = False) -> InputsRead:
        """Describe how depth and camera were read, and what is doubtful about them or about the regions of this image.

        asks_length: whether a question asks for a length in metres; has_boxes: whether regions came as coordinates, which have no size that
        tells whether they count upright or stored pixels.
        """
        doubts = [
            *(doubts_of_depth(self.depth, self.size, asks_length) if self.depth is not None else ()),
            *(self.camera.doubts() if self.camera is not None else ()),
            *self._orientation_doubts(regions, has_boxes),
            *(f"region {index}: {doubt}" for index, region in enumerate(regions) for doubt in region.doubts()),
            *(doubts_of_measurements(self.depth, self.camera, regions) if self.depth is not None else ()),
        ]
        return InputsRead(None if self.depth is None else self.depth.reading, self.camera, tuple(doubts))

    def _orientation_doubts(self, regions: Sequence[Region], has_boxes: bool) -> list[str]:
        """Say where sizes cannot tell whether depth and regions were made on the upright image or on its stored pixels."""
        if self.orientation == 1 or not (regions or self.depth):
            return []
        about = f"the image is turned upright by its EXIF orientation {self.orientation}, and"
        height, width = self.size
        if self.orientation not in QUARTER_TURNS or same_aspect((width, height), self.size):
            return [f"{about} the sizes do not tell whether depth and regions are; check that they were not made on the stored pixels"]
        if has_boxes:
            return [f"{about} a box does not tell whether it is; check that it was measured on the upright {width}x{height} pixels"]
        return []


def fit_region(name: str, region: Region, size: tuple[int, int], orientation: int = 1) -> Region:
    """Return a region as one of an upright image of ``size`` (height, width), whose stored pixels have this EXIF orientation.

    A mask that was made on the stored pixels is turned with them. Raises DataError, calling the region ``name``, when it is empty or when
    its mask has another ratio of sides than the image.
    """
    height, width = region.size
    try:
        turn = find_turn(region.size, size, orientation)
    except DataError as error:
        raise DataError(f"{name}: its mask is {width}x{height}, {error}; expected the whole image, at any scale") from None
    if not region.area:
        raise DataError(f"{name}: its mask is empty; expected at least one pixel inside")
    return region if turn == 1 else region.turned(turn)


def fit_camera(camera: Camera, size: tuple[int, int], orientation: int = 1) -> Camera:
    """Return a camera as one of an upright image of ``size`` (height, width), whose stored pixels have this EXIF orientation.

    Raises DataError when its image has another ratio of sides.
    """
    try:
        turn = find_turn((camera.height, camera.width), size, orientation)
    except DataError as error:
        is_turned = same_aspect((camera.width, camera.height), size)
        hint = "exchange fx and fy, cx and cy, width and height if it was turned by a quarter" if is_turned else "is one of them cropped?"
        message = f"the camera is of {camera.width}x{camera.height}, {error}; expected the camera of this view, at any scale ({hint})"
        raise DataError(message) from None
    return camera if turn == 1 else camera.turned(turn)


def find_turn(size: tuple[int, int], image_size: tuple[int, int], orientation: int) -> int:
    """Return the EXIF orientation by which a map or mask of ``size`` has to be turned to lie on the upright image; 1: it does already.

    Sizes are (height, width); ``orientation`` is that of the image's stored pixels. Raises DataError when the map has the sides of neither
    the upright nor the stored image.
    """
    if same_aspect(size, image_size):
        return 1
    if orientation in QUARTER_TURNS and same_aspect(size[::-1], image_size):
        return orientation
    height, width = image_size
    stored = f" (stored as {height}x{width})" if orientation in QUARTER_TURNS else ""
    raise DataError(f"the image {width}x{height}{stored}: the sides' ratios differ by more than {ASPECT_TOLERANCE:.0%}")
