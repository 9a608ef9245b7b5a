"""Frame: one view of a scene, its image with depth and camera, and the one check of whether they and the regions fit together.

Every entrance (``ask``, rows, data sets, page, service, training) makes its frames here, so that the same input means the same everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from smolrgpt.data.geometry import ASPECT_TOLERANCE, same_aspect
from smolrgpt.data.loading import load_image, load_sample_depth
from smolrgpt.schema import Camera, DataError, DepthMap, Region, Sample
from smolrgpt.schema.inputs_read import InputsRead


@dataclass(frozen=True)
class Frame:
    """One view of a scene: an upright 8-bit RGB image, its depth map and its camera, where known.

    Raises:
        DataError: When the sides of the depth map have another ratio than the image's.
    """

    image: Image.Image
    depth: DepthMap | None = None
    camera: Camera | None = None

    def __post_init__(self) -> None:
        if self.depth is not None and not same_aspect(self.depth.values.shape, self.size):
            height, width = self.depth.values.shape
            raise DataError(
                f"the depth map is {width}x{height}, the image {self.image.width}x{self.image.height}: the sides' ratios differ by more "
                f"than {ASPECT_TOLERANCE:.0%}; expected depth of the same view, at any scale"
            )

    @classmethod
    def from_sample(cls, sample: Sample) -> Frame:
        """Read a sample's image and depth. Raises DataError naming the file."""
        return cls(load_image(sample), load_sample_depth(sample), sample.camera)

    @property
    def size(self) -> tuple[int, int]:
        """Size of the image: (height, width) in pixels."""
        return self.image.height, self.image.width

    def fit_region(self, name: str, region: Region) -> Region:
        """Return the region as one of this image.

        Raises DataError, calling the region ``name``, when it is empty or when its mask has another ratio of sides than the image.
        """
        height, width = region.size
        if not same_aspect(region.size, self.size):
            raise DataError(
                f"{name}: its mask is {width}x{height}, the image {self.image.width}x{self.image.height}; "
                "expected the whole image, at any scale"
            )
        if not region.area:
            raise DataError(f"{name}: its mask is empty; expected at least one pixel inside")
        return region

    def inputs_read(self, regions: Sequence[Region]) -> InputsRead:
        """Describe how depth and camera were read, and what is doubtful about them or about the regions of this image."""
        return InputsRead(None if self.depth is None else self.depth.reading, self.camera)
